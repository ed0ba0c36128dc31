"""AVX-512: 32 rows at once look up sums of three activations with vpermw (48 weights in five 16-bit words).

Three weights make one of 27 patterns, and vpermw takes the low five bits of each lane as index into 32 entries: the
word itself is the first index, shifted right by 5 the second, by 10 the third; the uppermost bits of five words make a
sixteenth. For 1,536 weights that is 5 loads, 16 permutes, 16 adds and 15 shifts. From 13 tokens on the tables of
`four_russians` are quicker.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.trit48 import COLUMNS, INDEXES, ROWS, WORDS
from ..simd.avx512 import permute
from ..simd.vector import I16X16, I16X32, add_into, broadcast, load, prefetch, shift_in, splat, store, widen
from . import four_russians as russians
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share
from .trit48_places import write_places

Words = npt.NDArray[np.uint16]
Register = Any

GROUPS_IN_INT16 = 5  # 5 x 16 lookups of at most 3 x 128 = 30,720 < 32,768
TABLES = INDEXES * ROWS  # elements of a group's tables
STRIDE = WORDS * ROWS  # words of a group of a row block
TOGETHER = 4  # row blocks that one token is multiplied by at once, with the same tables in registers
AHEAD = 13  # groups of weights asked for before they are used
NARROW, WIDE = 13, 17  # tokens from which on the tables of the Four Russians are quicker, with 16 or 32 lanes

# For each of three weights, the entries of a table to which it is added, and from which it is taken.
_PATTERNS = np.arange(27)
_SIGNS = np.stack([_PATTERNS // 3**weight % 3 - 1 for weight in range(3)])
_ADDED_AND_TAKEN = np.zeros((3, 2, ROWS), np.int16)
_ADDED_AND_TAKEN[:, 0, :27], _ADDED_AND_TAKEN[:, 1, :27] = -1 * (_SIGNS == 1), -1 * (_SIGNS == -1)
MASKS = _ADDED_AND_TAKEN.reshape(-1)


@inlined
def table_of(x: Int16, place: int, masks: Int16) -> Register:
    """Return the 27 sums of three activations in 32 lanes; the last five are 0."""
    first, second = broadcast(I16X32, x, place), broadcast(I16X32, x, place + 1)
    third = broadcast(I16X32, x, place + 2)
    sums = (first & load(I16X32, masks, 0)) - (first & load(I16X32, masks, ROWS))
    sums = sums + (second & load(I16X32, masks, 2 * ROWS)) - (second & load(I16X32, masks, 3 * ROWS))
    return sums + (third & load(I16X32, masks, 4 * ROWS)) - (third & load(I16X32, masks, 5 * ROWS))


@inner
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, indexes, 32)."""
    masks = MASKS
    tokens, columns = x.shape
    groups = -(-columns // COLUMNS)
    first, last = share(groups, thread, threads)
    wide = np.zeros(COLUMNS, np.int16)
    for token in range(tokens):
        for group in range(first, last):
            here = x[token, group * COLUMNS : (group + 1) * COLUMNS]
            wide[: len(here)] = here
            wide[len(here) :] = 0
            for index in range(INDEXES):
                place = ((token * groups + group) * INDEXES + index) * ROWS
                store(prepared, place, table_of(wide, 3 * index, masks))


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
def one_token_four_blocks(packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int) -> None:
    """Write 128 int32 sums of one token; the tables begin at `start`."""
    stride = groups * STRIDE
    group = 0
    set_to_zero(sums)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        # Near the end of these four blocks the next four are asked for.
        ahead = AHEAD * STRIDE + (3 * stride if end + AHEAD > groups else 0)
        s0 = s1 = s2 = s3 = splat(I16X32, 0)
        while group < end:
            place = start + group * TABLES
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
def one_token_one_block(packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int) -> None:
    """Write 32 int32 sums of one token."""
    group = 0
    set_to_zero(sums)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        total = splat(I16X32, 0)
        while group < end:
            place = start + group * TABLES
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
def one_token(
    packed: Words, groups: int, tables: Int16, token: int, out: Int32, sums: Int32, first: int, last: int
) -> None:
    """Write the row blocks from `first` to before `last` of one token's products."""
    start = token * groups * TABLES
    rows = out.shape[1]
    block = first
    while block < last:
        if last - block >= TOGETHER:
            one_token_four_blocks(packed, groups, tables, start, sums, block)
            step = TOGETHER
        else:
            one_token_one_block(packed, groups, tables, start, sums, block)
            step = 1
        place = block * ROWS
        for row in range(min(step * ROWS, rows - place)):
            out[token, place + row] = sums[row]
        block += step


@inner
def two_tokens_two_blocks(
    packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int, blocks: int
) -> None:
    """Write 64 int32 sums for each of two tokens whose tables follow each other; if blocks is 1, 32 of them twice."""
    stride = groups * STRIDE * (blocks - 1)
    other = groups * TABLES
    group = 0
    set_to_zero(sums)
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        a0 = a1 = b0 = b1 = splat(I16X32, 0)
        while group < end:
            first = start + group * TABLES
            second = first + other
            e0 = e1 = splat(I16X32, 0)
            for k in range(WORDS):
                word = (block * groups + group) * STRIDE + k * ROWS
                w0, w1 = load(I16X32, packed, word), load(I16X32, packed, word + stride)
                e0, e1 = shift_in(e0, w0, 1), shift_in(e1, w1, 1)
                t0, t1 = table(tables, first, 3 * k), table(tables, first, 3 * k + 1)
                t2 = table(tables, first, 3 * k + 2)
                a0, a1 = three(a0, w0, t0, t1, t2), three(a1, w1, t0, t1, t2)
                t0, t1 = table(tables, second, 3 * k), table(tables, second, 3 * k + 1)
                t2 = table(tables, second, 3 * k + 2)
                b0, b1 = three(b0, w0, t0, t1, t2), three(b1, w1, t0, t1, t2)
            t = table(tables, first, INDEXES - 1)
            a0, a1 = a0 + permute(t, e0), a1 + permute(t, e1)
            t = table(tables, second, INDEXES - 1)
            b0, b1 = b0 + permute(t, e0), b1 + permute(t, e1)
            group += 1
        add_into(sums, 0, widen(a0))
        add_into(sums, 32, widen(a1))
        add_into(sums, 64, widen(b0))
        add_into(sums, 96, widen(b1))


@inner
def few_tokens(packed: Words, groups: int, tables: Int16, out: Int32, sums: Int32, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of several tokens, the weights read from memory once."""
    tokens, rows = out.shape
    for block in range(first, last, 2):
        blocks = min(2, last - block)
        place = block * ROWS
        present = min(blocks * ROWS, rows - place)
        for token in range(0, tokens - 1, 2):
            two_tokens_two_blocks(packed, groups, tables, token * groups * TABLES, sums, block, blocks)
            for row in range(present):
                out[token, place + row] = sums[row]
                out[token + 1, place + row] = sums[64 + row]
        if tokens % 2:
            one_token(packed, groups, tables, tokens - 1, out, sums, block, block + blocks)


@prepares
def prepare_few(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables of a few tokens; see `Compiled`."""
    build_tables(x, prepared, thread, threads)


@multiplies
def few(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of a few tokens; see `Compiled`."""
    words, sums, groups = packed.view(np.uint16), scratch.view(np.int32), -(-columns // COLUMNS)
    if out.shape[0] == 1:
        one_token(words, groups, prepared, 0, out, sums, first, last)
    else:
        few_tokens(words, groups, prepared, out, sums, first, last)


@prepares
def prepare_narrow(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Turn a thread's share of x for tables of 16 lanes; see `Compiled`."""
    russians.transpose(I16X16, x, prepared, thread, threads)


@multiplies
def narrow(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of up to 16 tokens; see `Compiled`."""
    russians.multiply(write_places, I16X16, packed, prepared, columns, out, scratch, (first, last))


@prepares
def prepare_wide(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Turn a thread's share of x for tables of 32 lanes; see `Compiled`."""
    russians.transpose(I16X32, x, prepared, thread, threads)


@multiplies
def wide(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of many tokens; see `Compiled`."""
    russians.multiply(write_places, I16X32, packed, prepared, columns, out, scratch, (first, last))


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the tables of a few tokens."""
    return tokens * -(-columns // COLUMNS) * TABLES


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory for a few tokens: 128 int32 sums."""
    return 256


KERNEL = Kernel(
    name="avx512",
    packing="trit48",
    needs=frozenset({"avx512f", "avx512bw"}),
    methods=(
        (1, Compiled(prepare_few, few, prepared_elements, scratch_elements, TOGETHER)),
        (NARROW, russians.method(prepare_narrow, narrow, 16)),
        (WIDE, russians.method(prepare_wide, wide, 32)),
    ),
)
