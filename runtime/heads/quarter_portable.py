"""Any CPU: a byte is the address of the sum of its four columns, eight rows at once in registers."""

from typing import Any

import numpy as np

from ..compile import inlined, inner
from ..kernels.kernel import Activations, Int16, Int32, Packed, prepares, share
from ..simd.vector import I16X16, splat, store
from .quarter_codes import COLUMNS, ROWS
from .quarter_kernel import QuarterKernel, multiplies_codes
from .quarter_sums import MASKS, nibble_sums

ENTRIES = 256  # of a group's table
IN_CACHE = 40  # groups whose tables are in first-level cache together: 20 kB
AT_ONCE = 8  # rows whose sums are in registers


@prepares
def prepare(x: Activations, tables: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, groups, 256)."""
    masks = MASKS
    tokens, groups = x.shape[0], x.shape[1] // COLUMNS
    first, last = share(groups, thread, threads)
    upper = np.zeros(16, np.int16)
    for token in range(tokens):
        for group in range(first, last):
            low = nibble_sums(x, token, group * COLUMNS, masks)
            store(upper, 0, nibble_sums(x, token, group * COLUMNS + 2, masks))
            place = (token * groups + group) * ENTRIES
            for entry in range(16):
                store(tables, place + 16 * entry, low + splat(I16X16, upper[entry]))


@inlined
def entry(tables: Int16, table: Any, codes: Packed, place: Any) -> Any:
    """Return the sum of the byte at a place; unsigned, so that nothing is compared with 0."""
    return tables[table + np.uint64(codes[place])]


@inner
def eight_rows(codes: Packed, place: int, count: int, tables: Int16, table: int, sums: Int32, row: int) -> None:
    """Add `count` groups to the sums of the rows at eight places, even and odd ones of four."""
    s0, s1, s2, s3 = sums[row], sums[row + 32], sums[row + 1], sums[row + 33]
    s4, s5, s6, s7 = sums[row + 2], sums[row + 34], sums[row + 3], sums[row + 35]
    byte, start = np.uint64(place), np.uint64(table)
    for _ in range(count):
        s0 += entry(tables, start, codes, byte)
        s1 += entry(tables, start, codes, byte + np.uint64(1))
        s2 += entry(tables, start, codes, byte + np.uint64(2))
        s3 += entry(tables, start, codes, byte + np.uint64(3))
        s4 += entry(tables, start, codes, byte + np.uint64(4))
        s5 += entry(tables, start, codes, byte + np.uint64(5))
        s6 += entry(tables, start, codes, byte + np.uint64(6))
        s7 += entry(tables, start, codes, byte + np.uint64(7))
        byte += np.uint64(ROWS)
        start += np.uint64(ENTRIES)
    sums[row], sums[row + 32], sums[row + 1], sums[row + 33] = s0, s1, s2, s3
    sums[row + 2], sums[row + 34], sums[row + 3], sums[row + 35] = s4, s5, s6, s7


@multiplies_codes
def product(codes: Packed, tables: Int16, groups: int, tokens: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks; see `QuarterKernel`."""
    sums[: tokens * count * ROWS] = 0
    for token in range(tokens):
        for group in range(0, groups, IN_CACHE):
            table = (token * groups + group) * ENTRIES
            for step in range(count):
                place = ((first + step) * groups + group) * ROWS
                for row in range(0, ROWS, AT_ONCE):
                    here = (token * count + step) * ROWS + row // 2
                    eight_rows(codes, place + row, min(IN_CACHE, groups - group), tables, table, sums, here)


def table_elements(groups: int) -> int:
    """Return the int16 elements of the tables of a token."""
    return groups * ENTRIES


KERNEL = QuarterKernel("portable", frozenset(), prepare, product, table_elements)
