"""AMX: tiles of 16 tokens times 16 rows, for many sequences at once; it multiplies (`add_only` is False).

The weights stay as the additions read them (`trit48`). Those of 32 rows and some columns become bytes in first-level
cache: an index of three weights is looked up as two bytes at a time, and the words of two lookups side by side are the
four bytes that a tile wants of a row. Then each 16 tokens take one instruction for 48 columns of 16 rows, exactly as
the sums are integers.

A lane of `quad` is a row, but `interleave` leaves them in another order: n = 4 q + j of the low half is row 8 q + j, of
the high half row 8 q + 4 + j. `write_out` puts that right.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.trit48 import COLUMNS, ROWS, WORDS
from ..simd.amx import SHAPES, configure, dot_tiles, load_tile, release, shapes, store_tile, zero
from ..simd.avx512 import interleave_words_high, interleave_words_low, permute
from ..simd.vector import I16X32, I32X4, U8X16, load, prefetch, shift_in, splat, store
from . import avx512
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share

Words = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]
Register = Any

TOKENS = 16  # of a tile
HALF = COLUMNS * ROWS // 2  # bytes of 48 columns of 16 rows
GROUP = 2 * HALF
CHUNK = 12  # column groups that are bytes at a time: 18 kB
TILE = 1024  # bytes of a tile of sums
STRIDE = WORDS * ROWS
AHEAD = 13  # groups of weights asked for before they are used
LINE = 64
LEAST = 2  # tokens from which on tiles are quicker than additions

# Tiles 0 to 3: sums of 16 tokens and 16 rows; 4, 5: weights of 16 rows each; 6, 7: activations of 16 tokens each. For
# 0 to 16 tokens, since fewer are done sooner.
ALL_SHAPES = np.concatenate(
    [
        shapes(
            [tokens, tokens, tokens, tokens, COLUMNS // 4, COLUMNS // 4, tokens, tokens],
            [64, 64, 64, 64, 64, 64, COLUMNS, COLUMNS],
        )
        for tokens in range(TOKENS + 1)
    ]
)

# Of an index, as two bytes: its first two weights, the last two, the third one first, the first one second.
_WEIGHTS = (np.arange(32)[:, None] // np.array([1, 3, 9]) % 3 - 1).astype(np.int8).view(np.uint8).astype(np.uint16)
TABLES = np.stack(
    [
        _WEIGHTS[:, 0] | _WEIGHTS[:, 1] << 8,
        _WEIGHTS[:, 1] | _WEIGHTS[:, 2] << 8,
        _WEIGHTS[:, 2],
        _WEIGHTS[:, 0] << 8,
    ]
).reshape(-1)


@prepares
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Copy a thread's share of x as bytes (token blocks, column groups, 16, 48), filled up with zeros."""
    tokens, columns = x.shape
    groups, flat, bytes_ = -(-columns // COLUMNS), x.reshape(-1).view(np.uint8), prepared.view(np.uint8)
    first, last = share(groups, thread, threads)
    for token in range(-(-tokens // TOKENS) * TOKENS):
        for group in range(first, last):
            place = ((token // TOKENS * groups + group) * TOKENS + token % TOKENS) * COLUMNS
            column = group * COLUMNS
            if token < tokens and column + COLUMNS <= columns:
                for step in range(0, COLUMNS, 16):
                    store(bytes_, place + step, load(U8X16, flat, token * columns + column + step))
            else:
                for step in range(COLUMNS):
                    inside = token < tokens and column + step < columns
                    bytes_[place + step] = flat[token * columns + column + step] if inside else np.uint8(0)


@inlined
def quad(codes: Bytes, place: int, low: Register, high: Register) -> None:
    """Write four columns of 32 rows, given as words of two bytes: 16 rows here, the others in the next half."""
    store(codes, place, interleave_words_low(low, high))
    store(codes, place + HALF, interleave_words_high(low, high))


@inlined
def twelve(codes: Bytes, place: int, tables: Any, i0: Register, i1: Register, i2: Register, i3: Register) -> None:
    """Write twelve columns of 32 rows, given as four indexes."""
    first, last, third, shifted = tables
    quad(codes, place, permute(first, i0), permute(third, i0) | permute(shifted, i1))
    quad(codes, place + LINE, permute(last, i1), permute(first, i2))
    quad(codes, place + 2 * LINE, permute(third, i2) | permute(shifted, i3), permute(last, i3))


@inner
def unpack(packed: Words, start: int, groups: int, codes: Bytes) -> None:
    """Write the weights of some column groups of 32 rows as bytes: (groups, 2, 12, 16, 4)."""
    lookups = TABLES
    tables = (
        load(I16X32, lookups, 0),
        load(I16X32, lookups, 32),
        load(I16X32, lookups, 64),
        load(I16X32, lookups, 96),
    )
    for group in range(groups):
        word, place = start + group * STRIDE, group * GROUP
        for k in range(WORDS):
            prefetch(packed, word + AHEAD * STRIDE + k * ROWS)
        w0, w1 = load(I16X32, packed, word), load(I16X32, packed, word + ROWS)
        w2, w3 = load(I16X32, packed, word + 2 * ROWS), load(I16X32, packed, word + 3 * ROWS)
        w4 = load(I16X32, packed, word + 4 * ROWS)
        last = shift_in(shift_in(shift_in(splat(I16X32, 0), w0, 1), w1, 1), w2, 1)
        last = shift_in(shift_in(last, w3, 1), w4, 1)
        twelve(codes, place, tables, w0, w0 >> 5, w0 >> 10, w1)
        twelve(codes, place + 3 * LINE, tables, w1 >> 5, w1 >> 10, w2, w2 >> 5)
        twelve(codes, place + 6 * LINE, tables, w2 >> 10, w3, w3 >> 5, w3 >> 10)
        twelve(codes, place + 9 * LINE, tables, w4, w4 >> 5, w4 >> 10, last)


@inner
def one_block(codes: Bytes, x: Bytes, start: int, groups: int, sums: Bytes, fresh: bool) -> None:
    """Add the products of some column groups to the sums of 16 tokens; odd groups have two tiles of their own."""
    if fresh:
        zero(0)
        zero(1)
    else:
        load_tile(0, sums, 0, LINE)
        load_tile(1, sums, TILE, LINE)
    zero(2)
    zero(3)
    for group in range(0, groups - 1, 2):
        load_tile(6, x, start + group * TOKENS * COLUMNS, COLUMNS)
        load_tile(4, codes, group * GROUP, LINE)
        dot_tiles(0, 6, 4)
        load_tile(5, codes, group * GROUP + HALF, LINE)
        dot_tiles(1, 6, 5)
        load_tile(7, x, start + (group + 1) * TOKENS * COLUMNS, COLUMNS)
        load_tile(4, codes, (group + 1) * GROUP, LINE)
        dot_tiles(2, 7, 4)
        load_tile(5, codes, (group + 1) * GROUP + HALF, LINE)
        dot_tiles(3, 7, 5)
    if groups % 2:
        load_tile(6, x, start + (groups - 1) * TOKENS * COLUMNS, COLUMNS)
        load_tile(4, codes, (groups - 1) * GROUP, LINE)
        dot_tiles(0, 6, 4)
        load_tile(5, codes, (groups - 1) * GROUP + HALF, LINE)
        dot_tiles(1, 6, 5)
    store_tile(0, sums, 0, LINE)
    store_tile(1, sums, TILE, LINE)
    store_tile(2, sums, 2 * TILE, LINE)
    store_tile(3, sums, 3 * TILE, LINE)
    for place in range(0, 2 * TILE, 16):
        add(sums, place, 2 * TILE + place)


@inlined
def add(sums: Bytes, place: int, other: int) -> None:
    """Add four int32 to others."""
    store(sums, place, load(I32X4, sums, place) + load(I32X4, sums, other))


@inner
def two_blocks(codes: Bytes, x: Bytes, start: int, other: int, groups: int, sums: Bytes, fresh: bool) -> None:
    """Add the products of some column groups to the sums of twice 16 tokens, whose activations begin at two places."""
    if fresh:
        zero(0)
        zero(1)
        zero(2)
        zero(3)
    else:
        load_tile(0, sums, 0, LINE)
        load_tile(1, sums, TILE, LINE)
        load_tile(2, sums, 2 * TILE, LINE)
        load_tile(3, sums, 3 * TILE, LINE)
    for group in range(groups):
        load_tile(6, x, start + group * TOKENS * COLUMNS, COLUMNS)
        load_tile(4, codes, group * GROUP, LINE)
        dot_tiles(0, 6, 4)
        load_tile(5, codes, group * GROUP + HALF, LINE)
        dot_tiles(1, 6, 5)
        load_tile(7, x, other + group * TOKENS * COLUMNS, COLUMNS)
        dot_tiles(2, 7, 4)
        dot_tiles(3, 7, 5)
    store_tile(0, sums, 0, LINE)
    store_tile(1, sums, TILE, LINE)
    store_tile(2, sums, 2 * TILE, LINE)
    store_tile(3, sums, 3 * TILE, LINE)


@inner
def write_out(sums: Bytes, out: Int32, token: int, row: int) -> None:
    """Write the sums of 16 tokens and 32 rows, as two tiles, into out (tokens, rows) from (token, row) on."""
    tokens, rows = out.shape
    flat, whole = out.reshape(-1), rows - row >= ROWS
    numbers = sums.view(np.int32)
    for step in range(min(TOKENS, tokens - token)):
        target = (token + step) * rows + row
        if whole:
            for quarter in range(4):
                place = step * LINE + quarter * 16
                store(flat, target + 8 * quarter, load(I32X4, sums, place))
                store(flat, target + 8 * quarter + 4, load(I32X4, sums, TILE + place))
        else:
            for at in range(rows - row):
                half, lane = at % 8 // 4, at // 8 * 4 + at % 4
                flat[target + at] = numbers[half * TILE // 4 + step * 16 + lane]


@multiplies
def product(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`; see `Compiled`."""
    words, x, memory = packed.view(np.uint16), prepared.view(np.uint8), scratch.view(np.uint8)
    codes, sums = memory[: CHUNK * GROUP], memory[CHUNK * GROUP :]
    groups, blocks = -(-columns // COLUMNS), -(-out.shape[0] // TOKENS)
    stride, shapes_ = groups * TOKENS * COLUMNS, ALL_SHAPES  # bytes of 16 tokens
    configure(shapes_, min(out.shape[0], TOKENS) * SHAPES)
    for block in range(first, last):
        for start in range(0, groups, CHUNK):
            here, fresh, place = min(CHUNK, groups - start), start == 0, start * TOKENS * COLUMNS
            unpack(words, (block * groups + start) * STRIDE, here, codes)
            for tokens in range(0, blocks - 1, 2):
                one, other = tokens * stride + place, (tokens + 1) * stride + place
                two_blocks(codes, x, one, other, here, sums[tokens * 2 * TILE :], fresh)
            if blocks % 2:
                one_block(codes, x, (blocks - 1) * stride + place, here, sums[(blocks - 1) * 2 * TILE :], fresh)
        for tokens in range(blocks):
            write_out(sums[tokens * 2 * TILE :], out, tokens * TOKENS, block * ROWS)
    release()


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations."""
    return -(-tokens // TOKENS) * TOKENS * -(-columns // COLUMNS) * COLUMNS // 2


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory: weights as bytes, and tiles of sums, two more for an odd block."""
    return (CHUNK * GROUP + (-(-tokens // TOKENS) + 1) * 2 * TILE) // 2


KERNEL = Kernel(
    name="amx",
    packing="trit48",
    needs=avx512.KERNEL.needs | {"amx-int8", "amx-tile"},
    methods=(
        avx512.KERNEL.methods[0],
        (LEAST, Compiled(prepare, product, prepared_elements, scratch_elements, 4)),
    ),
    add_only=False,
)
