"""Writes a GGUF file one tensor after the other, so that a model need not be whole in memory."""

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from .gguf_file import ALIGNMENT, MAGIC, Value

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


class GgufStream:
    """Takes the tensors in the order that was announced; the directory is written last, into room of its size."""

    def __init__(self, file: BinaryIO, metadata: Mapping[str, Value], names: Sequence[tuple[str, int]]) -> None:
        """Begin a file: its metadata, and name and number of dimensions of each tensor to come."""
        self._file = file
        self._names = names
        self._entries: list[bytes] = []
        self._offset = 0
        file.write(MAGIC + struct.pack("<IQQ", 3, len(names), len(metadata)))
        for key, value in metadata.items():
            file.write(_text(key) + _value(key, value))
        self._directory = file.tell()
        size = sum(len(_entry(name, (0,) * dimensions, 0, 0)) for name, dimensions in names)
        file.write(bytes(size + -(self._directory + size) % ALIGNMENT))

    def add(self, name: str, kind: int, shape: tuple[int, ...], data: npt.NDArray[np.generic]) -> None:
        """Write a tensor; `kind` is GGUF's number of its format, and `shape` has rows first."""
        expected = self._names[len(self._entries)] if len(self._entries) < len(self._names) else ("nothing", 0)
        if expected != (name, len(shape)):
            raise BitsimError(f"{name}: expected {expected[0]} to be written next")
        self._entries.append(_entry(name, shape, kind, self._offset))
        content = np.ascontiguousarray(data)
        self._file.write(content.data)
        padding = -content.nbytes % ALIGNMENT
        self._file.write(bytes(padding))
        self._offset += content.nbytes + padding

    def finish(self) -> None:
        """Write the directory."""
        self._file.seek(self._directory)
        self._file.write(b"".join(self._entries))
        self._file.seek(0, 2)


def _entry(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    return _text(name) + sizes + struct.pack("<IQ", kind, offset)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: Value) -> bytes:
    """Return a value of the metadata after its type: whole numbers as uint32, lists of numbers as int32 or float32."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        if not 0 <= value < 2**32:
            raise BitsimError(f"{key}: expected a number that 32 bits hold, got {value:,}")
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
    whole = np.issubdtype(value.dtype, np.integer)
    content = value.astype("<i4" if whole else "<f4").tobytes()
    return struct.pack("<IIQ", _ARRAY, _I32 if whole else _F32, len(value)) + content
