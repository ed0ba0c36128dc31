"""The tables as they lie in their files, for showing."""

import csv
import io
from pathlib import Path

from .citations import DATA
from .errors import BitsimError, suggestion
from .records import read_text


def _files() -> dict[str, Path]:
    paths = [*sorted(DATA.glob("*.csv")), *sorted((DATA / "published").glob("*.csv"))]
    return {path.relative_to(DATA).with_suffix("").as_posix(): path for path in paths}


def table_names() -> list[str]:
    """Return the names of all CSV tables: `op_energy`, `published/decode_speed`, ..."""
    return list(_files())


def read_table(name: str) -> list[dict[str, str]]:
    """Return the cells of one table, row by row.

    Raises:
        BitsimError: no such table (the nearest is suggested).
    """
    files = _files()
    if name not in files:
        raise BitsimError(f"unknown table '{name[:60]}'{suggestion(name, files)} (bitsim tables list)")
    return list(csv.DictReader(io.StringIO(read_text(files[name]), newline="")))
