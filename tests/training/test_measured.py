"""Runs are read from runs.csv or refused in one line that names file, line and field."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.training.measured import Measured, read_runs
from bitsim.training.records import COLUMNS, RECORD, write_record, write_runs

HEADER = "run,scheme,parameters,non_embedding,tokens,seed,held_out_loss,energy_j,data_hash"
ROWS = (
    "a,fp16,400000,300000,6000000,0,3.5,10,x",
    "b,fp16,800000,600000,12000000,0,3.2,30,x",
    "c,b1.58,400000,300000,6000000,0,3.7,12,x",
    "d,b1.58,800000,600000,12000000,0,3.4,,x",
)


def runs(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_runs_are_read(tmp_path: Path) -> None:
    points = read_runs(runs(tmp_path, *ROWS))
    assert points.kinds == ("fp16", "b1.58")
    assert points.parameters.tolist() == [300000, 600000, 300000, 600000]
    assert points.values.tolist() == [3.5, 3.2, 3.7, 3.4]
    assert points.tokens is not None
    assert points.tokens.tolist() == [6e6, 12e6, 6e6, 12e6]
    assert points.warnings == ()
    assert read_runs(runs(tmp_path, *ROWS), size="parameters").parameters[1] == 800000
    assert read_runs(runs(tmp_path, *ROWS[:3]), metric="energy_j").values.tolist() == [10, 30, 12]


def test_what_training_records_is_read(tmp_path: Path) -> None:
    for name, size in (("a", 1000), ("b", 2000)):
        (tmp_path / name).mkdir()
        record = {"run": name, "scheme": "fp16", "curve": [], "seed": 0, "held_out_loss": 3.0, "tokens": 10_000}
        write_record(tmp_path / name, record | {"non_embedding": size})
        assert (tmp_path / name / RECORD).exists()
    write_runs(tmp_path)
    assert set(HEADER.split(",")) <= set(COLUMNS)
    assert read_runs(tmp_path / "runs.csv").parameters.tolist() == [1000, 2000]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("3.2", "-3.2", "held_out_loss: expected a finite number above 0, got '-3.2'"),
        ("3.2", "0", "held_out_loss: expected a finite number above 0, got '0'"),
        ("3.2", "nan", "held_out_loss: expected a finite number above 0, got 'nan'"),
        ("3.2", "inf", "held_out_loss: expected a finite number above 0, got 'inf'"),
        ("3.2", "", "held_out_loss: expected a finite number above 0, got nothing"),
        ("3.2", "low", "held_out_loss: expected a finite number above 0, got 'low'"),
        ("600000", "0", "non_embedding: expected a finite number above 0, got '0'"),
        ("12000000", "many", "tokens: expected a finite number above 0, got 'many'"),
        ("fp16", "", "scheme: expected some text, got nothing"),
        (",0,", ",,", "seed: expected some text, got nothing"),
        (",x", "", "expected 9 cells, got 8"),
        (
            "b,fp16,800000,600000,12000000",
            "a,fp16,400000,300000,6000000",
            "expected each run once, got scheme fp16, 300,000 parameters",
        ),
        ("b,", '"b"b,', "expected CSV, got a damaged line"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(tmp_path: Path, old: str, new: str, field: str) -> None:
    path = runs(tmp_path, ROWS[0], ROWS[1].replace(old, new, 1), *ROWS[2:])
    message = refusal(lambda: read_runs(path)) or ""
    assert message.startswith(f"{path}:3: {field}")


def test_files_that_hold_no_ladder(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    assert refusal(lambda: read_runs(path)) == f"{path}: no such file"
    assert "got 1 of 300,000 non_embedding" in (refusal(lambda: read_runs(runs(tmp_path, ROWS[0]))) or "")
    assert "expected a line for each run, got none" in (refusal(lambda: read_runs(runs(tmp_path))) or "")
    missing = runs(tmp_path, *ROWS, header=HEADER.replace("held_out_loss", "heldout_loss"))
    assert (refusal(lambda: read_runs(missing)) or "").endswith(
        ":1: expected the columns scheme, non_embedding, tokens, seed, held_out_loss; missing held_out_loss;"
        " did you mean 'heldout_loss'?"
    )
    assert "missing bits_per_byte" in (refusal(lambda: read_runs(runs(tmp_path, *ROWS), "bits_per_byte")) or "")
    assert (refusal(lambda: read_runs(runs(tmp_path, *ROWS), size="hidden")) or "").startswith("size: expected one of")
    path.write_bytes(b"\xff\xfe\x00")
    assert "expected UTF-8 text" in (refusal(lambda: read_runs(path)) or "")
    path.write_text("{}")
    assert "missing scheme" in (refusal(lambda: read_runs(path)) or "")


def test_runs_of_different_data_are_warned_of(tmp_path: Path) -> None:
    points = read_runs(runs(tmp_path, ROWS[0], ROWS[1].replace(",x", ",y")))
    assert "runs of different data (column data_hash): their losses can't be compared" in points.warnings[0]


def test_any_cells_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, number = tmp_path_factory.mktemp("cells"), itertools.count()
    quoted = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda text: '"' + text.replace('"', '""') + '"')

    @given(st.integers(0, 8), quoted | st.floats().map(str) | st.integers().map(str))
    def check(column: int, cell: str) -> None:
        cells = ROWS[1].split(",")
        cells[column] = cell
        path = folder / f"{next(number)}.csv"
        path.write_text("\n".join([HEADER, ROWS[0], ",".join(cells)]), encoding="utf-8", newline="")
        refusal(lambda: read_runs(path))

    check()


def test_sequences_that_are_no_points_are_refused() -> None:
    assert refusal(lambda: Measured.of([1.0, 2.0], [1.0])) == "loss: expected one number for each of 2 points"
    assert refusal(lambda: Measured.of([1.0, 2.0], [1.0, 0.0])) == "loss: expected finite numbers above 0, got 0"
    assert refusal(lambda: Measured.of(1.0, 2.0)) == "parameters: expected one number for each of 0 points"
    assert (
        refusal(lambda: Measured.of([1.0], [1.0], schemes=["a", "b"]))
        == "schemes: expected one for each of 1 points, got 2"
    )
