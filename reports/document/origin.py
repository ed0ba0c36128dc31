"""Where a report comes from: its sources in full, and what it takes to make it again."""

import hashlib
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bitsim.energy_tables import BitsimError, cite, sources
from bitsim.energy_tables.citations import DATA
from bitsim.energy_tables.errors import shown

from .question import Question

_PIECE = 2**20  # bytes read at a time
_EPOCH = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/
_LATEST = 253_402_300_799  # the last second of the year 9999


def references(keys: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return (key, full reference) of each key once, by key; what a user's own file names is said to be its own."""
    known = sources()
    found = dict.fromkeys(sorted(set(keys), key=str.casefold), "")
    for key in found:
        found[key] = cite([key])[0].reference() if key in known else "A source of a file that was given."
    return tuple(found.items())


def made_with(question: Question) -> tuple[tuple[str, str], ...]:
    """Return version, command, hashes of the tables and of every file that was given, and the date if there is one.

    Raises:
        BitsimError: a file can't be read, or SOURCE_DATE_EPOCH is no number of seconds.
    """
    made = [("bitsim", _version()), ("command", question.command), ("tables, SHA-256", tables_hash())]
    for path in _inputs(question):
        made.append((f"{path.name}, SHA-256", _file_hash(path)))
    date = source_date()
    if date is not None:
        made.append(("date", date.strftime("%Y-%m-%d %H:%M:%S UTC")))
    return tuple(made)


def source_date() -> datetime | None:
    """Return the date that SOURCE_DATE_EPOCH gives; None where it is not set: a report has no other date.

    Raises:
        BitsimError: it is no number of seconds.
    """
    text = os.environ.get(_EPOCH, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= _LATEST):
        raise BitsimError(f"{_EPOCH}: expected seconds since 1970, got '{shown(text)}'")
    return datetime.fromtimestamp(int(text), UTC)


def tables_hash() -> str:
    """Return the SHA-256 of all tables: of their names and contents, in the order of the names."""
    whole = hashlib.sha256()
    for path in sorted(DATA.rglob("*")):
        if path.suffix in (".csv", ".toml", ".json"):
            whole.update(f"{path.relative_to(DATA).as_posix()}\0{_file_hash(path)}\n".encode())
    return whole.hexdigest()


def _version() -> str:
    try:
        return version("bitsim-llm")
    except PackageNotFoundError:
        return "not installed"


def _inputs(question: Question) -> list[Path]:
    files = [path for path in (question.runs, question.measured) if path is not None]
    files += [Path(name) for name in question.machines if name.endswith(".toml")]
    files += [Path(name) for law in question.laws if (name := law.rpartition("=")[2].strip()).endswith(".json")]
    return list(dict.fromkeys(files))


def _file_hash(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(_PIECE):
                found.update(part)
    except OSError as error:
        raise BitsimError(f"{path}: {error.strerror or error}") from None
    return found.hexdigest()
