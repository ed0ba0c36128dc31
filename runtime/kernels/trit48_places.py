"""From the words of `trit48` to places in the tables of `four_russians`, 32 rows at once on any vector registers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.trit48 import COLUMNS, INDEXES, ROWS, WORDS
from ..simd.vector import I16X32, I32X16, interleave_high, interleave_low, load, prefetch, reinterpret, splat, store
from . import four_russians as russians

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Register = Any

NO_WEIGHTS = 13  # the index of three weights of zero
TRIPLES = russians.COLUMNS // 3  # indexes of three weights in nine groups of four columns


@inlined
def times_three(index: Register) -> Register:
    """Return 3 x index."""
    return (index << 1) + index


@inlined
def third(index: Register) -> Register:
    """Return index div 3 of indexes below 27: 11/32 is close enough to a third."""
    return ((index << 3) + times_three(index)) >> 5


@inlined
def regroup(i0: Register, i1: Register, i2: Register, i3: Register) -> Any:
    """Return the patterns of three groups of four weights (below 81) from four of three weights (below 27)."""
    one = third(i1)
    rest = i1 - times_three(one)  # the first weight of i1
    two = third(i2)
    nine_ = third(two)  # the third weight of i2
    low = i2 - times_three(times_three(nine_))  # its first two
    return (
        i0 + times_three(times_three(times_three(rest))),
        one + times_three(times_three(low)),
        nine_ + times_three(i3),
    )


@inlined
def place_of(pattern: Register, group: int, width: int) -> Register:
    """Return where the sum of a pattern lies: elements / 4 from the start of the tables of all groups."""
    scaled = pattern << 3 if width == 32 else pattern << 2
    return scaled + splat(I16X32, group * russians.PATTERNS * width // 4)


@inlined
def store_four(places: Words, place: int, a: Register, b: Register, c: Register, d: Register) -> None:
    """Write four places of 32 rows as (rows, 4)."""
    ab, ab_high = interleave_low(a, b), interleave_high(a, b)
    cd, cd_high = interleave_low(c, d), interleave_high(c, d)
    ab2, cd2 = reinterpret(I32X16, ab), reinterpret(I32X16, cd)
    ab3, cd3 = reinterpret(I32X16, ab_high), reinterpret(I32X16, cd_high)
    store(places, place, interleave_low(ab2, cd2))
    store(places, place + 32, interleave_high(ab2, cd2))
    store(places, place + 64, interleave_low(ab3, cd3))
    store(places, place + 96, interleave_high(ab3, cd3))


@inlined
def index_at(packed: Words, groups: int, block: int, triple: int) -> Register:
    """Return 32 rows' index of the triple-th three columns; past the last group, of zero weights.

    Damaged words give at most 31, which leads no further than the scratch memory behind the tables.
    """
    group, slot = triple // INDEXES, triple % INDEXES
    base = (block * groups + group) * WORDS * ROWS
    if group >= groups:
        return splat(I16X32, NO_WEIGHTS)
    if slot < INDEXES - 1:
        return (load(I16X32, packed, base + slot // 3 * ROWS) >> (5 * (slot % 3))) & 31
    index = load(I16X32, packed, base) >> 15
    for word in range(1, WORDS):
        index = (index << 1) | (load(I16X32, packed, base + word * ROWS) >> 15)
    return index


@inlined
def word_of(triple: int) -> int:
    """Return where in a row block the words of the triple-th three columns begin."""
    return (triple // INDEXES * WORDS + triple % INDEXES // 3) * ROWS


@inlined
def three_patterns(packed: Words, groups: int, block: int, triple: int) -> Any:
    """Return the patterns of three groups of four columns from the four triples that begin at `triple`."""
    return regroup(
        index_at(packed, groups, block, triple),
        index_at(packed, groups, block, triple + 1),
        index_at(packed, groups, block, triple + 2),
        index_at(packed, groups, block, triple + 3),
    )


@inner
def write_places(packed: Bytes, columns: int, chunk: int, blocks: tuple[int, int], width: int, places: Words) -> None:
    """Write where the sums of nine groups of four columns lie, for the rows of the blocks; see `russians.Places`."""
    first, last = blocks
    words = packed.view(np.uint16)
    groups, rows = -(-columns // COLUMNS), (last - first) * ROWS
    ahead = word_of((chunk + 1) * TRIPLES)
    for block in range(first, last):
        # For the next chunk: a block's words lie too far from the next one's for the CPU to guess.
        for word in range(WORDS):
            prefetch(words, block * groups * WORDS * ROWS + ahead + word * ROWS)
        row = (block - first) * ROWS
        a, b, c = three_patterns(words, groups, block, chunk * TRIPLES)
        d, e, f = three_patterns(words, groups, block, chunk * TRIPLES + 4)
        g, h, i = three_patterns(words, groups, block, chunk * TRIPLES + 8)
        a, b, c = place_of(a, 0, width), place_of(b, 1, width), place_of(c, 2, width)
        d, e, f = place_of(d, 3, width), place_of(e, 4, width), place_of(f, 5, width)
        g, h, i = place_of(g, 6, width), place_of(h, 7, width), place_of(i, 8, width)
        store_four(places, 4 * row, a, b, c, d)
        store_four(places, 4 * (rows + row), e, f, g, h)
        store(places, 8 * rows + row, i)
