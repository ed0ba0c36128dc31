"""Hugging Face's uint8 layout: four rows in a byte, a quarter of the matrix apart.

With R = ceil(rows / 4), byte (r, c) holds rows r, R + r, 2R + r, 3R + r of column c in bits 0-1, 2-3, 4-5, 6-7, each as
weight + 1 (transformers, integrations/bitnet.py, `pack_weights`). The scale is a tensor of its own in the checkpoint.
Where rows is no multiple of 4, the fields of rows that are not there hold 0.
"""

import numpy as np

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, refuse_codes, two_bit_illegal


class HuggingFace:
    """`uint8` (ceil(rows / 4), columns)."""

    name = "hf"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return ceil(rows / 4) x columns."""
        return -(-rows // 4) * columns

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (ceil(rows / 4), columns); the scale is left out."""
        codes = (checked_weights(self.name, weights) + 1).astype(np.uint8)
        height = -(-codes.shape[0] // 4)
        packed = np.zeros((height, codes.shape[1]), np.uint8)
        for field in range(4):
            part = codes[field * height : (field + 1) * height]
            packed[: len(part)] |= part << np.uint8(2 * field)
        return packed

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (ceil(rows / 4), columns)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        refuse_codes(self.name, flat, two_bit_illegal(flat))
        grid = flat.reshape(-1, columns)
        fields = np.concatenate([(grid >> np.uint8(2 * field)) & 3 for field in range(4)])
        return Ternary(fields[:rows].astype(np.int8) - np.int8(1), np.ones((1, 1), np.float32))
