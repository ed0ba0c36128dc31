"""Our layout for kernels that look nibbles up: nine weights in four nibbles, 32 rows side by side (1.78 bits a weight).

A table of 16 entries holds the nine sums of two weights, but not the 27 of three. Here the four weights of a byte come
from two nibbles that each know part of them: the low nibble n adds LOW[n] (the first weight, and one of five vectors
for the other three), the high nibble adds HIGH[n] (one of eight vectors for those three, and a bit). Five vectors plus
eight make 40 sums, among them all 27 of three weights. The bits of two bytes add up to a ninth weight.

    byte 2 j      of a group of 36 columns: columns 8 j to 8 j + 3, and its bit - 1 to column 32 + j
    byte 2 j + 1  columns 8 j + 4 to 8 j + 7, and its bit to column 32 + j

Bytes lie as (row block, group of 36 columns, byte of the group, row in block), so that a load of 32 bytes is one byte
of 32 rows. Rows and columns are filled up with weights of zero; where 16 columns or fewer are left, the last group ends
after four bytes.
"""

import itertools

import numpy as np
import numpy.typing as npt

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, refuse_codes

ROWS = 32
COLUMNS = 36  # of a group of 8 bytes
GROUP = 8
ILLEGAL = 15  # the low nibble that is no code

# Found by search: every vector of three weights is the sum of one of FIVE and one of EIGHT. No FOUR was found.
_FIVE = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 0), (0, 0, 1))
_EIGHT = ((1, 1, 0), (-1, 1, 0), (0, 1, 0), (1, -1, 0), (1, 0, 0), (-1, -1, 0), (0, 0, -1), (0, 0, 1))

LOW = np.array([(first, *three) for three in _FIVE for first in (-1, 0, 1)] + [(0, 0, 0, 0)], np.int8)
HIGH = np.array(
    [(*three, bit) for bit in (0, 1) for three in _EIGHT], np.int8
)  # of the last three weights, and the bit


def _codes() -> npt.NDArray[np.uint8]:
    """Return the byte of each four weights (first + 3 second + 9 third + 27 fourth, each + 1) and bit: (2, 81)."""
    codes = np.zeros((2, 81), np.uint8)
    for (low, four), (high, three) in itertools.product(enumerate(LOW[:ILLEGAL]), enumerate(HIGH)):
        weights = four + (0, *three[:3]) + 1
        if weights.min() >= 0 and weights.max() <= 2:
            codes[three[3], weights @ (1, 3, 9, 27)] = low + 16 * high
    return codes


_CODES = _codes()


def bytes_per_row(columns: int) -> int:
    """Return the bytes that a row takes, a multiple of four."""
    full, left = divmod(columns, COLUMNS)
    return full * GROUP + (0 if not left else GROUP // 2 if left <= 16 else GROUP)


class Nibble9:
    """`uint8` (row blocks, bytes of a row, 32)."""

    name = "nibble9"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return a byte for each four and a half columns of a row, both rounded up."""
        return -(-rows // ROWS) * ROWS * bytes_per_row(columns)

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (row blocks, bytes of a row, 32); the scale is left out."""
        checked = checked_weights(self.name, weights)
        rows, columns = checked.shape
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        full = np.ones((blocks * ROWS, groups * COLUMNS), np.uint8)
        full[:rows, :columns] = checked + 1
        grid = full.reshape(blocks * ROWS, groups, COLUMNS)
        patterns = grid[..., :32].reshape(-1, groups, GROUP, 4) @ np.array([1, 3, 9, 27], np.uint8)
        ninth = grid[..., 32:]
        bits = np.stack([ninth > 0, ninth > 1], axis=-1).reshape(-1, groups, GROUP)
        packed = _CODES[bits.astype(np.intp), patterns].reshape(blocks, ROWS, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(packed[:, : bytes_per_row(columns)])

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (row blocks, bytes of a row, 32)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        four, bit = LOW[flat & 15], HIGH[flat >> 4, 3]
        four[:, 1:] += HIGH[flat >> 4, :3]
        refuse_codes(self.name, flat, (flat & 15 == ILLEGAL) | (np.abs(four) > 1).any(axis=1))
        blocks, groups, taken = -(-rows // ROWS), -(-columns // COLUMNS), bytes_per_row(columns)
        parts = np.zeros((blocks, ROWS, groups * GROUP, 5), np.int8)
        parts[:, :, :taken] = np.column_stack([four, bit]).reshape(blocks, taken, ROWS, 5).swapaxes(1, 2)
        bytes_ = parts.reshape(blocks * ROWS, groups, GROUP, 5)
        ninths = bytes_[..., ::2, 4] + bytes_[..., 1::2, 4] - np.int8(1)
        grid = np.concatenate([bytes_[..., :4].reshape(blocks * ROWS, groups, 4 * GROUP), ninths], axis=2)
        return Ternary(grid.reshape(blocks * ROWS, -1)[:rows, :columns].copy(), np.ones((1, 1), np.float32))
