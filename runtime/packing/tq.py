"""TQ1_0 and TQ2_0 of llama.cpp: blocks of 256 weights of a row, each with an fp16 scale (ggml-quants.c, PR 8151)."""

from functools import cache

import numpy as np
import numpy.typing as npt

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights, multiple_of, refuse_codes, two_bit_illegal

BLOCK = 256


def _with_scales(codes: Bytes, scale: float) -> Bytes:
    """Append the fp16 scale to each block's codes: (blocks, bytes) to (blocks, bytes + 2)."""
    scales = np.frombuffer(np.full(len(codes), scale, "<f2").tobytes(), np.uint8).reshape(-1, 2)
    return np.concatenate([codes, scales], axis=1)


def _scales(blocks: Bytes, rows: int) -> npt.NDArray[np.float32]:
    """Read each block's scale: (blocks, bytes) to (rows, blocks of a row)."""
    return np.frombuffer(blocks[:, -2:].tobytes(), "<f2").astype(np.float32).reshape(rows, -1)


class TQ2:
    """TQ2_0: 64 bytes of codes and a scale in 66 bytes.

    Byte j of each half holds weights j, 32 + j, 64 + j, 96 + j of its 128 in bits 0-1, 2-3, 4-5, 6-7, as weight + 1.
    """

    name = "tq2_0"
    _SHIFTS = np.array([0, 2, 4, 6], np.uint8)

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return 66 bytes for each block of 256; columns must be a multiple of that."""
        multiple_of(self.name, "columns", columns, BLOCK)
        return rows * columns // BLOCK * 66

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (rows, columns / 256 x 66)."""
        codes = (checked_weights(self.name, weights) + 1).astype(np.uint8)
        size = self.packed_bytes(*codes.shape)
        fields = codes.reshape(-1, 2, 4, 32) << self._SHIFTS[:, None]
        packed = _with_scales(np.bitwise_or.reduce(fields, axis=2).reshape(-1, 64), scale)
        return checked_bytes(self.name, packed, size).reshape(len(codes), -1)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (rows, columns / 256 x 66)."""
        blocks = checked_bytes(self.name, packed, self.packed_bytes(rows, columns)).reshape(-1, 66)
        illegal = np.zeros(blocks.shape, np.bool_)
        illegal[:, :64] = two_bit_illegal(blocks[:, :64])
        refuse_codes(self.name, blocks.reshape(-1), illegal.reshape(-1))
        fields = (blocks[:, :64].reshape(-1, 2, 1, 32) >> self._SHIFTS[:, None]) & 3
        return Ternary(fields.reshape(rows, columns).astype(np.int8) - np.int8(1), _scales(blocks, rows))


class TQ1:
    """TQ1_0: 48 + 4 bytes in base 3 and a scale in 54 bytes.

    32 bytes hold weights m + 32 n (n = 0 to 4, most significant first) of the first 160, 16 bytes m + 16 n of the next
    80, 4 bytes m + 4 n (n = 0 to 3, then a zero digit) of the last 16. A byte is ceil(value x 256 / 243), so that a
    digit comes out as the carry of a multiplication by 3.
    """

    name = "tq1_0"
    _PARTS = ((32, 5), (16, 5), (4, 4))  # bytes, digits in each

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return 54 bytes for each block of 256; columns must be a multiple of that."""
        multiple_of(self.name, "columns", columns, BLOCK)
        return rows * columns // BLOCK * 54

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (rows, columns / 256 x 54)."""
        codes = (checked_weights(self.name, weights) + 1).astype(np.uint16)
        size = self.packed_bytes(*codes.shape)
        blocks, start, parts = codes.reshape(-1, BLOCK), 0, []
        for width, digits in self._PARTS:
            places = 3 ** np.arange(4, 4 - digits, -1, dtype=np.uint16)
            part = blocks[:, start : start + width * digits].reshape(-1, digits, width)
            value = (part * places[:, None]).sum(axis=1, dtype=np.uint16)
            parts.append(((value * 256 + 242) // 243).astype(np.uint8))
            start += width * digits
        packed = _with_scales(np.concatenate(parts, axis=1), scale)
        return checked_bytes(self.name, packed, size).reshape(len(codes), -1)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (rows, columns / 256 x 54)."""
        blocks = checked_bytes(self.name, packed, self.packed_bytes(rows, columns)).reshape(-1, 54)
        illegal = np.zeros(blocks.shape, np.bool_)
        digits_of, legal = _digits()
        start, parts = 0, []
        for width, digits in self._PARTS:
            part = blocks[:, start : start + width]
            illegal[:, start : start + width] = ~legal[digits][part]
            parts.append(np.moveaxis(digits_of[part][:, :, :digits], 2, 1).reshape(len(blocks), -1))
            start += width
        refuse_codes(self.name, blocks.reshape(-1), illegal.reshape(-1))
        weights = np.concatenate(parts, axis=1).reshape(rows, columns)
        return Ternary(weights, _scales(blocks, rows))


@cache
def _digits() -> tuple[Weights, dict[int, npt.NDArray[np.bool_]]]:
    """Return the five weights that each byte stands for, and which bytes are codes of five and of four digits."""
    values = np.arange(243)
    codes = (values * 256 + 242) // 243
    weights = np.zeros((256, 5), np.int8)
    for place in range(5):
        weights[codes, place] = values // 3 ** (4 - place) % 3 - 1
    legal = {digits: np.zeros(256, np.bool_) for digits in (4, 5)}
    legal[5][codes] = True
    legal[4][codes[values % 3 == 0]] = True
    return weights, legal
