"""Keys and values of the tokens so far, of one sequence.

Keys lie as attention reads them: 16 positions side by side, so that a register holds one coordinate of 16 keys.

    keys    (layers, kv heads, blocks of 16 positions, head, 16)
    values  (layers, kv heads, positions, head)

in half precision, or as int8 with a scale for each key and value (float32: layers, kv heads, positions), of which the
largest coordinate makes 127. The head is filled up to a multiple of 16.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.np.numpy_support import carray

from bitsim.energy_tables import BitsimError

from ..compile import inlined, inner
from ..memory import aligned
from ..simd.floats import absolute, larger_float, largest_lane, rounded, to_bytes, to_half, to_integers
from ..simd.vector import F32X16, instruction, load, splat, store
from .config import ModelConfig

POSITIONS = 16  # of a block
LANES = 16
KINDS = ("f16", "int8")
SMALLEST = 1e-30  # scale of a head of zeros

Float32 = npt.NDArray[np.float32]
Row = tuple[int, int, int, int]  # addresses of a sequence's keys, values and scales (0: half precision), capacity
Head = tuple[int, int]  # number of a key head counted over all layers, and how many there are
KeysAndValues = tuple[Any, Any, Float32, Float32]  # of one key head: keys, values, their scales or nothing


class Sequence:
    """A sequence of tokens that can be added to and cut short.

    Memory is taken from the system page by page as it is first written: a large capacity costs little until it is used.
    """

    def __init__(self, config: ModelConfig, capacity: int, kind: str = "f16") -> None:
        """Make an empty one for up to `capacity` tokens.

        Raises:
            BitsimError: less than one token, or an unknown kind.
        """
        if capacity < 1:
            raise BitsimError(f"context: expected 1 token or more, got {capacity}")
        if kind not in KINDS:
            raise BitsimError(f"kv: expected one of {', '.join(KINDS)}, got '{kind}'")
        self.config, spec = config, config.spec
        self.capacity, self.kind, self.length = -(-capacity // POSITIONS) * POSITIONS, kind, 0
        heads = spec.layers * spec.kv_heads * self.capacity
        size = heads * padded_head(spec.head_dim)
        dtype: Any = np.uint16 if kind == "f16" else np.uint8
        self._keys, self._values = (aligned((size,), dtype, large_pages=False) for _ in range(2))
        self._scales: Float32 = aligned((2 * heads if kind == "int8" else 0,), np.float32, large_pages=False)

    @property
    def row(self) -> Row:
        """Where keys, values and scales lie in memory."""
        scales = self._scales.ctypes.data if self.kind == "int8" else 0
        return self._keys.ctypes.data, self._values.ctypes.data, scales, self.capacity

    @property
    def bytes_per_token(self) -> int:
        """Memory that one token takes."""
        return int(self._keys.nbytes + self._values.nbytes + self._scales.nbytes) // self.capacity

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`.

        Raises:
            BitsimError: there are fewer.
        """
        if not 0 <= length <= self.length:
            raise BitsimError(f"sequence: expected a length from 0 to {self.length}, got {length}")
        self.length = length

    def copy_from(self, other: "Sequence", length: int) -> None:
        """Become a copy of the first `length` tokens of another sequence of the same model.

        Raises:
            BitsimError: the other has fewer tokens, is of another model, or there is no room.
        """
        if not 0 <= length <= min(other.length, self.capacity):
            most = min(other.length, self.capacity)
            raise BitsimError(f"sequence: expected to copy from 0 to {most} tokens, got {length}")
        if other.config is not self.config or other.kind != self.kind:
            raise BitsimError("sequence: expected to copy one of the same model")
        heads, width = self.config.spec.layers * self.config.spec.kv_heads, padded_head(self.config.spec.head_dim)
        filled = -(-length // POSITIONS) * POSITIONS  # keys lie in blocks, of which the last may end beyond the length
        for mine, others, count in (
            (self._keys.reshape(heads, -1), other._keys.reshape(heads, -1), filled * width),
            (self._values.reshape(heads, -1), other._values.reshape(heads, -1), length * width),
            (self._scales.reshape(2 * heads, -1), other._scales.reshape(2 * heads, -1), length),
        ):
            mine[:, :count] = others[:, :count]
        self.length = length


def padded_head(head_dim: int) -> int:
    """Return the width of a head as it is stored."""
    return -(-head_dim // 16) * 16


@instruction
def pointer_to(typing: Any, address: Any) -> Any:
    """Return an address as a pointer, for `carray`."""
    if not isinstance(address, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@inlined
def halves_of(row: Row, head: Head, width: int) -> KeysAndValues:
    """Return the keys and values of a head of `width` coordinates in half precision."""
    start, size = head[0] * row[3] * width * 2, row[3] * width
    keys = carray(pointer_to(row[0] + start), size, np.uint16)
    values = carray(pointer_to(row[1] + start), size, np.uint16)
    nothing = carray(pointer_to(row[0]), 0, np.float32)
    return keys, values, nothing, nothing


@inlined
def bytes_of(row: Row, head: Head, width: int) -> KeysAndValues:
    """Return the keys and values of a head as int8, and their scales."""
    start, size = head[0] * row[3] * width, row[3] * width
    keys = carray(pointer_to(row[0] + start), size, np.uint8)
    values = carray(pointer_to(row[1] + start), size, np.uint8)
    key_scales = carray(pointer_to(row[2] + 4 * head[0] * row[3]), row[3], np.float32)
    value_scales = carray(pointer_to(row[2] + 4 * (head[1] + head[0]) * row[3]), row[3], np.float32)
    return keys, values, key_scales, value_scales


@inlined
def key_place(position: int, width: int) -> int:
    """Return where the first coordinate of a key lies; the next are 16 elements apart."""
    return position // POSITIONS * POSITIONS * width + position % POSITIONS


@inner
def write_halves(row: Row, head: Head, width: int, position: int, x: Float32, key: int, value: int) -> None:
    """Write the key at x[key] and the value at x[value] of a position."""
    keys, values, _, _ = halves_of(row, head, width)
    place, start = key_place(position, width), position * width
    # The key goes through the value's place, of which it takes one number after another.
    for at in range(0, width, LANES):
        store(values, start + at, to_half(load(F32X16, x, key + at)))
    for at in range(width):
        keys[place + at * POSITIONS] = values[start + at]
    for at in range(0, width, LANES):
        store(values, start + at, to_half(load(F32X16, x, value + at)))


@inlined
def scale_of(x: Float32, place: int, width: int) -> Any:
    """Return what makes the largest of some numbers 127, the other way round."""
    largest = splat(F32X16, 0.0)
    for at in range(place, place + width, LANES):
        largest = larger_float(largest, absolute(load(F32X16, x, at)))
    return max(largest_lane(largest), np.float32(SMALLEST)) / np.float32(127)


@inner
def write_bytes(row: Row, head: Head, width: int, position: int, x: Float32, key: int, value: int) -> None:
    """Write the key at x[key] and the value at x[value] of a position, rounded to int8."""
    keys, values, key_scales, value_scales = bytes_of(row, head, width)
    place, start = key_place(position, width), position * width
    of_key, of_value = scale_of(x, key, width), scale_of(x, value, width)
    key_scales[position], value_scales[position] = of_key, of_value
    for at in range(0, width, LANES):
        store(values, start + at, to_bytes(to_integers(rounded(load(F32X16, x, key + at) / of_key))))
    for at in range(width):
        keys[place + at * POSITIONS] = values[start + at]
    for at in range(0, width, LANES):
        store(values, start + at, to_bytes(to_integers(rounded(load(F32X16, x, value + at) / of_value))))
