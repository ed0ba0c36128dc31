"""AVX-512: 32 rows at once look up sums of three activations with vpermw (nine weights in a 16-bit word).

Three weights make one of 27 patterns, and vpermw takes the low five bits of each lane as index into 32 entries: the
word itself is the first index, shifted right by 5 the second, by 10 the third. Load, three permutes, three adds and two
shifts do 288 weights. From nine tokens on the tables of `four_russians` are quicker.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..atomics import barrier
from ..compile import compiled, inlined
from ..packing.trit9 import COLUMNS, ROWS
from ..simd.avx512 import permute
from ..simd.vector import (
    I16X16,
    I16X32,
    I32X16,
    add_into,
    interleave_high,
    interleave_low,
    lanes,
    load,
    prefetch,
    reinterpret,
    splat,
    store,
    widen,
)
from . import four_russians as russians
from .kernel import Activations, Int16, Kernel, Sums, row_blocks, share

Words = npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
Register = Any

GROUPS_IN_INT16 = 28  # 28 x 3 lookups of at most 3 x 128 = 32,256 < 32,768
TABLES = 3 * ROWS  # elements of a group's three tables
AHEAD = 64  # groups of weights asked for before they are used
MANY = 9  # tokens from which on the tables of the Four Russians are quicker
NARROW = 16  # up to so many tokens they need half a register

# For each of three weights, the entries of a table to which it is added, and from which it is taken.
_PATTERNS = np.arange(27)
_SIGNS = np.stack([_PATTERNS // 3**weight % 3 - 1 for weight in range(3)])
_ADDED_AND_TAKEN = np.zeros((3, 2, ROWS), np.int16)
_ADDED_AND_TAKEN[:, 0, :27], _ADDED_AND_TAKEN[:, 1, :27] = -1 * (_SIGNS == 1), -1 * (_SIGNS == -1)
MASKS = _ADDED_AND_TAKEN.reshape(-1)


@inlined
def table_of(a: Any, b: Any, c: Any, masks: Int16) -> Register:
    """Return the 27 sums of three activations in 32 lanes; the last five are 0."""
    first, second, third = splat(I16X32, a), splat(I16X32, b), splat(I16X32, c)
    sums = (first & load(I16X32, masks, 0)) - (first & load(I16X32, masks, ROWS))
    sums = sums + (second & load(I16X32, masks, 2 * ROWS)) - (second & load(I16X32, masks, 3 * ROWS))
    return sums + (third & load(I16X32, masks, 4 * ROWS)) - (third & load(I16X32, masks, 5 * ROWS))


@compiled
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, groups of three, 32)."""
    masks = MASKS
    tokens, columns = x.shape
    triples = -(-columns // COLUMNS) * 3
    for triple in range(thread * triples // threads, (thread + 1) * triples // threads):
        column = 3 * triple
        for token in range(tokens):
            a = x[token, column] if column < columns else np.int8(0)
            b = x[token, column + 1] if column + 1 < columns else np.int8(0)
            c = x[token, column + 2] if column + 2 < columns else np.int8(0)
            store(prepared, (token * triples + triple) * ROWS, table_of(a, b, c, masks))


@inlined
def nine(total: Register, word: Register, t0: Register, t1: Register, t2: Register) -> Register:
    """Add to 32 totals the sums of nine weights each."""
    total = total + permute(t0, word)
    total = total + permute(t1, word >> 5)
    return total + permute(t2, word >> 10)


@inlined
def add_to_rows(out: Int32, place: int, rows: int, total: Register) -> None:
    """Add 32 int16 totals to 32 int32 sums, the first `rows` of which exist."""
    add_into(out, place, widen(total))


@compiled
def one_token_four_blocks(packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int) -> None:
    """Write 128 int32 sums of one token; the tables begin at `start`."""
    stride = groups * ROWS
    base = block * stride
    group = 0
    for place in range(0, 128, 32):
        store(sums, place, widen(splat(I16X32, 0)))
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        s0 = s1 = s2 = s3 = splat(I16X32, 0)
        while group < end:
            table = start + group * TABLES
            t0, t1 = load(I16X32, tables, table), load(I16X32, tables, table + ROWS)
            t2 = load(I16X32, tables, table + 2 * ROWS)
            word = base + group * ROWS
            prefetch(packed, word + AHEAD * ROWS)
            prefetch(packed, word + stride + AHEAD * ROWS)
            prefetch(packed, word + 2 * stride + AHEAD * ROWS)
            prefetch(packed, word + 3 * stride + AHEAD * ROWS)
            s0 = nine(s0, load(I16X32, packed, word), t0, t1, t2)
            s1 = nine(s1, load(I16X32, packed, word + stride), t0, t1, t2)
            s2 = nine(s2, load(I16X32, packed, word + 2 * stride), t0, t1, t2)
            s3 = nine(s3, load(I16X32, packed, word + 3 * stride), t0, t1, t2)
            group += 1
        add_into(sums, 0, widen(s0))
        add_into(sums, 32, widen(s1))
        add_into(sums, 64, widen(s2))
        add_into(sums, 96, widen(s3))


@compiled
def one_token_one_block(packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int) -> None:
    """Write 32 int32 sums of one token."""
    base = block * groups * ROWS
    group = 0
    store(sums, 0, widen(splat(I16X32, 0)))
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        total = splat(I16X32, 0)
        while group < end:
            table = start + group * TABLES
            t0, t1 = load(I16X32, tables, table), load(I16X32, tables, table + ROWS)
            t2 = load(I16X32, tables, table + 2 * ROWS)
            total = nine(total, load(I16X32, packed, base + group * ROWS), t0, t1, t2)
            group += 1
        add_into(sums, 0, widen(total))


@compiled
def one_token(
    packed: Words, groups: int, tables: Int16, token: int, out: Int32, sums: Int32, first: int, last: int
) -> None:
    """Write the row blocks from `first` to before `last` of one token's products."""
    start = token * groups * TABLES
    rows = out.shape[1]
    block = first
    while block < last:
        if last - block >= 4:
            one_token_four_blocks(packed, groups, tables, start, sums, block)
            step = 4
        else:
            one_token_one_block(packed, groups, tables, start, sums, block)
            step = 1
        place = block * ROWS
        for row in range(min(step * ROWS, rows - place)):
            out[token, place + row] = sums[row]
        block += step


@compiled
def two_tokens_two_blocks(
    packed: Words, groups: int, tables: Int16, start: int, sums: Int32, block: int, blocks: int
) -> None:
    """Write 64 int32 sums for each of two tokens whose tables follow each other; if blocks is 1, 32 of them twice."""
    base = block * groups * ROWS
    stride = groups * ROWS * (blocks - 1)
    other = groups * TABLES
    group = 0
    for place in range(0, 128, 32):
        store(sums, place, widen(splat(I16X32, 0)))
    while group < groups:
        end = min(group + GROUPS_IN_INT16, groups)
        a0 = a1 = b0 = b1 = splat(I16X32, 0)
        while group < end:
            table = start + group * TABLES
            word = base + group * ROWS
            w0, w1 = load(I16X32, packed, word), load(I16X32, packed, word + stride)
            t0, t1 = load(I16X32, tables, table), load(I16X32, tables, table + ROWS)
            t2 = load(I16X32, tables, table + 2 * ROWS)
            a0 = nine(a0, w0, t0, t1, t2)
            a1 = nine(a1, w1, t0, t1, t2)
            t0, t1 = load(I16X32, tables, table + other), load(I16X32, tables, table + other + ROWS)
            t2 = load(I16X32, tables, table + other + 2 * ROWS)
            b0 = nine(b0, w0, t0, t1, t2)
            b1 = nine(b1, w1, t0, t1, t2)
            group += 1
        add_into(sums, 0, widen(a0))
        add_into(sums, 32, widen(a1))
        add_into(sums, 64, widen(b0))
        add_into(sums, 96, widen(b1))


@compiled
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
def word_at(packed: Words, groups: int, block: int, group: int) -> Register:
    """Return the words of a block and a group; past the last group, words of zero weights."""
    if group < groups:
        return load(I16X32, packed, (block * groups + group) * ROWS)
    return splat(I16X32, 13 * (1 + (1 << 5) + (1 << 10)))


@compiled
def write_places(packed: Words, groups: int, chunk: int, first: int, last: int, width: int, places: Words) -> None:
    """Write where the sums of nine groups of four columns lie, for the rows of the blocks; see `russians.Places`."""
    # All indexes are masked, so that damaged words lead no further than the scratch memory behind the tables.
    rows = (last - first) * ROWS
    for block in range(first, last):
        row = (block - first) * ROWS
        w0, w1 = word_at(packed, groups, block, 4 * chunk), word_at(packed, groups, block, 4 * chunk + 1)
        w2, w3 = word_at(packed, groups, block, 4 * chunk + 2), word_at(packed, groups, block, 4 * chunk + 3)
        a, b, c = regroup(w0 & 31, (w0 >> 5) & 31, (w0 >> 10) & 31, w1 & 31)
        d, e, f = regroup((w1 >> 5) & 31, (w1 >> 10) & 31, w2 & 31, (w2 >> 5) & 31)
        g, h, i = regroup((w2 >> 10) & 31, w3 & 31, (w3 >> 5) & 31, (w3 >> 10) & 31)
        a, b, c = place_of(a, 0, width), place_of(b, 1, width), place_of(c, 2, width)
        d, e, f = place_of(d, 3, width), place_of(e, 4, width), place_of(f, 5, width)
        g, h, i = place_of(g, 6, width), place_of(h, 7, width), place_of(i, 8, width)
        store_four(places, 4 * row, a, b, c, d)
        store_four(places, 4 * (rows + row), e, f, g, h)
        store(places, 8 * rows + row, i)


@compiled
def many_tokens(
    vector: Any, packed: Words, prepared: Int16, columns: int, out: Int32, scratch: Int16, first: int, last: int
) -> None:
    """Write the row blocks from `first` to before `last` of many tokens with the tables of the Four Russians."""
    width = lanes(vector)
    groups, chunks, rows = -(-columns // COLUMNS), russians.chunks(columns), (last - first) * ROWS
    blocks = -(-out.shape[0] // width)
    together = russians.blocks_together(rows, blocks)
    places, tables, totals, sums = russians.carve(vector, scratch, rows, together)
    bounds = russians.bounds_of(vector, prepared, blocks, chunks)
    reach = np.zeros(together, np.int64)  # how large the int16 totals of a token block can be by now
    flushed = np.zeros(together, np.bool_)
    for start in range(0, blocks, together):
        here = min(together, blocks - start)
        reach[:] = 0
        flushed[:] = False
        for chunk in range(chunks):
            write_places(packed, groups, chunk, first, last, width, places)
            for block in range(here):
                bound = bounds[(start + block) * chunks + chunk]
                if reach[block] + bound > russians.LARGEST:
                    russians.flush(vector, totals, sums, block * rows * width, rows, not flushed[block])
                    flushed[block] = True
                    reach[block] = 0
                russians.build_tables(
                    vector, prepared, ((start + block) * chunks + chunk) * russians.COLUMNS * width, tables
                )
                russians.add_chunk(vector, places, tables, totals, block * rows * width, rows, reach[block] == 0)
                reach[block] += bound
        for block in range(here):
            part = sums if flushed[block] else sums[:0]
            place = (start + block) * width, first * ROWS
            russians.write_out(vector, totals, part, block * rows * width, rows, out, place)


@compiled
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of what all rows need of the activations."""
    if x.shape[0] < MANY:
        build_tables(x, prepared, thread, threads)
    elif x.shape[0] <= NARROW:
        russians.transpose(I16X16, x, prepared, thread, threads)
    else:
        russians.transpose(I16X32, x, prepared, thread, threads)


@compiled
def product(packed: Words, prepared: Int16, columns: int, out: Int32, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`; see `Kernel`."""
    tokens = out.shape[0]
    groups = -(-columns // COLUMNS)
    if tokens == 1:
        one_token(packed, groups, prepared, 0, out, scratch[:256].view(np.int32), first, last)
    elif tokens < MANY:
        few_tokens(packed, groups, prepared, out, scratch[:256].view(np.int32), first, last)
    elif first < last and tokens <= NARROW:
        many_tokens(I16X16, packed, prepared, columns, out, scratch, first, last)
    elif first < last:
        many_tokens(I16X32, packed, prepared, columns, out, scratch, first, last)


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations."""
    if tokens < MANY:
        return tokens * -(-columns // COLUMNS) * TABLES
    width = 16 if tokens <= NARROW else 32
    return -(-tokens // width) * width * russians.chunks(columns) * russians.COLUMNS


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory that a thread with this many rows needs."""
    return 256 if tokens < MANY else russians.scratch_elements(16 if tokens <= NARROW else 32, rows, tokens)


@compiled
def multiply(
    counters: Any,
    thread: int,
    threads: int,
    packed: Words,
    turns: tuple[int, int],
    x: Activations,
    out: Sums,
    work: tuple[Int16, Int16],
) -> None:
    """Multiply x by matrices of packed (matrices, words), in turns; see `Kernel`."""
    start, times = turns
    prepared, scratch = work
    first, last = share(row_blocks(out.shape[1]), thread, threads)
    for turn in range(start, start + times):
        prepare(x, prepared, thread, threads)
        barrier(counters, threads)
        product(packed[turn % packed.shape[0]], prepared, x.shape[1], out, scratch[thread], first, last)
        barrier(counters, threads)


KERNEL = Kernel(
    name="avx512",
    packing="trit9",
    word=np.uint16,
    needs=frozenset({"avx512f", "avx512bw"}),
    prepared_elements=prepared_elements,
    scratch_elements=scratch_elements,
    prepare=prepare,
    product=product,
    multiply=multiply,
)
