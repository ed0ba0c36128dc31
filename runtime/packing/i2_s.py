"""I2_S of bitnet.cpp: two bits a weight, one scale a tensor, and a byte order that depends on the CPU it was made for.

Weights are taken row by row in blocks of 128 (x86) or 64 (ARM); byte p of a block holds weights p, q + p, 2q + p and
3q + p of it in bits 7-6, 5-4, 3-2, 1-0, with q = a quarter of the block, each as weight + 1. After the codes come 32
bytes, of which the first four are the scale (float32, little-endian) (microsoft/BitNet, ggml-bitnet-mad.cpp).
"""

import numpy as np

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, multiple_of, refuse_codes, two_bit_illegal

_TAIL = 32  # bytes after the codes
_SHIFTS = np.array([6, 4, 2, 0], np.uint8)


class I2S:
    """`uint8` (rows x columns / 4 + 32), for a CPU family."""

    def __init__(self, name: str, block: int) -> None:
        self.name = name
        self._block = block

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return rows x columns / 4 + 32; columns must be a multiple of the block."""
        multiple_of(self.name, "columns", columns, self._block)
        return rows * columns // 4 + _TAIL

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (rows x columns / 4 + 32)."""
        codes = (checked_weights(self.name, weights) + 1).astype(np.uint8)
        size = self.packed_bytes(*codes.shape)
        fields = codes.reshape(-1, 4, self._block // 4) << _SHIFTS[:, None]
        tail = np.zeros(_TAIL, np.uint8)
        tail[:4] = np.frombuffer(np.array(scale, "<f4").tobytes(), np.uint8)
        packed: Bytes = np.concatenate([np.bitwise_or.reduce(fields, axis=1).reshape(-1), tail])
        return checked_bytes(self.name, packed, size)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (rows x columns / 4 + 32)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        codes, tail = flat[:-_TAIL], flat[-_TAIL:]
        refuse_codes(self.name, codes, two_bit_illegal(codes))
        fields = (codes.reshape(-1, 1, self._block // 4) >> _SHIFTS[:, None]) & 3
        scale = np.frombuffer(tail[:4].tobytes(), "<f4").astype(np.float32).reshape(1, 1)
        return Ternary(fields.reshape(rows, columns).astype(np.int8) - np.int8(1), scale)
