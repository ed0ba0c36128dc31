"""The smaller commands print what they say, in each format."""

import csv
import io
import json
from collections.abc import Callable

import pytest
from click.testing import Result

Run = Callable[..., Result]

PRINTING = [
    ("fit-check", "--hardware", "m2", "--model", "llama-3-8b"),
    ("hardware", "list"),
    ("hardware", "show", "a100-80gb"),
    ("tables", "list"),
    ("tables", "show", "op_energy"),
    ("tables", "show", "published/ratios"),
    ("cite", "jouppi2021"),
    ("validate", "--group", "ratios"),
    ("validate", "--group", "arithmetic", "--summary"),
]


@pytest.mark.parametrize("args", PRINTING, ids=" ".join)
def test_formats_hold_the_same_rows(bitsim: Run, args: tuple[str, ...]) -> None:
    as_json = json.loads(bitsim(*args, "--format", "json").stdout)
    as_csv = list(csv.DictReader(io.StringIO(bitsim(*args, "--format", "csv").stdout)))
    markdown = bitsim(*args, "--format", "markdown").stdout.splitlines()
    assert len(as_json) == len(as_csv) == len(markdown) - 2 > 0
    assert list(as_json[0]) == list(as_csv[0])
    assert bitsim(*args).exit_code == 0


def test_every_value_of_a_machine_shows_its_source(bitsim: Run) -> None:
    rows = json.loads(bitsim("hardware", "show", "m2-ultra", "--format", "json").stdout)
    assert all(row["source"] and row["locator"] and row["status"] for row in rows)


def test_cite_prints_the_reference(bitsim: Run) -> None:
    assert "Ten Lessons" in bitsim("cite", "jouppi2021").stdout
    assert len(bitsim("cite").stdout.splitlines()) > 50


def test_validate_recomputes_every_group(bitsim: Run) -> None:
    rows = json.loads(bitsim("validate", "--format", "json").stdout)
    groups = {row["group"].split(":")[0] for row in rows}
    expected = {
        "arithmetic energy",
        "ratios",
        "memory",
        "parameter counts",
        "decode speed",
        "energy per token",
        "serving",
    }
    assert expected <= groups
    assert all(row["source"] for row in rows)
    assert not [row for row in rows if row["within"] is False]


def test_sweep_is_csv_on_standard_output(bitsim: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(bitsim("sweep", "--size", "1B", "--batch", "1,4").stdout)))
    assert [(row["scheme"], row["batch"]) for row in rows] == [
        ("fp16", "1"),
        ("fp16", "4"),
        ("b1.58", "1"),
        ("b1.58", "4"),
    ]


def test_sweep_pareto_keeps_the_unbeaten(bitsim: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(bitsim("sweep", "--size", "7B", "--batch", "1:64:*2", "--pareto").stdout)))
    assert rows
    assert {row["scheme"] for row in rows} == {"b1.58"}  # less energy, time and memory than fp16 at every batch


def test_version(bitsim: Run) -> None:
    assert bitsim("--version").stdout.startswith("bitsim, version ")
