"""Two-bit codes of the screen's rows: the levels -3, -1, 1, 3, and how they lie so that every CPU's lookups like them.

A byte holds four neighbouring columns of a row, the first in the lowest bits, so a nibble is two columns: the index of
one of 16 sums. Bytes lie as (row block of 64, column group of 4, 64 rows); rows r and r + 32 of a block are neighbours,
so that the even and the odd bytes of a register are 32 rows in order each. Rows are filled up to a multiple of 64,
columns to a multiple of 8.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.int8]

ROWS = 64  # of a block
COLUMNS = 4  # of a group
GROUPS = 2  # the number of groups is a multiple of it
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)
# Row of a block at each of its 64 places.
_ORDER = np.arange(ROWS).reshape(2, ROWS // 2).T.reshape(-1)


def row_blocks(rows: int) -> int:
    """Return the number of row blocks."""
    return -(-rows // ROWS)


def column_groups(columns: int) -> int:
    """Return the number of column groups, even."""
    return -(-columns // (COLUMNS * GROUPS)) * GROUPS


def packed_bytes(rows: int, columns: int) -> int:
    """Return the bytes of the codes of a matrix."""
    return row_blocks(rows) * column_groups(columns) * ROWS


def pack(levels: Levels) -> Bytes:
    """Pack levels -3, -1, 1, 3, int8 (rows, columns), into uint8 (row blocks, column groups, 64)."""
    rows, columns = levels.shape
    blocks, groups = row_blocks(rows), column_groups(columns)
    codes = np.zeros((blocks * ROWS, groups * COLUMNS), np.uint8)
    codes[:rows, :columns] = (levels + 3) >> 1
    fields = codes.reshape(blocks, ROWS, groups, COLUMNS) << _SHIFTS
    packed: Bytes = np.bitwise_or.reduce(fields, axis=3)[:, _ORDER].transpose(0, 2, 1)
    return np.ascontiguousarray(packed)


def unpack(packed: Bytes, rows: int, columns: int) -> Levels:
    """Return the levels, int8 (rows, columns), of uint8 (row blocks, column groups, 64)."""
    blocks, groups = row_blocks(rows), column_groups(columns)
    in_order = packed.reshape(blocks, groups, ROWS).transpose(0, 2, 1)[:, np.argsort(_ORDER)]
    codes = ((in_order[..., None] >> _SHIFTS) & 3).reshape(blocks * ROWS, groups * COLUMNS)
    levels: Levels = 2 * codes[:rows, :columns].astype(np.int8) - np.int8(3)
    return levels
