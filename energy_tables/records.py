"""Reading table files cell by cell, so that each error names the file, the line, the field and what was expected."""

import csv
import io
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import BitsimError, shown
from .interval import Interval
from .units import MIB

STATUSES = ("seen", "secondary", "recalled", "derived", "assumed")
PROVENANCE_COLUMNS = ("source", "locator", "status", "note")
MAX_FILE_BYTES = 16 * MIB  # a table or a config.json is some kilobytes; anything larger is not one

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a number comes from: source keys (`sources.csv`), place in the source, how it was seen."""

    sources: tuple[str, ...]
    locator: str
    status: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The named cells of one line of a file."""

    path: Path
    line: int
    cells: Mapping[str, Any]

    def error(self, field: str, expected: str) -> BitsimError:
        """Make the error for one cell."""
        got = self.cells.get(field)
        what = "nothing" if got is None or got == "" else f"'{shown(got)}'"
        return BitsimError(f"{self.path}:{self.line}: {field}: expected {expected}, got {what}")

    def text(self, field: str) -> str:
        """Return a cell that must not be empty."""
        value = self.cells.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "some text")
        return value.strip()

    def choice(self, field: str, choices: Sequence[str]) -> str:
        """Return a cell that must be one of a few words."""
        value = self.text(field)
        if value not in choices:
            raise self.error(field, "one of " + ", ".join(choices))
        return value

    def optional_number(self, field: str, minimum: float = 0.0) -> float | None:
        """Return a finite number >= minimum, or None for an empty cell."""
        value = self.cells.get(field)
        if value is None or value == "":
            return None
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError, OverflowError):  # OverflowError: a whole number beyond 1e308
            number = math.nan
        if not math.isfinite(number) or number < minimum:
            raise self.error(field, f"a finite number >= {minimum:g}")
        return number

    def number(self, field: str, minimum: float = 0.0) -> float:
        """Return a finite number >= minimum."""
        value = self.optional_number(field, minimum)
        if value is None:
            raise self.error(field, f"a finite number >= {minimum:g}")
        return value

    def integer(self, field: str, minimum: int = 1) -> int:
        """Return a whole number >= minimum."""
        value = self.optional_number(field, minimum)
        if value is None or value != int(value):
            raise self.error(field, f"a whole number >= {minimum}")
        return int(value)

    def boolean(self, field: str) -> bool:
        """Return true or false."""
        value = self.cells.get(field)
        if isinstance(value, bool):
            return value
        if value not in ("true", "false"):
            raise self.error(field, "true or false")
        return bool(value == "true")

    def interval(self, low: str, mid: str, high: str) -> Interval:
        """Return the range in three cells; an empty low or high repeats mid."""
        middle = self.number(mid)
        below, above = self.optional_number(low), self.optional_number(high)
        below, above = middle if below is None else below, middle if above is None else above
        if not below <= middle <= above:
            raise self.error(mid, f"a value between {low} ({below:g}) and {high} ({above:g})")
        return Interval(below, middle, above)

    def provenance(self) -> Provenance:
        """Return source, locator, status and note; an empty source is an error."""
        note = self.cells.get("note") or ""
        return Provenance(
            sources=tuple(self.text("source").split()),
            locator=self.text("locator"),
            status=self.choice("status", STATUSES),
            note=str(note),
        )


def read_text(path: Path) -> str:
    """Read a small UTF-8 file.

    Raises:
        BitsimError: it is missing, not a file, larger than a table can be, or not UTF-8.
    """
    try:
        if not path.is_file():
            raise BitsimError(f"{path}: no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            limit = f"at most {MAX_FILE_BYTES // MIB} MiB"
            raise BitsimError(f"{path}: expected a text file of {limit}, got {path.stat().st_size:,} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BitsimError(
            f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#04x} at offset {error.start}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise BitsimError(f"{path!s}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_csv(path: Path, columns: Sequence[str], build: Callable[[Record], Row]) -> list[Row]:
    """Read a CSV table whose header must hold exactly `columns` (in any order), one row a line."""
    return [build(record) for record in _csv_records(path, columns)]


def _csv_records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(path, header, columns)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise BitsimError(f"{path}:{reader.line_num}: expected {len(header)} cells, got {len(cells)}")
            yield Record(path, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise BitsimError(f"{path}:{reader.line_num}: expected CSV, got a damaged line ({error})") from None


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    unknown = [name for name in header if name not in columns]
    if missing or unknown or len(header) != len(set(header)):
        parts = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)[:80]}"] * bool(
            unknown
        )
        raise BitsimError(
            f"{path}:1: expected the columns {', '.join(columns)}; {'; '.join(parts) or 'a column is named twice'}"
        )


def read_toml(path: Path) -> tuple[dict[str, Any], Callable[[str], int]]:
    """Read a TOML file; also return a function from a top-level key to its line."""
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not TOML, or a number of over 4,300 digits
        raise BitsimError(f"{path}: expected TOML, got {str(error) or 'something nested too deep'}") from None

    def line_of(key: str) -> int:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.split("=")[0].split(".")[0].strip().strip("\"'[]") == key:
                return number
        return 1

    return values, line_of
