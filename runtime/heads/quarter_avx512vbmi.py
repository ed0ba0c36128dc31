"""AVX-512 with its byte instructions (VBMI): `quarter_avx512`, and for four sequences at once a quicker lookup.

vpermb, one instruction of the two a cycle that 512 bits allow where vpermw is two, looks up an entry as its two bytes;
see `kernels.trit48_lookup`. Sequences share the indexes.
"""

from typing import Any

import numpy as np

from ..compile import inlined, inner
from ..kernels.kernel import Int16, Int32, Packed
from ..simd.avx512 import permute_bytes, take_bytes
from ..simd.vector import I16X32, U8X64, load, reinterpret, splat
from .quarter_avx512 import GROUPS_IN_INT16, TABLES, add_widened, one_token, set_to_zero
from .quarter_avx512 import KERNEL as PLAIN
from .quarter_codes import ROWS
from .quarter_kernel import QuarterKernel, multiplies_codes

Register = Any

FOUR = 4  # sequences
# For each nibble of a lane's two bytes: from which of 64 bits on each byte is taken, so that the nibble is bits 1 to 4.
_FIRST_BITS = (16 * (np.arange(32) % 4) + np.array([-1, 3, 7, 11])[:, None]) % 64
NIBBLES = (_FIRST_BITS * 0x0101).astype(np.int16).reshape(-1)
_TWICE_INDEX, _UPPER_BYTE = 0x1E1E, 0x0100


@inlined
def indexes_of(codes: Register, nibbles: Int16, nibble: int) -> Register:
    """Return where the entries that a nibble of 32 lanes points at have their bytes, 2i and 2i + 1."""
    taken = take_bytes(codes, load(I16X32, nibbles, nibble * 32))
    return reinterpret(U8X64, (taken & splat(I16X32, _TWICE_INDEX)) | splat(I16X32, _UPPER_BYTE))


@inlined
def all_indexes(codes: Packed, place: int, nibbles: Int16) -> Any:
    """Return the indexes of the four nibbles of 32 lanes."""
    here = load(I16X32, codes, place)
    return (
        indexes_of(here, nibbles, 0),
        indexes_of(here, nibbles, 1),
        indexes_of(here, nibbles, 2),
        indexes_of(here, nibbles, 3),
    )


@inlined
def add(even: Register, odd: Register, indexes: Any, low: Register, high: Register) -> Any:
    """Add to the totals of the rows in even and in odd bytes."""
    even = even + reinterpret(I16X32, permute_bytes(low, indexes[0]))
    odd = odd + reinterpret(I16X32, permute_bytes(low, indexes[2]))
    even = even + reinterpret(I16X32, permute_bytes(high, indexes[1]))
    return even, odd + reinterpret(I16X32, permute_bytes(high, indexes[3]))


@inlined
def add_both(totals: Any, one: Any, two: Any, tables: Int16, place: int) -> Any:
    """Add to a sequence's totals of two row blocks."""
    low, high = load(U8X64, tables, place), load(U8X64, tables, place + 32)
    return *add(totals[0], totals[1], one, low, high), *add(totals[2], totals[3], two, low, high)


@inlined
def flush(sums: Int32, place: int, totals: Any) -> None:
    """Add a sequence's totals of two row blocks to its sums."""
    add_widened(sums, place, totals[0], totals[1])
    add_widened(sums, place + ROWS, totals[2], totals[3])


@inner
def four_sequences(
    codes: Packed, tables: Int16, groups: int, start: int, sums: Int32, apart: int, block: int, nibbles: Int16
) -> None:
    """Write the sums of two row blocks, `apart` from each other, of four sequences whose tables begin at `start`."""
    zero, stride = splat(I16X32, 0), groups * TABLES
    for sequence in range(FOUR):
        set_to_zero(sums[sequence * apart :], 2 * ROWS)
    for first in range(0, groups, GROUPS_IN_INT16):
        a = b = c = d = zero, zero, zero, zero
        for group in range(first, min(first + GROUPS_IN_INT16, groups)):
            code, place = (block * groups + group) * ROWS, start + group * TABLES
            one = all_indexes(codes, code, nibbles)
            two = all_indexes(codes, code + groups * ROWS, nibbles)
            a = add_both(a, one, two, tables, place)
            b = add_both(b, one, two, tables, place + stride)
            c = add_both(c, one, two, tables, place + 2 * stride)
            d = add_both(d, one, two, tables, place + 3 * stride)
        flush(sums, 0, a)
        flush(sums, apart, b)
        flush(sums, 2 * apart, c)
        flush(sums, 3 * apart, d)


@multiplies_codes
def product(codes: Packed, tables: Int16, groups: int, tokens: int, sums: Int32, first: int, count: int) -> None:
    """Write the sums of some row blocks; see `QuarterKernel`."""
    nibbles, apart = NIBBLES, count * ROWS
    whole, pairs = tokens // FOUR * FOUR, count // 2 * 2
    for token in range(0, whole, FOUR):
        for step in range(0, pairs, 2):
            here = sums[token * apart + step * ROWS :]
            four_sequences(codes, tables, groups, token * groups * TABLES, here, apart, first + step, nibbles)
    for token in range(tokens):
        done = pairs if token < whole else 0
        one_token(codes, tables, groups, token, sums[token * apart + done * ROWS :], first + done, count - done)


KERNEL = QuarterKernel("avx512vbmi", PLAIN.needs | {"avx512vbmi"}, PLAIN.prepare, product, PLAIN.table_elements)
