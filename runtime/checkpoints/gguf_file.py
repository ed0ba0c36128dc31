"""A GGUF file: metadata and a directory of tensors, checked before anything is used.

The `gguf` package supplies the number formats. Its reader is not used: it makes an object of each word of a vocabulary
(4.7 s for the 49,152 of SmolLM2, where this takes 0.1 s), and believes the lengths that a damaged file states.
"""

import math
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..packing.codec import Bytes
from .checkpoint import Float32
from .stored import Stored, from_brain, from_half, from_single, mapped

Value = int | float | bool | str | list[str] | npt.NDArray[np.generic]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, where general.alignment does not say otherwise
I2_S = 36  # of bitnet.cpp; the gguf package does not have it
I2_S_TAIL = 32  # bytes after the codes of a tensor

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {"F32": from_single, "F16": from_half, "BF16": from_brain}
_BLOCKS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
_TERNARY = ("TQ1_0", "TQ2_0")


def read_gguf(path: Path) -> tuple[dict[str, Value], dict[str, Stored]]:
    """Open a GGUF file: its metadata by key, and its tensors by name.

    The file is mapped into memory; of tensors nothing is read. Shapes are (rows, columns).

    Raises:
        BitsimError: not such a file, truncated, or a directory that does not describe it; the field is named.
    """
    data = mapped(path)
    cursor = _Cursor(path, data)
    if cursor.take("magic", 4).tobytes() != MAGIC:
        raise BitsimError(f"{path}: not a GGUF file: it does not begin with GGUF")
    version = cursor.number("version", "I")
    if version not in VERSIONS:
        swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big") in VERSIONS
        got = "a big-endian file" if swapped else f"{version:,}"
        raise BitsimError(f"{path}: version: expected 2 or 3, got {got}")
    tensors, keys = cursor.count("tensor count", 24), cursor.count("metadata count", 13)
    metadata: dict[str, Value] = {}
    for _ in range(keys):
        key = cursor.text("a metadata key")
        if key in metadata:
            raise BitsimError(f"{path}: {shown(key, 200)}: the key is there twice")
        metadata[key] = cursor.value(shown(key, 200))
    entries = [_entry(cursor) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 2**20:
        raise BitsimError(f"{path}: general.alignment: expected a number from 1 to {2**20:,}, got {shown(alignment)}")
    start = -(-cursor.place // alignment) * alignment
    return metadata, _placed(path, entries, data[start:])


class _Cursor:
    """Reads one field after the other and refuses what goes past the end of the file."""

    def __init__(self, path: Path, data: Bytes) -> None:
        self.place = 0
        self._path = path
        self._data = data

    def take(self, field: str, size: int) -> Bytes:
        """Return the next bytes."""
        left = len(self._data) - self.place
        if size > left:
            raise BitsimError(f"{self._path}: {field}: expected {size:,} bytes, got {left:,}: truncated, or damaged")
        self.place += size
        return self._data[self.place - size : self.place]

    def number(self, field: str, form: str) -> int | float | bool:
        """Return the next number; `form` is its letter in the `struct` module."""
        value: int | float | bool = struct.unpack(f"<{form}", self.take(field, struct.calcsize(f"<{form}")).tobytes())[
            0
        ]
        return value

    def count(self, field: str, smallest: int) -> int:
        """Return how many things follow, each of at least `smallest` bytes: no more than the file has room for."""
        value, room = int(self.number(field, "Q")), (len(self._data) - self.place) // smallest
        if value > room:
            raise BitsimError(f"{self._path}: {field}: expected at most {room:,}, got {value:,}: truncated, or damaged")
        return value

    def text(self, field: str) -> str:
        """Return the next text."""
        try:
            return self.take(field, self.count(f"length of {field}", 1)).tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BitsimError(f"{self._path}: {field}: expected UTF-8 text: {error.reason}") from error

    def value(self, key: str) -> Value:
        """Return the next value of the metadata, after its type."""
        kind = int(self.number(f"type of {key}", "I"))
        if kind == _STRING:
            return self.text(key)
        if kind != _ARRAY:
            return self.number(key, self._form(key, kind))
        kind = int(self.number(f"type of {key}", "I"))
        if kind == _STRING:
            return [self.text(key) for _ in range(self.count(f"length of {key}", 8))]
        item = np.dtype(f"<{self._form(key, kind)}")
        size = self.count(f"length of {key}", item.itemsize) * item.itemsize
        return np.frombuffer(self.take(key, size).tobytes(), item)

    def _form(self, key: str, kind: int) -> str:
        if kind not in _SCALARS:
            raise BitsimError(
                f"{self._path}: {key}: expected a type from 0 to 12 (arrays of arrays left out), got {kind}"
            )
        return _SCALARS[kind]


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Read one tensor of the directory: its name, shape (rows first), type and place."""
    name = cursor.text("a tensor's name")
    field = shown(name, 200)
    dimensions = int(cursor.number(f"{field}: dimensions", "I"))
    # Checked here as a length that the file has room for; what a tensor must be is checked by its reader.
    sizes = [int(cursor.number(f"{field}: shape", "Q")) for _ in range(min(dimensions, 8))]
    kind = int(cursor.number(f"{field}: type", "I"))
    return name, tuple(reversed(sizes)), kind, int(cursor.number(f"{field}: offset", "Q"))


def _placed(path: Path, entries: list[tuple[str, tuple[int, ...], int, int]], data: Bytes) -> dict[str, Stored]:
    """Return the tensors of a directory; `data` is what follows it."""
    tensors: dict[str, Stored] = {}
    last, end = "", 0
    for name, shape, kind, offset in sorted(entries, key=lambda entry: entry[3]):
        where = f"{path}: {shown(name, 200)}"
        if name in tensors:
            raise BitsimError(f"{where}: the tensor is there twice")
        label, size = _sized(where, shape, kind)
        if offset + size > len(data):
            raise BitsimError(
                f"{where}: offset: expected {shown(size)} bytes from {offset:,} on, the file ends at {len(data):,}:"
                " truncated, or damaged"
            )
        if offset < end:
            raise BitsimError(f"{where}: offset: overlaps with {shown(last, 200)}")
        last, end = name, offset + size
        tensors[name] = Stored(where, label, shape, data[offset:end], _decoder(label))
    return tensors


def _sized(where: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
    """Return the name of a tensor's number format, and how many bytes the tensor takes."""
    if not 1 <= len(shape) <= 4 or 0 in shape:
        raise BitsimError(f"{where}: shape: expected one to four numbers above 0, got {shown(shape)}")
    numbers = math.prod(shape)
    if kind == I2_S:
        return "I2_S", numbers // 4 + I2_S_TAIL
    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        raise BitsimError(f"{where}: type: expected one that GGUF has, got {kind}") from None
    block, size = GGML_QUANT_SIZES[known]
    if shape[-1] % block:
        raise BitsimError(f"{where}: columns: expected a multiple of {block} for {known.name}, got {shape[-1]:,}")
    return known.name, numbers // block * size


def _decoder(kind: str) -> Callable[[Bytes], Float32] | None:
    """Return what turns bytes (rows, bytes of a row) of a number format into float32 (rows, columns)."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BLOCKS or kind in _TERNARY:
        return partial(_dequantised, kind=GGMLQuantizationType[kind])
    return None


def _dequantised(data: Bytes, kind: GGMLQuantizationType) -> Float32:
    with np.errstate(all="ignore"):  # a damaged scale; the caller refuses what is not finite
        return np.asarray(dequantize(data, kind), np.float32)
