"""AVX-512: 64 rows of two-bit codes look up sums of two activations with vpermw.

vpermw takes the low five bits of a 16-bit lane as index, and a nibble has four: both halves of a table are the same, so
that the fifth bit does not matter. A lane is two rows' bytes; for 256 weights there are 4 permutes, 4 adds, 3 shifts.
"""

from typing import Any

from ..compile import inlined, inner
from ..kernels.kernel import Activations, Int16, Int32, Packed, prepares, share
from ..simd.avx512 import permute
from ..simd.vector import I16X32, add_into, load, prefetch, splat, store, widen
from .quarter_codes import COLUMNS, ROWS
from .quarter_kernel import QuarterKernel, multiplies_codes
from .quarter_sums import LARGEST, MASKS, nibble_sums

Register = Any

TABLES = 64  # int16 elements of the tables of a group: two of 32
GROUPS_IN_INT16 = 32767 // (2 * LARGEST)
AHEAD = 32  # groups asked for before they are used
AT_ONCE = 4  # row blocks that share the load of a table


@prepares
def prepare(x: Activations, tables: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, groups, 2, 32)."""
    masks = MASKS
    tokens, groups = x.shape[0], x.shape[1] // COLUMNS
    first, last = share(groups, thread, threads)
    for token in range(tokens):
        for group in range(first, last):
            place = (token * groups + group) * TABLES
            for half in range(2):
                sums = nibble_sums(x, token, group * COLUMNS + 2 * half, masks)
                store(tables, place + 32 * half, sums)
                store(tables, place + 32 * half + 16, sums)


@inlined
def add(even: Register, odd: Register, codes: Register, low: Register, high: Register) -> tuple[Register, Register]:
    """Add to the totals of the rows in even and in odd bytes."""
    even, odd = even + permute(low, codes), odd + permute(low, codes >> 8)
    return even + permute(high, codes >> 4), odd + permute(high, codes >> 12)


@inlined
def set_to_zero(sums: Int32, count: int) -> None:
    """Set sums to zero."""
    for place in range(0, count, 32):
        store(sums, place, widen(splat(I16X32, 0)))


@inlined
def add_widened(sums: Int32, place: int, even: Register, odd: Register) -> None:
    """Add totals to a block's sums."""
    add_into(sums, place, widen(even))
    add_into(sums, place + 32, widen(odd))


@inner
def four_blocks(codes: Packed, tables: Int16, groups: int, start: int, sums: Int32, block: int) -> None:
    """Write the sums of four row blocks, the tables of a group loaded once; they begin at `start`."""
    stride = groups * ROWS
    group = 0
    set_to_zero(sums, 4 * ROWS)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        # Near the end of these four blocks the next four are asked for.
        ahead = AHEAD * ROWS + (3 * stride if end + AHEAD > groups else 0)
        a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat(I16X32, 0)
        while group < end:
            place = block * stride + group * ROWS
            low, high = load(I16X32, tables, start + group * TABLES), load(I16X32, tables, start + group * TABLES + 32)
            prefetch(codes, place + ahead)
            prefetch(codes, place + stride + ahead)
            prefetch(codes, place + 2 * stride + ahead)
            prefetch(codes, place + 3 * stride + ahead)
            a0, a1 = add(a0, a1, load(I16X32, codes, place), low, high)
            b0, b1 = add(b0, b1, load(I16X32, codes, place + stride), low, high)
            c0, c1 = add(c0, c1, load(I16X32, codes, place + 2 * stride), low, high)
            d0, d1 = add(d0, d1, load(I16X32, codes, place + 3 * stride), low, high)
            group += 1
        add_widened(sums, 0, a0, a1)
        add_widened(sums, ROWS, b0, b1)
        add_widened(sums, 2 * ROWS, c0, c1)
        add_widened(sums, 3 * ROWS, d0, d1)


@inner
def one_block(codes: Packed, tables: Int16, groups: int, start: int, sums: Int32, block: int) -> None:
    """Write the sums of a row block."""
    group = 0
    set_to_zero(sums, ROWS)
    while group < groups:
        even = odd = splat(I16X32, 0)
        for here in range(group, min(group + GROUPS_IN_INT16, groups)):
            table = start + here * TABLES
            low, high = load(I16X32, tables, table), load(I16X32, tables, table + 32)
            even, odd = add(even, odd, load(I16X32, codes, (block * groups + here) * ROWS), low, high)
        group += GROUPS_IN_INT16
        add_widened(sums, 0, even, odd)


@inner
def one_token(codes: Packed, tables: Int16, groups: int, token: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks for one token."""
    start = token * groups * TABLES
    for step in range(0, count, AT_ONCE):
        here = sums[step * ROWS :]
        if count - step >= AT_ONCE:
            four_blocks(codes, tables, groups, start, here, first + step)
        else:
            for rest in range(count - step):
                one_block(codes, tables, groups, start, here[rest * ROWS :], first + step + rest)


@multiplies_codes
def product(codes: Packed, tables: Int16, groups: int, tokens: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks; see `QuarterKernel`."""
    for token in range(tokens):
        one_token(codes, tables, groups, token, sums[token * count * ROWS :], first, count)


def table_elements(groups: int) -> int:
    """Return the int16 elements of the tables of a token."""
    return groups * TABLES


KERNEL = QuarterKernel("avx512", frozenset({"avx512f", "avx512bw"}), prepare, product, table_elements)
