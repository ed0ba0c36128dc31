"""Our layout for lookup kernels: 48 weights of a row in five 16-bit words, 32 rows side by side (1.67 bits a weight).

Three weights make an index i = (w0 + 1) + 3 (w1 + 1) + 9 (w2 + 1) from 0 to 26. Word k of five holds indexes 3k, 3k + 1
and 3k + 2 of the group in bits 0-4, 5-9 and 10-14, so that a permute instruction that looks only at the low five bits
of a lane takes the word as it is for the first and shifted right for the others. Bit 15 is bit 4 - k of the sixteenth
index: shifted in one word after the other, the five bits make it.

Words lie as (row block, column group, k, row in block), so that a load of 32 words is one word of 32 rows. Rows and
columns are filled up with weights of zero.
"""

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from .codec import Bytes, Ternary, Weights, checked_bytes, checked_weights

ROWS = 32  # 16-bit lanes of a 512-bit register
COLUMNS = 48
WORDS = 5
INDEXES = COLUMNS // 3
_SHIFTS = np.array([0, 5, 10], np.uint16)
_LAST = np.arange(WORDS - 1, -1, -1, dtype=np.uint16)  # which bit of the sixteenth index each word holds
_POWERS = np.array([1, 3, 9], np.uint16)


class Trit48:
    """`uint8` (row blocks, column groups, 5, 32 words of two bytes, little-endian)."""

    name = "trit48"

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return ten bytes for each 48 columns of a row, both rounded up."""
        return -(-rows // ROWS) * -(-columns // COLUMNS) * WORDS * ROWS * 2

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack into uint8 (row blocks, column groups, 5, 64); the scale is left out."""
        checked = checked_weights(self.name, weights)
        rows, columns = checked.shape
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        full = np.ones((blocks * ROWS, groups * COLUMNS), np.uint16)
        full[:rows, :columns] = checked + 1
        indexes = full.reshape(blocks, ROWS, groups, INDEXES, 3) @ _POWERS
        words = indexes[..., :-1].reshape(blocks, ROWS, groups, WORDS, 3) @ (np.uint16(1) << _SHIFTS)
        words |= (indexes[..., -1:] >> _LAST & 1) << np.uint16(15)
        ordered = np.ascontiguousarray(words.transpose(0, 2, 3, 1)).astype("<u2", copy=False)
        return ordered.view(np.uint8)

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack uint8 (row blocks, column groups, 5, 64)."""
        flat = checked_bytes(self.name, packed, self.packed_bytes(rows, columns))
        blocks, groups = -(-rows // ROWS), -(-columns // COLUMNS)
        words = flat.view("<u2").reshape(blocks, groups, WORDS, ROWS)
        indexes = (words[:, :, :, None] >> _SHIFTS[:, None]) & 31  # (blocks, groups, words, 3, rows)
        last = np.bitwise_or.reduce((words >> np.uint16(15)) << _LAST[:, None], axis=2)
        illegal = np.array((indexes > 26).any(axis=3))
        illegal[:, :, 0] |= last > 26  # the sixteenth counts with its group's first word
        self._refuse(words, illegal)
        every = np.concatenate([indexes.reshape(blocks, groups, INDEXES - 1, ROWS), last[:, :, None]], axis=2)
        trits = every[..., None] // _POWERS % 3  # (blocks, groups, indexes, rows, 3)
        grid = trits.transpose(0, 3, 1, 2, 4).reshape(blocks * ROWS, -1)
        return Ternary(grid[:rows, :columns].astype(np.int8) - np.int8(1), np.ones((1, 1), np.float32))

    def _refuse(self, words: npt.NDArray[np.uint16], illegal: npt.NDArray[np.bool_]) -> None:
        """Raise for the first word that holds an index above 26."""
        if illegal.any():
            place = int(np.argmax(illegal))
            value = int(words.reshape(-1)[place])
            raise BitsimError(f"{self.name}: word {place:,}: {value:#06x} holds no ternary code")
