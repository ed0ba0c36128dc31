"""Documents in files on this machine: parquet, JSON lines and plain text."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

END_OF_TEXT = "<|endoftext|>"  # on a line of its own it ends a document of a .txt file
_ROWS = 1000  # of a parquet file, read at once


def is_readable(file: Path) -> bool:
    """Whether the name of a file says that documents can be read from it."""
    return file.suffix.lower() in _READERS


def readable() -> str:
    """Return the endings of readable files, for a message."""
    return ", ".join(_READERS)


def read_documents(file: Path) -> Iterator[str]:
    """Yield the documents of a file one after the other; a long file is never in memory as a whole.

    Raises:
        BitsimError: the file is missing, damaged, not in UTF-8 or has no column of text; it and the line are named.
    """
    try:
        yield from _READERS[file.suffix.lower()](file)
    except OSError as error:
        raise BitsimError(f"{file}: {error.strerror or shown(error, 100)}") from error


def text_column(row: Mapping[str, Any], where: str) -> str:
    """Return the name of the column that holds the text: `text`, or the only one that holds a string.

    Raises:
        BitsimError: there is none, or several; the columns are listed.
    """
    if "text" in row:
        return "text"
    found = [name for name, value in row.items() if isinstance(value, str)]
    if len(found) == 1:
        return found[0]
    listed = shown(", ".join(row), 200) or "none"
    raise BitsimError(f"{where}: expected a column 'text' or a single column of strings, got the columns {listed}")


def _plain_text(file: Path) -> Iterator[str]:
    """Yield a file as one document, or the parts between lines that hold the end-of-text mark alone."""
    lines: list[str] = []
    marked = False
    for line in _lines(file):
        if line.strip() == END_OF_TEXT:
            marked = True
            yield "".join(lines).strip("\r\n")
            lines = []
        else:
            lines.append(line)
    rest = "".join(lines)
    yield rest.strip("\r\n") if marked else rest


def _json_lines(file: Path) -> Iterator[str]:
    """Yield the text of each line's object."""
    column = None
    for number, line in enumerate(_lines(file), 1):
        if line.isspace():
            continue
        where = f"{file}:{number}"
        row = _object(line, where)
        if column is None:
            column = text_column(row, where)
        if column not in row:
            raise BitsimError(f"{where}: expected the key '{column}', got {shown(', '.join(row), 200) or 'none'}")
        text = row[column]
        if text is not None:
            yield _checked(text, f"{where}: {column}")


def _parquet(file: Path) -> Iterator[str]:
    """Yield the text of each row. The datasets package reads parquet too, 20 times slower and asking the network."""
    try:
        with parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            strings = {name: "" if _is_string(schema.field(name).type) else None for name in schema.names}
            column = text_column(strings, str(file))
            if strings[column] is None:
                raise BitsimError(f"{file}: column '{column}': expected strings, got {schema.field(column).type}")
            for batch in table.iter_batches(_ROWS, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise BitsimError(f"{file}: not a whole parquet file: {shown(error, 150)}") from error


def _is_string(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines with their ends as they are, without the mark that some editors put before a text."""
    with file.open("rb") as content:
        for number, line in enumerate(content, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = line[error.start]
                raise BitsimError(f"{file}:{number}: expected UTF-8 text, got the byte 0x{wrong:02x}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BitsimError(f"{where}: expected a JSON object on one line: {shown(error, 100)}") from error
    if not isinstance(row, dict):
        raise BitsimError(f"{where}: expected a JSON object on each line, got {type(row).__name__}")
    return row


def _checked(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise BitsimError(f"{where}: expected a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BitsimError(f"{where}: expected text, got half of a surrogate pair") from error
    return text


_READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".txt": _plain_text,
}
