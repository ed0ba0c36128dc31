"""Many tokens at once: sums in first-level cache, one load and one add for four weights of 16 or 32 tokens.

For four columns and a block of tokens, all 81 sums c0 x0 + c1 x1 + c2 x2 + c3 x3, c in {-1, 0, 1}, are made with one
addition each (the "method of the Four Russians": Arlazarov, Dinic, Kronrod, Faradzev 1970). A lane is a token. The
four weights of a row then are the address of its sum: one add with a memory operand does 4 x 32 multiply-accumulates,
and all rows share the tables. Loads bind: two of 64 bytes a cycle make 256 weights, against 128 of two vpdpbusd.

A layout's own part is to write, for nine groups of four columns, the place of each row's sum (`Places`):

    write_places(packed, columns, chunk, (first, last), width, places)

for the rows of the blocks from `first` to before `last`, in tables `width` lanes wide. A kernel's two entries are then

    transpose(vector, x, prepared, thread, threads)
    multiply(write_places, vector, packed, prepared, columns, out, scratch, (first, last))

An int16 total holds as many chunks as the activations allow: `reach` is how large the totals of a token block can be
by now, and before they could overflow they are added to int32 sums (`flushed`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..entry import Entry
from ..simd.vector import (
    I16X16,
    I32X16,
    U8X16,
    add_into,
    interleave_high,
    interleave_low,
    lanes,
    larger,
    load,
    splat,
    store,
    widen,
)
from .kernel import ROWS_PER_BLOCK, Compiled, Int16, Int32, Packed

GROUPS = 9  # groups of four columns whose tables are in the cache together: 9 x 81 x 64 bytes = 46.7 kB
COLUMNS = 4 * GROUPS
PATTERNS = 81
TILE = 16
LARGEST = 32_767  # of int16
SUMS_IN_CACHE = (
    1 << 14
)  # rows x token blocks worked on together: their int16 totals are to stay in the second-level cache
ROW_BLOCKS = 108  # that a thread takes at once: with four token blocks their totals are 0.9 MB

Bytes = npt.NDArray[np.uint8]
Register = Any
Work = Any  # prepared, places, tables, int16 totals, int32 sums, bounds (token blocks, chunks), reach, flushed
PLACES, BOUNDS, REACH = 1, 5, 6  # in Work
Places = npt.NDArray[np.uint16]  # (rows, 4), (rows, 4), (rows): elements / 4 from the start of the tables, per group


@inlined
def chunks(columns: int) -> int:
    """Return how many times nine groups of four columns a matrix has, the last perhaps partly filled."""
    return -(-columns // COLUMNS)


@inlined
def transpose_tile(tile: Bytes, spare: Bytes) -> None:
    """Transpose 16 x 16 bytes in place: four rounds of interleaving the upper with the lower half."""
    for _ in range(2):
        for row in range(8):
            upper, lower = load(U8X16, tile, row * TILE), load(U8X16, tile, (row + 8) * TILE)
            store(spare, 2 * row * TILE, interleave_low(upper, lower))
            store(spare, (2 * row + 1) * TILE, interleave_high(upper, lower))
        for row in range(8):
            upper, lower = load(U8X16, spare, row * TILE), load(U8X16, spare, (row + 8) * TILE)
            store(tile, 2 * row * TILE, interleave_low(upper, lower))
            store(tile, (2 * row + 1) * TILE, interleave_high(upper, lower))


@inner
def transpose(vector: Any, x: npt.NDArray[np.int8], prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of x (tokens, columns) as int16 (token blocks, columns, lanes), filled up with zeros."""
    width = lanes(vector)
    tokens, columns = x.shape
    full = -(-columns // COLUMNS) * COLUMNS
    flat = x.reshape(-1).view(np.uint8)
    tile, spare = np.zeros(TILE * TILE, np.uint8), np.empty(TILE * TILE, np.uint8)
    strips = -(-full // TILE)
    for strip in range(thread * strips // threads, (thread + 1) * strips // threads):
        column = strip * TILE
        for token in range(0, -(-tokens // width) * width, TILE):
            for row in range(TILE):
                start = (token + row) * columns + column
                if token + row < tokens and column + TILE <= columns:
                    store(tile, row * TILE, load(U8X16, flat, start))
                else:
                    for step in range(TILE):
                        inside = token + row < tokens and column + step < columns
                        tile[row * TILE + step] = flat[start + step] if inside else np.uint8(0)
            transpose_tile(tile, spare)
            for step in range(min(TILE, full - column)):
                place = ((token // width) * full + column + step) * width + token % width
                store(prepared, place, widen(load(U8X16, tile, step * TILE)))


@inlined
def three_sums(tables: Int16, offset: int, width: int, base: Register, value: Register) -> None:
    """Write base - value, base, base + value."""
    store(tables, offset, base - value)
    store(tables, offset + width, base)
    store(tables, offset + 2 * width, base + value)


@inner
def build_tables(vector: Any, prepared: Int16, start: int, tables: Int16) -> None:
    """Write the 81 sums of each of nine groups of four columns: int16 (9, 81, lanes).

    Entry (c0 + 1) + 3 (c1 + 1) + 9 (c2 + 1) + 27 (c3 + 1) is c0 x0 + c1 x1 + c2 x2 + c3 x3.
    """
    width = lanes(vector)
    for group in range(GROUPS):
        place = start + 4 * group * width
        x0, x1 = load(vector, prepared, place), load(vector, prepared, place + width)
        x2, x3 = load(vector, prepared, place + 2 * width), load(vector, prepared, place + 3 * width)
        offset = group * PATTERNS * width
        high = splat(vector, 0) - x3
        for _ in range(3):
            middle = high - x2
            for _ in range(3):
                three_sums(tables, offset, width, middle - x1, x0)
                three_sums(tables, offset + 3 * width, width, middle, x0)
                three_sums(tables, offset + 6 * width, width, middle + x1, x0)
                offset += 9 * width
                middle = middle + x2
            high = high + x3


@inlined
def add_four(vector: Any, tables: Int16, places: Any, total: Register) -> Register:
    """Add to a total the sums at four 16-bit places that lie in one number."""
    mask = np.uint64(0xFFFF)
    total = total + load(vector, tables, np.int64(places & mask) * 4)
    total = total + load(vector, tables, np.int64((places >> np.uint64(16)) & mask) * 4)
    total = total + load(vector, tables, np.int64((places >> np.uint64(32)) & mask) * 4)
    return total + load(vector, tables, np.int64(places >> np.uint64(48)) * 4)


@inner
def add_chunk(vector: Any, places: Places, tables: Int16, totals: Int16, start: int, rows: int, fresh: bool) -> None:
    """Add the nine sums of each row to its totals, int16 (rows, lanes) from `start` on; set them if `fresh`."""
    width = lanes(vector)
    fours = places.view(np.uint64)
    singles = places[8 * rows :]
    for row in range(rows):
        place = start + row * width
        total = splat(vector, 0) if fresh else load(vector, totals, place)
        total = add_four(vector, tables, fours[row], total)
        total = add_four(vector, tables, fours[rows + row], total)
        total = total + load(vector, tables, np.int64(singles[row]) * 4)
        store(totals, place, total)


@inner
def flush(vector: Any, totals: Int16, sums: Int32, start: int, rows: int, fresh: bool) -> None:
    """Add int16 totals (rows, lanes) from `start` on to the int32 sums there; set those if `fresh`."""
    width = lanes(vector)
    for row in range(rows):
        place = start + row * width
        if fresh:
            store(sums, place, widen(load(vector, totals, place)))
        else:
            add_into(sums, place, widen(load(vector, totals, place)))


@inlined
def transpose_sums(tile: Int32, spare: Int32) -> None:
    """Transpose 16 x 16 int32 in place: four rounds of interleaving the upper with the lower half."""
    for _ in range(2):
        for row in range(8):
            upper, lower = load(I32X16, tile, row * TILE), load(I32X16, tile, (row + 8) * TILE)
            store(spare, 2 * row * TILE, interleave_low(upper, lower))
            store(spare, (2 * row + 1) * TILE, interleave_high(upper, lower))
        for row in range(8):
            upper, lower = load(I32X16, spare, row * TILE), load(I32X16, spare, (row + 8) * TILE)
            store(tile, 2 * row * TILE, interleave_low(upper, lower))
            store(tile, (2 * row + 1) * TILE, interleave_high(upper, lower))


@inner
def write_out(
    vector: Any, totals: Int16, sums: Int32, start: int, rows: int, out: Int32, place: tuple[int, int]
) -> None:
    """Write totals (+ sums, if there are any) of a token block into out (tokens, rows) from place (token, row) on."""
    token, first_row = place
    flushed = sums.size > 0
    width = lanes(vector)
    flat = out.reshape(-1)
    stride = out.shape[1]
    tile, spare = np.empty(TILE * TILE, np.int32), np.empty(TILE * TILE, np.int32)
    for row in range(0, rows, TILE):
        present = min(TILE, stride - first_row - row)
        for half in range(0, width, TILE):
            for step in range(TILE):
                source = start + (row + step) * width + half
                value = widen(load(I16X16, totals, source))
                store(tile, step * TILE, value + load(I32X16, sums, source) if flushed else value)
            transpose_sums(tile, spare)
            for lane in range(min(TILE, out.shape[0] - token - half)):
                target = (token + half + lane) * stride + first_row + row
                if present == TILE:
                    store(flat, target, load(I32X16, tile, lane * TILE))
                else:
                    for step in range(present):
                        flat[target + step] = tile[lane * TILE + step]


@inlined
def blocks_together(rows: int, blocks: int) -> int:
    """Return how many token blocks to work on at once."""
    return min(blocks, max(1, SUMS_IN_CACHE // rows))


@inner
def bounds_of(vector: Any, prepared: Int16, blocks: int, chunks_: int) -> Int32:
    """Return how large a sum of each chunk's columns can be: int32 (blocks, chunks), largest over a block's tokens."""
    width = lanes(vector)
    bounds = np.empty((blocks, chunks_), np.int32)
    reach = np.empty(width, np.int16)
    nothing = splat(vector, 0)
    for block in range(blocks):
        for chunk in range(chunks_):
            start = (block * chunks_ + chunk) * COLUMNS * width
            total = nothing
            for column in range(COLUMNS):
                x = load(vector, prepared, start + column * width)
                total = total + larger(x, nothing - x)  # at most 36 x 128
            store(reach, 0, total)
            bounds[block, chunk] = reach.max()
    return bounds


@inner
def begin(vector: Any, prepared: Int16, columns: int, tokens: int, rows: int, scratch: Int16) -> Work:
    """Lay out a thread's scratch memory for `rows` rows: see `Work`."""
    width, token_blocks = lanes(vector), -(-tokens // lanes(vector))
    together = blocks_together(rows, token_blocks)
    tables = GROUPS * rows
    totals = tables + GROUPS * PATTERNS * width
    sums = totals + together * rows * width
    end = sums + 2 * together * rows * width
    return (
        prepared,
        scratch[:tables].view(np.uint16),
        scratch[tables:totals],
        scratch[totals:sums],
        scratch[sums:end].view(np.int32),
        bounds_of(vector, prepared, token_blocks, chunks(columns)),
        np.zeros(together, np.int64),
        np.zeros(together, np.bool_),
    )


@inner
def add_columns(vector: Any, work: Work, start: int, chunk: int) -> None:
    """Add nine groups of columns, whose places are written, to the totals of the token blocks from `start` on."""
    prepared, places, tables, totals, sums, bounds, reach, flushed = work
    rows, width = len(places) // GROUPS, lanes(vector)
    for block in range(min(len(reach), len(bounds) - start)):
        place = block * rows * width
        bound = bounds[start + block, chunk]
        if chunk == 0:
            reach[block], flushed[block] = 0, False
        if reach[block] + bound > LARGEST:
            flush(vector, totals, sums, place, rows, not flushed[block])
            reach[block], flushed[block] = 0, True
        build_tables(vector, prepared, ((start + block) * bounds.shape[1] + chunk) * COLUMNS * width, tables)
        add_chunk(vector, places, tables, totals, place, rows, chunk == 0 or reach[block] == 0)
        reach[block] += bound


@inner
def write_blocks(vector: Any, work: Work, start: int, out: Int32, first_row: int) -> None:
    """Write the sums of the token blocks from `start` on into out (tokens, rows), from a row on."""
    _, places, _, totals, sums, bounds, reach, flushed = work
    rows, width = len(places) // GROUPS, lanes(vector)
    for block in range(min(len(reach), len(bounds) - start)):
        part = sums if flushed[block] else sums[:0]
        write_out(vector, totals, part, block * rows * width, rows, out, ((start + block) * width, first_row))


@inlined
def multiply(
    write_places: Any,
    vector: Any,
    packed: Packed,
    prepared: Int16,
    columns: int,
    out: Int32,
    scratch: Int16,
    blocks: tuple[int, int],
) -> None:
    """Write the rows of the blocks from blocks[0] to before blocks[1]; see `Compiled`."""
    first, last = blocks
    if first < last:
        work = begin(vector, prepared, columns, out.shape[0], (last - first) * ROWS_PER_BLOCK, scratch)
        for start in range(0, len(work[BOUNDS]), len(work[REACH])):
            for chunk in range(chunks(columns)):
                write_places(packed, columns, chunk, blocks, lanes(vector), work[PLACES])
                add_columns(vector, work, start, chunk)
            write_blocks(vector, work, start, out, first * ROWS_PER_BLOCK)


@dataclass(frozen=True, slots=True)
class Memory:
    """The int16 elements that tables of this many lanes need; for `Compiled`."""

    width: int

    def prepared_elements(self, columns: int, tokens: int) -> int:
        """Return the elements of the prepared activations."""
        return -(-tokens // self.width) * self.width * -(-columns // COLUMNS) * COLUMNS

    def scratch_elements(self, rows: int, columns: int, tokens: int) -> int:
        """Return the elements of scratch memory for a thread with `rows` rows, filled up to whole blocks."""
        # A thread may be given fewer rows than these, and then works on more token blocks together.
        sums = min(-(-tokens // self.width) * rows, max(rows, SUMS_IN_CACHE))
        return GROUPS * rows + GROUPS * PATTERNS * self.width + 3 * sums * self.width


def method(prepare: Entry, product: Entry, width: int) -> Compiled:
    """Return the method of a kernel's two entries with tables of this many lanes."""
    memory = Memory(width)
    return Compiled(prepare, product, memory.prepared_elements, memory.scratch_elements, ROW_BLOCKS)
