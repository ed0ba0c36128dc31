"""Our layout for kernels that look bytes up: four weights in a byte, 32 rows side by side (2 bits a weight).

A byte holds two indexes of two weights each, i = (w0 + 1) + 3 (w1 + 1) from 0 to 8, in bits 0-3 and 4-7. Bytes lie as
(row block, group of four columns, row in block), so that a load of 32 bytes is one group of 32 rows. Rows and columns
are filled up with weights of zero.
"""

import numpy as np

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, refuse_codes

ROWS = 32
COLUMNS = 4


class Trit4:
    """`uint8` (row blocks, column groups, 32)."""

    name = "trit4"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return a byte for each four columns of a row, both rounded up."""
        return -(-rows // ROWS) * -(-columns // COLUMNS) * ROWS

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (row blocks, column groups, 32); the scale is left out."""
        checked = checked_weights(self.name, weights)
        rows, columns = checked.shape
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        full = np.ones((blocks * ROWS, groups * COLUMNS), np.uint8)
        full[:rows, :columns] = checked + 1
        grid = full.reshape(blocks, ROWS, groups, COLUMNS).transpose(3, 0, 2, 1)
        packed: Bytes = (grid[0] + grid[1] * np.uint8(3)) | (grid[2] + grid[3] * np.uint8(3)) << np.uint8(4)
        return np.ascontiguousarray(packed)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (row blocks, column groups, 32)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        indexes = np.stack([flat & 15, flat >> 4])
        refuse_codes(self.name, flat, (indexes[0] > 8) | (indexes[1] > 8))
        trits = np.stack([indexes % 3, indexes // 3], axis=1)  # (index, weight of the index, byte)
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        grid = trits.reshape(COLUMNS, blocks, groups, ROWS).transpose(1, 3, 2, 0).reshape(blocks * ROWS, -1)
        return Ternary(grid[:rows, :columns].astype(np.int8) - np.int8(1), np.ones((1, 1), np.float32))
