"""AVX-512: 32 rows at once look up sums of three activations with vpermw (48 weights in five 16-bit words).

Three weights make one of 27 patterns, and vpermw takes the low five bits of each lane as index into 32 entries: the
word itself is the first index, shifted right by 5 the second, by 10 the third; the uppermost bits of five words make a
sixteenth. For 1,536 weights that is 5 loads, 16 permutes, 16 adds and 15 shifts; several tokens share the loads and
shifts (`trit48_several`). From 25 tokens on the tables of `four_russians` are quicker.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.trit48 import COLUMNS, INDEXES, ROWS, WORDS
from ..simd.avx512 import permute
from ..simd.vector import I16X32, add_into, load, prefetch, shift_in, splat, store, widen
from . import four_russians as russians
from . import trit48_several, trit48_tables
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares
from .trit48_places import write_places
from .trit48_tables import TABLES, build_tables

Words = npt.NDArray[np.uint16]
Register = Any

GROUPS_IN_INT16 = 5  # 5 x 16 lookups of at most 3 x 128 = 30,720 < 32,768
STRIDE = WORDS * ROWS  # words of a group of a row block
TOGETHER = 4  # row blocks that one token is multiplied by at once, with the same tables in registers
AHEAD = 13  # groups of weights asked for before they are used
LEAST_SEVERAL, LEAST_WIDE = 2, 25  # tokens from which on indexes are shared, and then the Four Russians are quicker


@inlined
def three(total: Register, word: Register, t0: Register, t1: Register, t2: Register) -> Register:
    """Add to 32 totals the sums of the nine weights in a word's lower 15 bits."""
    total = total + permute(t0, word)
    total = total + permute(t1, word >> 5)
    return total + permute(t2, word >> 10)


@inlined
def table(tables: Int16, place: int, slot: int) -> Register:
    """Return one of a group's sixteen tables."""
    return load(I16X32, tables, place + slot * ROWS)


@inlined
def set_to_zero(sums: Int32) -> None:
    """Set 128 sums to zero."""
    for place in range(0, 128, ROWS):
        store(sums, place, widen(splat(I16X32, 0)))


@inner
def one_token_four_blocks(packed: Words, groups: int, tables: Int16, sums: Int32, block: int) -> None:
    """Write 128 int32 sums of one token."""
    stride = groups * STRIDE
    group = 0
    set_to_zero(sums)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        # Near the end of these four blocks the next four are asked for.
        ahead = AHEAD * STRIDE + (3 * stride if end + AHEAD > groups else 0)
        s0 = s1 = s2 = s3 = splat(I16X32, 0)
        while group < end:
            place = group * TABLES
            e0 = e1 = e2 = e3 = splat(I16X32, 0)  # the sixteenth indexes
            for k in range(WORDS):
                t0, t1 = table(tables, place, 3 * k), table(tables, place, 3 * k + 1)
                t2 = table(tables, place, 3 * k + 2)
                word = block * stride + group * STRIDE + k * ROWS
                prefetch(packed, word + ahead)
                prefetch(packed, word + stride + ahead)
                prefetch(packed, word + 2 * stride + ahead)
                prefetch(packed, word + 3 * stride + ahead)
                w0, w1 = load(I16X32, packed, word), load(I16X32, packed, word + stride)
                w2, w3 = load(I16X32, packed, word + 2 * stride), load(I16X32, packed, word + 3 * stride)
                s0, e0 = three(s0, w0, t0, t1, t2), shift_in(e0, w0, 1)
                s1, e1 = three(s1, w1, t0, t1, t2), shift_in(e1, w1, 1)
                s2, e2 = three(s2, w2, t0, t1, t2), shift_in(e2, w2, 1)
                s3, e3 = three(s3, w3, t0, t1, t2), shift_in(e3, w3, 1)
            t = table(tables, place, INDEXES - 1)
            s0, s1, s2, s3 = s0 + permute(t, e0), s1 + permute(t, e1), s2 + permute(t, e2), s3 + permute(t, e3)
            group += 1
        add_into(sums, 0, widen(s0))
        add_into(sums, 32, widen(s1))
        add_into(sums, 64, widen(s2))
        add_into(sums, 96, widen(s3))


@inner
def one_token_one_block(packed: Words, groups: int, tables: Int16, sums: Int32, block: int) -> None:
    """Write 32 int32 sums of one token."""
    group = 0
    set_to_zero(sums)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        total = splat(I16X32, 0)
        while group < end:
            place = group * TABLES
            sixteenth = splat(I16X32, 0)
            for k in range(WORDS):
                word = load(I16X32, packed, (block * groups + group) * STRIDE + k * ROWS)
                t0, t1 = table(tables, place, 3 * k), table(tables, place, 3 * k + 1)
                total = three(total, word, t0, t1, table(tables, place, 3 * k + 2))
                sixteenth = shift_in(sixteenth, word, 1)
            total = total + permute(table(tables, place, INDEXES - 1), sixteenth)
            group += 1
        add_into(sums, 0, widen(total))


@inner
def one_token(packed: Words, groups: int, tables: Int16, out: Int32, sums: Int32, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of the only token's products."""
    rows = out.shape[1]
    block = first
    while block < last:
        if last - block >= TOGETHER:
            one_token_four_blocks(packed, groups, tables, sums, block)
            step = TOGETHER
        else:
            one_token_one_block(packed, groups, tables, sums, block)
            step = 1
        place = block * ROWS
        for row in range(min(step * ROWS, rows - place)):
            out[0, place + row] = sums[row]
        block += step


@prepares
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables of some tokens; see `Compiled`."""
    build_tables(x, prepared, thread, threads)


@multiplies
def one(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of the only token; see `Compiled`."""
    one_token(packed.view(np.uint16), -(-columns // COLUMNS), prepared, out, scratch.view(np.int32), first, last)


@multiplies
def several(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of several tokens; see `Compiled`."""
    trit48_several.multiply(I16X32, packed, prepared, columns, out, scratch, (first, last))


@prepares
def prepare_wide(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Turn a thread's share of x for tables of 32 lanes; see `Compiled`."""
    russians.transpose(I16X32, x, prepared, thread, threads)


@multiplies
def wide(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of many tokens; see `Compiled`."""
    russians.multiply(write_places, I16X32, packed, prepared, columns, out, scratch, (first, last))


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory: 128 int32 sums."""
    return 256


ONE = Compiled(prepare, one, trit48_tables.elements, scratch_elements, TOGETHER)
WIDE = russians.method(prepare_wide, wide, 32)
KERNEL = Kernel(
    name="avx512",
    packing="trit48",
    needs=frozenset({"avx512f", "avx512bw"}),
    methods=((1, ONE), (LEAST_SEVERAL, trit48_several.method(prepare, several)), (LEAST_WIDE, WIDE)),
)
