"""A JSON file that someone else wrote: read within limits, and typed access to its keys."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

LARGEST = 64 * 2**20  # bytes; the largest tokenizer files known have 35 MB


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of at most `LARGEST` bytes.

    Raises:
        BitsimError: no file, a larger one, or one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise BitsimError(f"{path}: {error.strerror or error}") from error
    if len(content) > LARGEST:
        raise BitsimError(f"{path}: expected at most {LARGEST:,} bytes, got more")
    return content


def parsed(content: bytes, where: str) -> dict[str, Any]:
    """Return the object that JSON text is.

    Raises:
        BitsimError: not JSON, or not an object.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BitsimError(f"{where}: not JSON: {shown(error, 100)}") from error
    if not isinstance(value, dict):
        raise BitsimError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        BitsimError: no file, not JSON, or not an object.
    """
    return parsed(read_bytes(path), str(path))


def read_json_if_any(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


class Keys:
    """Typed access to the keys of an object; a wrong one is a `BitsimError` that names file, key and expectation."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content = content
        self.where = where

    def number(self, key: str, default: float | None = None, low: float = 0.0, high: float = 1e12) -> float:
        """Return a number above `low` and at most `high`; the default where the key is absent or null."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            raise self._wrong(key, f"a number above {low:g} and at most {high:g}", value)
        return float(value)

    def integer(self, key: str, default: int | None = None, high: int = 2**40) -> int:
        """Return a whole number from 0 to `high`; the default where the key is absent or null."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise self._wrong(key, f"a whole number from 0 to {high:,}", value)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """Return true or false; the default where the key is absent or null."""
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def choice(self, key: str, default: str | None, known: tuple[str, ...]) -> str:
        """Return one of the known words; the default, if there is one, where the key is absent or null."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in known:
            raise self._wrong(key, f"one of {', '.join(known)}", value)
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        """Return an object; an empty one where the key is absent or null."""
        value = self.content.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object", value)
        return value

    def _wrong(self, key: str, expected: str, value: object) -> BitsimError:
        got = "nothing" if value is None else f"'{shown(value, 40)}'"
        return BitsimError(f"{self.where}: {key}: expected {expected}, got {got}")
