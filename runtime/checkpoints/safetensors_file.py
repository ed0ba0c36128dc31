"""A safetensors file: a JSON header that says where in the file each tensor lies, checked before anything is used."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..packing.codec import Bytes
from .stored import Stored, from_brain, from_half, from_single, mapped

LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors package
_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
_DECODE = {"F16": from_half, "BF16": from_brain, "F32": from_single}


def read_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Open a safetensors file: its tensors by name, and the texts of its `__metadata__`.

    The file is mapped into memory; of tensors nothing is read.

    Raises:
        BitsimError: not such a file, truncated, or a header that does not describe it; the field is named.
    """
    data = mapped(path)
    header = _header(path, data)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, Mapping) or not all(isinstance(text, str) for text in metadata.values()):
        raise BitsimError(f"{path}: __metadata__: expected an object of texts")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = {name: _tensor(f"{path}: {shown(name, 200)}", entry, data[start:]) for name, entry in header.items()}
    _no_overlap(path, header)
    return tensors, dict(metadata)


def _header(path: Path, data: Bytes) -> dict[str, Any]:
    if len(data) < 8:
        raise BitsimError(f"{path}: not a safetensors file: expected at least 8 bytes, got {len(data)}")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(LARGEST_HEADER, len(data) - 8):
        raise BitsimError(
            f"{path}: header: expected at most {min(LARGEST_HEADER, len(data) - 8):,} bytes, got {length:,}:"
            " truncated, or not a safetensors file"
        )
    try:
        header = json.loads(data[8 : 8 + length].tobytes().decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BitsimError(f"{path}: header: not JSON: {shown(error, 100)}") from error
    if not isinstance(header, dict):
        raise BitsimError(f"{path}: header: expected a JSON object, got {type(header).__name__}")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict, but refuse a key that is there twice: which one is meant can't be told."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name is there twice")
    return table


def _tensor(where: str, entry: object, data: Bytes) -> Stored:
    """Return a tensor as its entry of the header describes it; `data` is what follows the header."""
    if not isinstance(entry, Mapping):
        raise BitsimError(f"{where}: expected an object, got {type(entry).__name__}")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in _BYTES:
        raise BitsimError(f"{where}: dtype: expected one of {', '.join(_BYTES)}, got '{shown(kind, 40)}'")
    if not _whole_numbers(shape) or len(shape) > 8:
        raise BitsimError(f"{where}: shape: expected at most 8 whole numbers, got '{shown(shape, 40)}'")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise BitsimError(f"{where}: data_offsets: expected two whole numbers, got '{shown(offsets, 40)}'")
    begin, end = offsets
    if not begin <= end <= len(data):
        raise BitsimError(
            f"{where}: data_offsets: expected to lie within {len(data):,} bytes, got {shown(begin)} to {shown(end)}:"
            " truncated, or damaged"
        )
    expected = math.prod(shape) * _BYTES[kind]
    if end - begin != expected:
        raise BitsimError(f"{where}: expected {shown(expected)} bytes for {kind} {shown(shape)}, got {end - begin:,}")
    return Stored(where, kind, tuple(shape), data[begin:end], _DECODE.get(kind))


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _no_overlap(path: Path, header: Mapping[str, Any]) -> None:
    """Raise where two tensors share bytes."""
    last, end = "", 0
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        begin, stop = entry["data_offsets"]
        if begin < end:
            raise BitsimError(f"{path}: {shown(name, 200)}: data_offsets: overlaps with {shown(last, 200)}")
        last, end = name, stop
