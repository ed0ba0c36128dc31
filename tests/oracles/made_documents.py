"""Documents for tests, and files that hold them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

_TEXT = "the old cat sat on a green mat and saw 12 big fish, but none of them wanted to talk to it today"
WORDS = _TEXT.split()


def story(number: int) -> str:
    """Return a document of a few lines, another one for each number."""
    chosen = [WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(30)]
    return f"Story {number}.\n\n{' '.join(chosen)}.\nThe end of {number}."


def stories(count: int, first: int = 0) -> list[str]:
    """Return some documents that differ."""
    return [story(number) for number in range(first, first + count)]


def write_parquet(file: Path, **columns: Any) -> Path:
    """Write a table of lists or arrays as a parquet file."""
    parquet.write_table(pa.table(columns), file)
    return file


def write_lines(file: Path, *rows: object) -> Path:
    """Write rows as JSON, one on each line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
