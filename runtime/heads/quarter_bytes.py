"""AVX2 and NEON: 32 rows of two-bit codes look up the bytes of sums of two activations.

Each sum is two bytes, 32 high + low, looked up and added apart: vpshufb and tbl have tables of 16 bytes. After four
nibbles the bytes are widened: taken as 16-bit lanes of an even and an odd byte, the lanes are added up, and so are the
lanes shifted right by 8; the even bytes' sum is the first less 256 times the second, modulo 2^16. For 256 weights there
are 2 shifts, 4 masks, 8 lookups, 6 adds, 6 operations of widening.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..kernels.kernel import Activations, Int16, Int32, Packed, prepares, share
from ..simd import avx2, neon
from ..simd.vector import I16X16, U8X16, U8X32, add_into, load, prefetch, reinterpret, splat, store, widen_unsigned
from .quarter_codes import COLUMNS, ROWS
from .quarter_kernel import QuarterKernel, multiplies_codes
from .quarter_sums import LARGEST, MASKS, nibble_sums

Bytes = npt.NDArray[np.uint8]
Register = Any

TABLES = 64  # bytes of the tables of a group: the low nibble's low and high bytes, then the high nibble's
HALF = 32  # bytes in a register, half a row block
BIAS = LARGEST // 32  # added to high bytes, so that they are not negative: at most 48, four of them 192
AHEAD = 32  # groups asked for before they are used
GROUPS_IN_INT16 = 2 * 256  # 256 times four nibbles of at most 192


@prepares
def prepare(x: Activations, tables: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: bytes (tokens, groups, 2, 2, 16)."""
    masks, bytes_ = MASKS, tables.view(np.uint8)
    tokens, groups = x.shape[0], x.shape[1] // COLUMNS
    first, last = share(groups, thread, threads)
    sums = np.zeros(16, np.int16)
    for token in range(tokens):
        for group in range(first, last):
            for half in range(2):
                place = (token * groups + group) * TABLES + 32 * half
                store(sums, 0, nibble_sums(x, token, group * COLUMNS + 2 * half, masks))
                for entry in range(16):
                    bytes_[place + entry] = sums[entry] & 31
                    bytes_[place + 16 + entry] = (sums[entry] >> 5) + BIAS


@inlined
def shuffled(tables: Bytes, place: int, indexes: Register) -> Register:
    """Look up 32 bytes with vpshufb."""
    return avx2.shuffle(avx2.load_twice(tables, place), indexes)


@inlined
def looked_up(tables: Bytes, place: int, indexes: Register) -> Register:
    """Look up 32 bytes with tbl."""
    return neon.look_up(load(U8X16, tables, place), indexes)


@inlined
def group_sums(look_up: Any, tables: Bytes, table: int, codes: Register) -> tuple[Register, Register]:
    """Return the low and the high bytes of the sums of a group."""
    low, high = codes & 15, reinterpret(U8X32, reinterpret(I16X16, codes) >> 4) & 15
    low_bytes = look_up(tables, table, low) + look_up(tables, table + 32, high)
    return low_bytes, look_up(tables, table + 16, low) + look_up(tables, table + 48, high)


@inlined
def add_two(look_up: Any, codes: Packed, place: int, tables: Bytes, table: int, totals: Any) -> Any:
    """Add two groups of 32 rows to the totals: of low bytes all and odd, of high bytes all and odd."""
    low, high = group_sums(look_up, tables, table, load(U8X32, codes, place))
    low_1, high_1 = group_sums(look_up, tables, table + TABLES, load(U8X32, codes, place + ROWS))
    lows, highs = reinterpret(I16X16, low + low_1), reinterpret(I16X16, high + high_1)
    return totals[0] + lows, totals[1] + (lows >> 8), totals[2] + highs, totals[3] + (highs >> 8)


@inlined
def add_totals(sums: Int32, place: int, totals: Any, groups: int) -> None:
    """Add the totals of half a block to its sums: 16 even rows, and 16 odd ones 32 further on."""
    even_low, even_high = totals[0] - (totals[1] << 8), totals[2] - (totals[3] << 8)
    offset = 2 * BIAS * 32 * groups
    add_into(sums, place, widen_unsigned(even_low) + (widen_unsigned(even_high) << 5) - offset)
    add_into(sums, place + 32, widen_unsigned(totals[1]) + (widen_unsigned(totals[3]) << 5) - offset)


@inlined
def one_block(look_up: Any, codes: Packed, tables: Bytes, groups: int, start: int, sums: Int32, block: int) -> None:
    """Write the sums of a row block; the tables begin at `start`."""
    for place in range(0, ROWS, 16):
        store(sums, place, widen_unsigned(splat(I16X16, 0)))
    for first in range(0, groups, GROUPS_IN_INT16):
        last = min(first + GROUPS_IN_INT16, groups)
        zero = splat(I16X16, 0)
        upper = lower = zero, zero, zero, zero
        for group in range(first, last, 2):
            place, table = (block * groups + group) * ROWS, start + group * TABLES
            prefetch(codes, place + AHEAD * ROWS)
            prefetch(codes, place + AHEAD * ROWS + 64)
            upper = add_two(look_up, codes, place, tables, table, upper)
            lower = add_two(look_up, codes, place + HALF, tables, table, lower)
        add_totals(sums, 0, upper, last - first)
        add_totals(sums, 16, lower, last - first)


@inner
def one_block_shuffled(codes: Packed, tables: Bytes, groups: int, start: int, sums: Int32, block: int) -> None:
    """Write the sums of a row block with vpshufb."""
    one_block(shuffled, codes, tables, groups, start, sums, block)


@inner
def one_block_looked_up(codes: Packed, tables: Bytes, groups: int, start: int, sums: Int32, block: int) -> None:
    """Write the sums of a row block with tbl."""
    one_block(looked_up, codes, tables, groups, start, sums, block)


@multiplies_codes
def product_avx2(codes: Packed, tables: Int16, groups: int, tokens: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks; see `QuarterKernel`."""
    bytes_ = tables.view(np.uint8)
    for token in range(tokens):
        for step in range(count):
            here = sums[(token * count + step) * ROWS :]
            one_block_shuffled(codes, bytes_, groups, token * groups * TABLES, here, first + step)


@multiplies_codes
def product_neon(codes: Packed, tables: Int16, groups: int, tokens: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks; see `QuarterKernel`."""
    bytes_ = tables.view(np.uint8)
    for token in range(tokens):
        for step in range(count):
            here = sums[(token * count + step) * ROWS :]
            one_block_looked_up(codes, bytes_, groups, token * groups * TABLES, here, first + step)


def table_elements(groups: int) -> int:
    """Return the int16 elements of the tables of a token."""
    return groups * TABLES // 2


AVX2 = QuarterKernel("avx2", frozenset({"avx2"}), prepare, product_avx2, table_elements)
NEON = QuarterKernel("neon", frozenset({"neon"}), prepare, product_neon, table_elements)
