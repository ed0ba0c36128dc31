"""`bitsim ladder` on a screen and for other programs."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bitsim.energy_tables import BitsimError

pytest.importorskip("torch")

Run = Callable[..., Result]
RECORD = {
    "parameters": 107_648, "non_embedding": 92_160, "tokens": 6144, "bits_per_byte": 3.25, "tokens_per_s": 1234.5,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command asks for; nothing is trained, and runs of b1 fail."""
    from bitsim.training import ladder
    from bitsim.training.ladder import Rung

    requests: list[Any] = []

    def climb(wanted: Sequence[Any], means: Any, executor: str, hears: Callable[[str, str], None]) -> Iterator[Rung]:
        requests.extend(wanted)
        for request in reversed(wanted):  # as it may be on a cluster
            hears(request.name, "step 1 of 12, loss 5.700")
            if request.scheme == "b1":
                yield Rung(request, None, f"{request.name}: died")
            else:
                what = {"run": request.name, "scheme": request.scheme, "size": request.size}
                yield Rung(request, {**RECORD, **what, "held_out_loss": len(requests) + 0.5})

    monkeypatch.setattr(ladder, "climb", climb)
    return requests


def test_table(bitsim: Run, asked: list[Any]) -> None:
    result = bitsim("ladder", "--sizes", "100K,150K", "--schemes", "fp16,b1.58", "--data", "here")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [(request.size, request.scheme) for request in asked] == [
        ("100K", "fp16"), ("100K", "b1.58"), ("150K", "fp16"), ("150K", "b1.58"),
    ]  # fmt: skip
    assert {request.data for request in asked} == {"here"}
    rows = [line.split() for line in result.stdout.splitlines()]
    assert " ".join(rows[0]).startswith("scheme size parameters without embedding tokens held-out nats bits per byte")
    assert rows[2][:8] == ["fp16", "100K", "107,648", "92,160", "6,144", "4.5000", "3.2500", "1,234"]
    assert [row[:2] for row in rows[2:]] == [["fp16", "100K"], ["b1.58", "100K"], ["fp16", "150K"], ["b1.58", "150K"]]


def test_json_and_csv(bitsim: Run, asked: list[Any]) -> None:
    result = bitsim("ladder", "--sizes", "100K", "--schemes", "fp16,b1.58", "--format", "json")
    records = json.loads(result.stdout)
    assert [record["run"] for record in records] == [request.name for request in asked]
    result = bitsim("ladder", "--sizes", "100K", "--schemes", "fp16,b1.58", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["scheme"] for row in rows] == ["fp16", "b1.58"]
    assert float(rows[0]["tokens_per_s"]) == 1234.5


def test_each_failure_is_a_line(bitsim: Run, asked: list[Any]) -> None:
    result = bitsim("ladder", "--sizes", "100K,150K", "--schemes", "b1,fp16", "--format", "json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)) == 2
    names = [request.name for request in asked if request.scheme == "b1"]
    assert result.stderr.splitlines() == [f"Error: {name}: died" for name in names]


def test_names_that_come_twice_count_once(bitsim: Run, asked: list[Any]) -> None:
    assert bitsim("ladder", "--sizes", "100K, 100K,", "--schemes", "fp16,fp16").exit_code == 0
    assert len(asked) == 1


def test_stopped(bitsim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsim.training import ladder

    def climb(*others: Any) -> Iterator[Any]:
        raise BitsimError("x: stopped; the same ladder goes on with it")
        yield

    monkeypatch.setattr(ladder, "climb", climb)
    result = bitsim("ladder", "--sizes", "100K")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: x: stopped; the same ladder goes on with it\n"


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("--schemes", "fp16,b1.57"), 2, "--schemes: expected some of fp16, b1.58, b1.58a4, b1, bf16, fp32, got"),
        (("--schemes", ","), 2, "--schemes: expected names, by commas, got nothing"),
        (("--sizes", ""), 2, "--sizes: expected names, by commas, got nothing"),
        (("--executor", "slurm"), 2, "'slurm' is not one of 'local', 'ray'"),
    ],
)  # fmt: skip
def test_wrong_options(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    result = bitsim("ladder", *args)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_help_shows_how(bitsim: Run) -> None:
    result = bitsim("ladder", "--help")
    assert result.exit_code == 0
    assert "$ bitsim ladder --data corpus" in result.stdout


@pytest.mark.slow
def test_a_real_one(bitsim: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    lines = [{"text": f"Number {n} comes after {n - 1} and before {n + 1}."} for n in range(1, 400)]
    text.write_text("\n".join(json.dumps(line) for line in lines))
    args = [
        "ladder", "--sizes", "100K", "--schemes", "fp16,b1.58", "--data", str(text), "--tokens", "2K",
        "--batch-tokens", "512", "--context", "64", "--vocab", "300", "--precision", "fp32",
        "--output", str(tmp_path / "runs"), "--format", "json",
    ]  # fmt: skip
    result = bitsim(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = json.loads(result.stdout)
    assert (first["scheme"], second["scheme"]) == ("fp16", "b1.58")
    assert first["hyper_parameters"] == second["hyper_parameters"]
    assert first["steps"] == second["steps"]
    assert bitsim(*args).stdout == result.stdout  # from the records
