import csv
from pathlib import Path
from typing import Any

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.training.records import COLUMNS, CURVE_COLUMNS, read_record, write_curve, write_record, write_runs

RECORD = {"run": "a", "scheme": "b1.58", "curve": [{"step": 1, "loss": 2.5}], "versions": {"torch": "2.13.0"}}


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as text:
        return list(csv.DictReader(text))


def test_runs_are_the_records(tmp_path: Path) -> None:
    for name, loss in (("b", 2.0), ("a", 3.0)):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, RECORD | {"run": name, "held_out_loss": loss})
    found = rows(tmp_path / "runs.csv")
    assert [(row["run"], row["held_out_loss"], row["torch"]) for row in found] == [
        ("a", "3.0", "2.13.0"),
        ("b", "2.0", "2.13.0"),
    ]
    assert tuple(found[0]) == COLUMNS
    (tmp_path / "a" / "record.json").unlink()
    write_runs(tmp_path)
    assert [row["run"] for row in rows(tmp_path / "runs.csv")] == ["b"]


def test_curve(tmp_path: Path) -> None:
    write_curve(tmp_path, [{"step": 1, "tokens": 10, "loss": 1.5}, {"step": 2, "tokens": 20, "held_out_loss": 1.25}])
    found = rows(tmp_path / "curve.csv")
    assert tuple(found[0]) == CURVE_COLUMNS
    assert [(row["loss"], row["held_out_loss"]) for row in found] == [("1.5", ""), ("", "1.25")]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run": "a"}', "\xff"])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(BitsimError, match=r"record\.json: expected the record of a run"):
        read_record(file)


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_what_cannot_be_a_record_is_not_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError)):
        write_record(tmp_path, {**RECORD, "train_loss": value})
    assert not list(tmp_path.iterdir())
