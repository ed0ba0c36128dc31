"""Several tokens by trit48 matrices: four at a time by two row blocks, which share a word's indexes and a table's load.

Four tokens' tables stay in second-level cache while some row blocks follow each other; then those blocks, still in the
cache, meet the next four tokens. `entries` is how tables are loaded, and decides the lookup; see `trit48_lookup`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..entry import Entry
from ..packing.trit48 import COLUMNS, INDEXES, ROWS, WORDS
from ..simd.vector import I16X32, add_into, load, shift_in, splat, store, widen
from .kernel import Compiled, Int16, Int32, Packed
from .trit48_lookup import look_up
from .trit48_tables import TABLES, elements

Words = npt.NDArray[np.uint16]
Register = Any

GROUPS = 5  # whose totals fit in int16: 5 x 16 lookups of at most 3 x 128 = 30,720 < 32,768
STRIDE = WORDS * ROWS  # words of a group of a row block
FOUR = 4  # tokens whose tables are in use together
SUMS = FOUR * 2 * ROWS  # of four tokens and two row blocks
PIECE = 20  # row blocks that a thread takes at once


@inlined
def add_two(totals: Any, table: Register, words: Any, slot: int) -> Any:
    """Add to a token's 32 totals of each of two row blocks what a slot of their words points at."""
    return totals[0] + look_up(table, words[0], slot), totals[1] + look_up(table, words[1], slot)


@inlined
def add_four(entries: Any, totals: Any, tables: Int16, place: int, apart: int, words: Any, slot: int) -> Any:
    """Do `add_two` for four tokens, whose tables lie `apart`."""
    a, b, c, d = totals
    return (
        add_two(a, load(entries, tables, place), words, slot),
        add_two(b, load(entries, tables, place + apart), words, slot),
        add_two(c, load(entries, tables, place + 2 * apart), words, slot),
        add_two(d, load(entries, tables, place + 3 * apart), words, slot),
    )


@inlined
def flush(sums: Int32, token: int, totals: Any) -> None:
    """Add a token's totals of two row blocks to its sums."""
    add_into(sums, 2 * token * ROWS, widen(totals[0]))
    add_into(sums, (2 * token + 1) * ROWS, widen(totals[1]))


@inner
def four_tokens(
    entries: Any, packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int, blocks: int
) -> None:
    """Write the int32 sums (4, 64) of four tokens whose tables follow each other; if blocks is 1, 32 of them twice."""
    stride, apart = groups * STRIDE * (blocks - 1), groups * TABLES
    zero = splat(I16X32, 0)
    for place in range(0, SUMS, ROWS):
        store(sums, place, widen(zero))
    for first in range(0, groups, GROUPS):
        none = zero, zero
        totals = none, none, none, none
        for group in range(first, min(first + GROUPS, groups)):
            place, last = start + group * TABLES, none
            for k in range(WORDS):
                word = (block * groups + group) * STRIDE + k * ROWS
                words = load(I16X32, packed, word), load(I16X32, packed, word + stride)
                last = shift_in(last[0], words[0], 1), shift_in(last[1], words[1], 1)
                here = place + 3 * k * ROWS
                totals = add_four(entries, totals, tables, here, apart, words, 0)
                totals = add_four(entries, totals, tables, here + ROWS, apart, words, 1)
                totals = add_four(entries, totals, tables, here + 2 * ROWS, apart, words, 2)
            totals = add_four(entries, totals, tables, place + (INDEXES - 1) * ROWS, apart, last, 0)
        flush(sums, 0, totals[0])
        flush(sums, 1, totals[1])
        flush(sums, 2, totals[2])
        flush(sums, 3, totals[3])


@inner
def two_tokens(
    entries: Any, packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int, blocks: int
) -> None:
    """Write the int32 sums (2, 64) of two tokens; see `four_tokens`."""
    stride, apart = groups * STRIDE * (blocks - 1), groups * TABLES
    zero = splat(I16X32, 0)
    for place in range(0, SUMS // 2, ROWS):
        store(sums, place, widen(zero))
    for first in range(0, groups, GROUPS):
        one = two = zero, zero
        for group in range(first, min(first + GROUPS, groups)):
            place, last = start + group * TABLES, (zero, zero)
            for k in range(WORDS):
                word = (block * groups + group) * STRIDE + k * ROWS
                words = load(I16X32, packed, word), load(I16X32, packed, word + stride)
                last = shift_in(last[0], words[0], 1), shift_in(last[1], words[1], 1)
                for slot in range(3):
                    here = place + (3 * k + slot) * ROWS
                    one = add_two(one, load(entries, tables, here), words, slot)
                    two = add_two(two, load(entries, tables, here + apart), words, slot)
            here = place + (INDEXES - 1) * ROWS
            one = add_two(one, load(entries, tables, here), last, 0)
            two = add_two(two, load(entries, tables, here + apart), last, 0)
        flush(sums, 0, one)
        flush(sums, 1, two)


@inner
def one_token(
    entries: Any, packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int, blocks: int
) -> None:
    """Write the int32 sums (64) of one token; see `four_tokens`."""
    stride = groups * STRIDE * (blocks - 1)
    zero = splat(I16X32, 0)
    for place in range(0, SUMS // 4, ROWS):
        store(sums, place, widen(zero))
    for first in range(0, groups, GROUPS):
        totals = zero, zero
        for group in range(first, min(first + GROUPS, groups)):
            place, last = start + group * TABLES, (zero, zero)
            for k in range(WORDS):
                word = (block * groups + group) * STRIDE + k * ROWS
                words = load(I16X32, packed, word), load(I16X32, packed, word + stride)
                last = shift_in(last[0], words[0], 1), shift_in(last[1], words[1], 1)
                for slot in range(3):
                    table = load(entries, tables, place + (3 * k + slot) * ROWS)
                    totals = add_two(totals, table, words, slot)
            totals = add_two(totals, load(entries, tables, place + (INDEXES - 1) * ROWS), last, 0)
        flush(sums, 0, totals)


@inlined
def write(out: Int32, token: int, tokens: int, place: int, count: int, sums: Int32) -> None:
    """Write the sums of some tokens to their rows from `place` on."""
    for lane in range(tokens):
        for row in range(count):
            out[token + lane, place + row] = sums[2 * lane * ROWS + row]


@inner
def some_tokens(
    entries: Any, packed: Words, prepared: Int16, groups: int, out: Int32, sums: Int32, tokens: Any, blocks: Any
) -> None:
    """Write the rows of one row block or two for the tokens from tokens[0] to before tokens[1], up to four."""
    (token, end), (block, last) = tokens, blocks
    beside, place = min(2, last - block), block * ROWS
    count = min(beside * ROWS, out.shape[1] - place)
    while token < end:
        start = token * groups * TABLES
        if end - token == FOUR:
            four_tokens(entries, packed, groups, prepared, start, sums, block, beside)
            step = FOUR
        elif end - token >= 2:
            two_tokens(entries, packed, groups, prepared, start, sums, block, beside)
            step = 2
        else:
            one_token(entries, packed, groups, prepared, start, sums, block, beside)
            step = 1
        write(out, token, step, place, count, sums)
        token += step


@inner
def multiply(
    entries: Any, packed: Packed, prepared: Int16, columns: int, out: Int32, scratch: Int16, blocks: tuple[int, int]
) -> None:
    """Write some row blocks of several tokens; see `Compiled.product`."""
    words, sums, groups = packed.view(np.uint16), scratch.view(np.int32), -(-columns // COLUMNS)
    first, last = blocks
    for token in range(0, out.shape[0], FOUR):
        tokens = token, min(token + FOUR, out.shape[0])
        for block in range(first, last, 2):
            some_tokens(entries, words, prepared, groups, out, sums, tokens, (block, last))


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory: int32 sums."""
    return 2 * SUMS


def method(prepare: Entry, product: Entry) -> Compiled:
    """Return the method of an entry that builds all tables, and one that calls `multiply` with a CPU's own lookup."""
    return Compiled(prepare, product, elements, scratch_elements, PIECE)
