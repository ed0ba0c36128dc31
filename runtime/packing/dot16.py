"""Two-bit codes as instructions want them that multiply four neighbouring bytes: kept to compare with our own layouts.

Byte (row, c) of a group of 16 columns holds columns c, 4 + c, 8 + c, 12 + c in bits 0-1, 2-3, 4-5, 6-7, each as
weight + 1, so that shifted by 0, 2, 4, 6 and masked it is four columns in the order of the activations. Bytes lie as
(row block of 32, column group, row, c). Rows and columns are filled up with weights of zero.
"""

import numpy as np

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, refuse_codes, two_bit_illegal

ROWS = 32
COLUMNS = 16
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


class Dot16:
    """`uint8` (row blocks, column groups, 32, 4)."""

    name = "dot16"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return four bytes for each sixteen columns of a row, both rounded up."""
        return -(-rows // ROWS) * -(-columns // COLUMNS) * ROWS * 4

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (row blocks, column groups, 32, 4); the scale is left out."""
        checked = checked_weights(self.name, weights)
        rows, columns = checked.shape
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        full = np.ones((blocks * ROWS, groups * COLUMNS), np.uint8)
        full[:rows, :columns] = checked + 1
        fields = full.reshape(blocks, ROWS, groups, 4, 4) << _SHIFTS[:, None]
        packed: Bytes = np.bitwise_or.reduce(fields, axis=3).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(packed)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (row blocks, column groups, 32, 4)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        refuse_codes(self.name, flat, two_bit_illegal(flat))
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        fields = (flat.reshape(blocks, groups, ROWS, 1, 4) >> _SHIFTS[:, None]) & 3
        grid = fields.transpose(0, 2, 1, 3, 4).reshape(blocks * ROWS, -1)
        return Ternary(grid[:rows, :columns].astype(np.int8) - np.int8(1), np.ones((1, 1), np.float32))
