"""Our layout for lookup kernels: nine weights in a 16-bit word, 32 rows side by side (1.78 bits a weight).

A word holds three indexes of three weights each, i = (w0 + 1) + 3 (w1 + 1) + 9 (w2 + 1) from 0 to 26, in bits 0-4,
5-9 and 10-14; bit 15 is 0. A permute instruction that looks only at the low five bits of a lane takes the word as it is
for the first index and shifted right by 5 and 10 for the others. Words lie as (row block, group of nine columns, row in
block), so that a load of 32 words is one group of 32 rows. Rows and columns are filled up with weights of zero.
"""

import numpy as np

from bitsim.energy_tables import BitsimError

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights

ROWS = 32  # 16-bit lanes of a 512-bit register
COLUMNS = 9


class Trit9:
    """`uint8` (row blocks, column groups, 32 words of two bytes, little-endian)."""

    name = "trit9"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return two bytes for each nine columns of a row, both rounded up."""
        return -(-rows // ROWS) * -(-columns // COLUMNS) * ROWS * 2

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (row blocks, column groups, 64); the scale is left out."""
        checked = checked_weights(self.name, weights)
        rows, columns = checked.shape
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        full = np.zeros((blocks * ROWS, groups * COLUMNS), np.uint16)
        full[:rows, :columns] = checked + 1
        full[rows:], full[:, columns:] = 1, 1
        indexes = full.reshape(blocks, ROWS, groups, 3, 3) @ np.array([1, 3, 9], np.uint16)
        words = indexes @ np.array([1, 1 << 5, 1 << 10], np.uint16)  # (blocks, ROWS, groups)
        ordered = np.ascontiguousarray(words.transpose(0, 2, 1)).astype("<u2")
        return ordered.view(np.uint8)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (row blocks, column groups, 64)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        words = flat.view("<u2")
        indexes = (words[:, None] >> np.array([0, 5, 10], np.uint16)) & 31
        illegal = (indexes > 26).any(axis=1) | (words >> 15 != 0)
        if illegal.any():
            place = int(np.argmax(illegal))
            raise BitsimError(f"{self.name}: word {place:,}: {int(words[place]):#06x} holds no ternary code")
        trits = indexes[..., None] // np.array([1, 3, 9], np.uint16) % 3
        grid = trits.reshape(blocks, groups, ROWS, COLUMNS).transpose(0, 2, 1, 3).reshape(blocks * ROWS, -1)
        return Ternary(grid[:rows, :columns].astype(np.int8) - np.int8(1), np.ones((1, 1), np.float32))
