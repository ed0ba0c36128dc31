"""Reading of table files: what is wrong is named by file, line and field, whatever the file holds."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.records import MAX_FILE_BYTES, Record, read_csv, read_text, read_toml

PROVENANCE = {"source": "a b", "locator": "Table 1", "status": "seen", "note": ""}


def record(**cells: Any) -> Record:
    return Record(Path("table.csv"), 7, cells)


def cells_of(path: Path) -> list[dict[str, Any]]:
    return read_csv(path, ("name", "value"), lambda row: dict(row.cells))


@pytest.mark.parametrize(
    ("read", "cell", "expected"),
    [
        (Record.text, "", "some text, got nothing"),
        (Record.text, "  ", "some text, got '  '"),
        (Record.text, 5, "some text, got '5'"),
        (Record.number, "", "a finite number >= 0, got nothing"),
        (Record.number, "abc", "a finite number >= 0, got 'abc'"),
        (Record.number, "-1", "a finite number >= 0, got '-1'"),
        (Record.number, "nan", "a finite number >= 0, got 'nan'"),
        (Record.number, "inf", "a finite number >= 0, got 'inf'"),
        (Record.number, "1e999", "a finite number >= 0, got '1e999'"),
        (Record.number, True, "a finite number >= 0, got 'True'"),
        (Record.number, [1], "a finite number >= 0, got '[1]'"),
        pytest.param(Record.number, 10**400, "a finite number >= 0, got '1000", id="number of 401 digits"),
        (Record.integer, "1.5", "a whole number >= 1, got '1.5'"),
        (Record.integer, "0", "number >= 1, got '0'"),
        pytest.param(Record.integer, 10**400, "number >= 1, got '1000", id="integer of 401 digits"),
        (Record.boolean, "yes", "true or false, got 'yes'"),
        (Record.boolean, 1, "true or false, got '1'"),
    ],
)
def test_a_wrong_cell_is_named_with_file_line_and_what_was_expected(
    read: Callable[[Record, str], object], cell: Any, expected: str
) -> None:
    message = refusal(lambda: read(record(field=cell), "field"))
    assert message is not None
    assert message.startswith("table.csv:7: field: expected ")
    assert expected in message


def test_a_word_outside_the_choices_is_refused_with_the_choices() -> None:
    assert (
        refusal(lambda: record(kind="gpo").choice("kind", ("cpu", "gpu")))
        == "table.csv:7: kind: expected one of cpu, gpu, got 'gpo'"
    )


def test_cells_are_read_by_kind() -> None:
    row = record(text=" a ", number="1.5e3", whole="3.0", flag="true", native=False, empty="")
    assert row.text("text") == "a"
    assert row.number("number") == 1500.0
    assert row.integer("whole") == 3
    assert (row.boolean("flag"), row.boolean("native")) == (True, False)
    assert row.optional_number("empty") is None
    assert row.optional_number("not there") is None


def test_an_empty_end_of_a_range_repeats_the_middle() -> None:
    assert list(record(low="", mid="2", high="3").interval("low", "mid", "high")) == [2.0, 2.0, 3.0]
    assert list(record(mid="2").interval("low", "mid", "high")) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("low", "mid", "high"), [("3", "2", "4"), ("1", "5", "4"), ("4", "", "2")])
def test_a_range_out_of_order_is_refused(low: str, mid: str, high: str) -> None:
    message = refusal(lambda: record(low=low, mid=mid, high=high).interval("low", "mid", "high"))
    assert message is not None
    assert message.startswith("table.csv:7: mid: expected ")


@pytest.mark.parametrize("field", ["source", "locator", "status"])
def test_a_row_without_provenance_is_refused(field: str) -> None:
    message = refusal(lambda: record(**PROVENANCE | {field: ""}).provenance())
    assert message is not None
    assert message.startswith(f"table.csv:7: {field}: expected ")


def test_provenance_splits_its_sources() -> None:
    provenance = record(**PROVENANCE).provenance()
    assert provenance.sources == ("a", "b")
    assert (provenance.locator, provenance.status, provenance.note) == ("Table 1", "seen", "")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: read_text(tmp_path / "no.csv")) == f"{tmp_path / 'no.csv'}: no such file"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: read_text(tmp_path)) is not None


@pytest.mark.parametrize("name", ["a\0b.csv", "x" * 5000 + ".csv", "a\nb.csv"])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    assert refusal(lambda: read_text(Path(name))) is not None


def test_a_file_of_17_mib_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"\x00" * (17 * 1024**2))
    assert path.stat().st_size > MAX_FILE_BYTES
    assert "expected a text file of at most 16 MiB, got 17,825,792 bytes" in (refusal(lambda: read_text(path)) or "")


def test_what_is_not_utf8_is_refused_with_byte_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin1.csv"
    path.write_bytes(b"na\xefve")
    assert (refusal(lambda: read_text(path)) or "").endswith("expected UTF-8 text, got byte 0xef at offset 2")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_bytes(b"\xef\xbb\xbfvalue,name\r\n1,a\r\n\r\n2,b\r\n")
    assert cells_of(path) == [{"value": "1", "name": "a"}, {"value": "2", "name": "b"}]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 1, "missing name, value"),
        ("name\na\n", 1, "missing value"),
        ("name,value,colour\na,1,red\n", 1, "unknown colour"),
        ("name,value,name\na,1,b\n", 1, "twice"),
        ("name,value\na,1\nb\n", 3, "expected 2 cells, got 1"),
        ("name,value\na,1,2\n", 2, "expected 2 cells, got 3"),
        ('name,value\na,"1\n', 2, "expected CSV, got a damaged line"),
        ('name,value\na,"1"2\n', 2, "expected CSV, got a damaged line"),
        ('name,value,"x\ny"\n', 1, "unknown"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, text: str, line: int, expected: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    message = refusal(lambda: cells_of(path)) or ""
    assert message.startswith(f"{path}:{line}: ")
    assert expected in message


@pytest.mark.parametrize(
    "text", ["a = ", "a = 1\na = 2", "[a", "a = " + "[" * 5000, "= 1", "a = 1 b = 2", "a = 1" + "0" * 5000]
)
def test_damaged_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(re.sub(r"(.)\.\.\.", r"\1" * 5000, text), encoding="utf-8")  # a... is a, 5,000 times
    assert (refusal(lambda: read_toml(path)) or "").startswith(f"{path}: expected TOML, got ")


def test_toml_keys_know_their_line(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text("# first\na = 1\n\n[b]\nc = 2\n", encoding="utf-8")
    values, line_of = read_toml(path)
    assert values == {"a": 1, "b": {"c": 2}}
    assert (line_of("a"), line_of("b")) == (2, 4)


@pytest.mark.parametrize("read", [cells_of, read_toml])
def test_any_bytes_are_read_or_refused_in_one_line(
    read: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, number = tmp_path_factory.mktemp("bytes"), itertools.count()

    @given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
    def check(content: bytes) -> None:
        path = folder / str(next(number))
        path.write_bytes(content)
        refusal(lambda: read(path))

    check()


def test_the_error_is_the_one_that_the_command_line_prints() -> None:
    assert issubclass(BitsimError, Exception)
    assert not issubclass(BitsimError, (ValueError, OSError, KeyError))
