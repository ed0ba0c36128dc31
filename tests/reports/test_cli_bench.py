"""bitsim bench: its JSON is what was agreed, its numbers fit each other, and wrong arguments are said in a line."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from bitsim.runtime import measure

Run = Callable[..., Result]
SMALL = ("bench", "--kernels", "--shape", "64x90", "--rows", "1,3", "--threads", "1,2", "--rounds", "1")


@pytest.fixture(autouse=True)
def small_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "working_set", lambda: 1 << 20)
    monkeypatch.setattr(measure, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def result(bitsim: Run) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "working_set", lambda: 1 << 20)
        patch.setattr(measure, "SECONDS", 0.0)
        return json.loads(bitsim(*SMALL, "--format", "json").stdout)


def test_json_keeps_the_contract(result: Any) -> None:
    machine = result["machine"]
    assert {"cpu", "isa", "kernel", "read_bandwidth_bytes_per_s"} <= set(machine)
    assert list(machine["read_bandwidth_bytes_per_s"]) == ["1", "2"]
    expected = ["kernel", "packing", "shape", "rows", "threads", "where", "seconds", "weights_per_s"]
    expected += ["products_per_s", "packed_bytes_per_s", "fraction_of_read_bandwidth"]
    assert all(list(row) == expected for row in result["results"])
    assert machine["kernel"] in {row["kernel"] for row in result["results"]}


def test_one_row_is_timed_from_memory_and_cache_and_several_from_cache(result: Any) -> None:
    cases = {(row["kernel"], row["rows"], row["threads"], row["where"]) for row in result["results"]}
    ours = result["machine"]["kernel"]
    assert {case[1:] for case in cases if case[0] == ours} == {
        (rows, threads, where) for rows, where in ((1, "dram"), (1, "cache"), (3, "cache")) for threads in (1, 2)
    }


def test_rates_are_the_time_turned_round(result: Any) -> None:
    for row in result["results"]:
        weights = row["shape"][0] * row["shape"][1]
        assert row["weights_per_s"] == pytest.approx(weights / row["seconds"])
        assert row["products_per_s"] == pytest.approx(row["rows"] * row["weights_per_s"])
        read = result["machine"]["read_bandwidth_bytes_per_s"][str(row["threads"])]
        assert row["fraction_of_read_bandwidth"] == pytest.approx(row["packed_bytes_per_s"] / read)


def test_the_other_formats_hold_the_same_rows(bitsim: Run, result: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(bitsim(*SMALL, "--format", "csv").stdout)))
    assert [row["kernel"] for row in rows] == [row["kernel"] for row in result["results"]]
    screen = bitsim(*SMALL).stdout
    assert f"{result['machine']['kernel']} kernel" in screen
    assert "memory is read at" in screen


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ((), 2, "say what to time: --kernels"),
        (("--kernels", "--shape", "12"), 2, "expected ROWSxCOLUMNS such as 2560x6912, got '12'"),
        (("--kernels", "--shape", "0x5"), 2, "expected ROWSxCOLUMNS"),
        (("--kernels", "--rows", "0"), 2, "expected 1 to"),
        (("--kernels", "--threads", "0"), 2, "expected 1 to 1024"),
        (("--kernels", "--threads", "two"), 2, "expected numbers such as 1,2,8"),
        (("--kernels", "--kernel", "portabel"), 1, "--kernel: expected one of"),
    ],
)
def test_wrong_arguments(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    outcome = bitsim("bench", *args)
    assert outcome.exit_code == status
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_the_variable_chooses_the_kernel(bitsim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITSIM_KERNEL", "portable")
    assert json.loads(bitsim(*SMALL, "--format", "json").stdout)["machine"]["kernel"] == "portable"
    monkeypatch.setenv("BITSIM_KERNEL", "fastest")
    outcome = bitsim(*SMALL)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: BITSIM_KERNEL: expected one of")
