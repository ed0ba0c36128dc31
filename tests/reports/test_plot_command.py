"""`bitsim plot`: pictures of all kinds, their numbers as CSV, and what is said where it can't."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bitsim.reports.cli import cli
from bitsim.reports.figures import FIGURES
from bitsim.simulator import estimate

Run = Callable[..., Result]
STARTS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture
def bitsim() -> Run:
    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return run


@pytest.mark.parametrize("args", [["plot"], ["plot", "--list"]])
def test_without_a_name_the_figures_are_listed(bitsim: Run, args: list[str]) -> None:
    result = bitsim(*args)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == list(FIGURES)
    assert all(FIGURES[line.split()[0]].title in line for line in lines)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_figure_is_written_and_is_the_same_bytes_each_time(bitsim: Run, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"energy.{kind}"
    found = []
    for _ in range(2):
        result = bitsim("plot", "energy-parts", "--size", "7B", "-o", path)
        assert (result.exit_code, result.output) == (0, "")
        found.append(path.read_bytes())
    assert found[0] == found[1]
    assert found[0].startswith(STARTS[kind])


def test_data_are_the_figures_numbers(bitsim: Run, tmp_path: Path) -> None:
    args = ["plot", "energy-parts", "--size", "7B", "--hardware", "m2", "--data"]
    printed = bitsim(*args)
    assert printed.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(printed.output)))
    total = next(row for row in rows if row["part"] == "total" and row["scheme"] == "b1.58")
    expected = estimate("7B", "b1.58", "m2").token_energy_j["total"].mid
    assert float(total["energy_j_per_new_token"]) == expected
    path = tmp_path / "numbers.csv"
    assert bitsim(*args, "-o", path).exit_code == 0
    assert path.read_text(encoding="utf-8") == printed.output


def test_the_workload_counts(bitsim: Run) -> None:
    args = [
        "plot",
        "latency-parts",
        "--size",
        "7B",
        "--scheme",
        "fp16",
        "--batch",
        "4",
        "--prompt-tokens",
        "64",
        "--data",
    ]
    rows = list(csv.DictReader(io.StringIO(bitsim(*args).output)))
    assert {row["sequences"] for row in rows} == {"4"}
    assert {row["tokens_per_sequence"] for row in rows} == {"64", "1"}
    assert {row["scheme"] for row in rows} == {"fp16"}


def test_figures_of_no_model_need_none(bitsim: Run, tmp_path: Path) -> None:
    result = bitsim("plot", "validation", "--data")
    assert result.exit_code == 0
    assert result.output.startswith("group,id,what,published,predicted,unit")


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["energy-part", "-o", "x.svg"], 1, "did you mean 'energy-parts'?"),
        (["energy-part", "--size", "7B"], 1, "did you mean 'energy-parts'?"),
        (["zzz", "-o", "x.svg"], 1, "known: energy-parts"),
        (["energy-parts", "--size", "7B", "-o", "x.gif"], 1, "expected a name that ends in .png, .pdf, .svg"),
        (["energy-parts", "--size", "7B"], 2, "give --output"),
        (["energy-parts", "-o", "x.svg"], 2, "energy-parts: give --size or --model"),
        (["energy-parts", "--size", "7B", "--model", "m", "-o", "x.svg"], 2, "give one of --size and --model"),
        (["energy-parts", "--size", "7B", "--data", "-o", "x.svg"], 2, "expected a file ending in .csv with --data"),
        (["energy-parts", "--size", "7B", "--hardware", "m3", "-o", "x.svg"], 1, "unknown hardware 'm3'"),
        (["energy-parts", "--size", "7B", "--scheme", "b1.59", "-o", "x.svg"], 1, "b1.59"),
        (["curves", "-o", "x.svg"], 1, "--runs: expected a runs.csv"),
        (["measured", "--size", "7B", "-o", "x.svg"], 1, "--measured: expected the JSON of bitsim bench"),
        (["--data"], 2, "NAME: expected the name of a figure"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    bitsim: Run, args: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bitsim("plot", *args)
    assert result.exit_code == status
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
