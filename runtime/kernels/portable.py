"""Any CPU: a byte is the address of the sum of its four and a half weights, eight rows at once in registers.

For each byte of a row, all 256 sums are made with one addition each; all rows share the tables. Load a byte, load its
sum, add. The tables of 180 columns stay in first-level cache while all rows go by. From `MANY` tokens on the tables
of `four_russians` are quicker; LLVM makes their registers of what the CPU has.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..atomics import barrier
from ..compile import compiled, inlined
from ..packing.nibble9 import COLUMNS, GROUP, HIGH, LOW, ROWS, bytes_per_row
from ..simd.vector import (
    I16X8,
    I16X16,
    U8X16,
    interleave_high,
    interleave_low,
    lanes,
    load,
    prefetch,
    reinterpret,
    splat,
    store,
    widen_unsigned,
)
from . import four_russians as russians
from .kernel import Activations, Int16, Kernel, Sums, open_shares, row_blocks, share, take

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
Register = Any

ENTRIES = 256  # of a byte's table
IN_CACHE = 40  # bytes of a row whose tables are in first-level cache together: 20 kB
TOGETHER = 8  # rows whose sums are in registers
MANY = 4  # tokens from which on the tables of the Four Russians are quicker

LOW_SUMS, HIGH_SUMS, MASKS_OF_TABLE = 0, 128, 128  # places in MASKS; of HIGH_SUMS there are two, for even and odd bytes


def masks_of(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """Return, for each column of signs (16, 4), the entries that it is added to (-1) and taken from: (4, 2, 16)."""
    return np.stack([-1 * (signs.T == 1), -1 * (signs.T == -1)], axis=1).astype(np.int16)


# What a nibble adds: of the low one the first weight is of its own; the bit of even bytes counts from -1.
MASKS = np.concatenate([masks_of(signs).reshape(-1) for signs in (LOW, HIGH - np.array([0, 0, 0, 1], np.int8), HIGH)])


def pattern_tables() -> npt.NDArray[np.uint8]:
    """Return what nibbles add to patterns: low and high to that of their four columns, bits to the ninths': (6, 16)."""
    powers = np.array([1, 3, 9, 27])
    low, high = (LOW + 1) @ powers, HIGH[:, :3] @ powers[1:]
    return (np.stack([low, high, *np.outer(powers, HIGH[:, 3])]) % 256).astype(np.uint8)


PATTERN_TABLES = pattern_tables().reshape(-1)
# Of each byte, for damaged ones too below 128: no further than the scratch memory behind the tables.
PATTERNS = ((PATTERN_TABLES[:16] + PATTERN_TABLES[16:32, None]) & 127).reshape(-1)
ZERO = 40  # the pattern of zero weights
_GROUP_STARTS = (np.arange(russians.GROUPS) * russians.PATTERNS * 4).astype(np.uint16)
STARTS = np.concatenate([np.tile(_GROUP_STARTS[:4], 4), np.tile(_GROUP_STARTS[4:8], 4), np.tile(_GROUP_STARTS[8], 16)])


@inlined
def sums_of(masks: Int16, place: int, a: Any, b: Any, c: Any, d: Any) -> Register:
    """Return the 16 sums of a nibble of four activations."""
    first, second, third, fourth = splat(I16X16, a), splat(I16X16, b), splat(I16X16, c), splat(I16X16, d)
    sums = (first & load(I16X16, masks, place)) - (first & load(I16X16, masks, place + 16))
    sums = sums + (second & load(I16X16, masks, place + 32)) - (second & load(I16X16, masks, place + 48))
    sums = sums + (third & load(I16X16, masks, place + 64)) - (third & load(I16X16, masks, place + 80))
    return sums + (fourth & load(I16X16, masks, place + 96)) - (fourth & load(I16X16, masks, place + 112))


@inlined
def activation(x: Activations, token: int, column: int) -> Any:
    """Return an activation; past the last column, 0."""
    return x[token, column] if column < x.shape[1] else np.int8(0)


@inlined
def nibble_sums(x: Activations, token: int, byte: int, masks: Int16) -> tuple[Register, Register]:
    """Return the 16 sums of the low nibble of a byte of a row, and those of the high one."""
    start = byte // GROUP * COLUMNS
    column, ninth = start + 4 * (byte % GROUP), start + 4 * GROUP + byte % GROUP // 2
    a, b = activation(x, token, column), activation(x, token, column + 1)
    c, d = activation(x, token, column + 2), activation(x, token, column + 3)
    high = HIGH_SUMS + byte % 2 * MASKS_OF_TABLE
    return sums_of(masks, LOW_SUMS, a, b, c, d), sums_of(masks, high, b, c, d, activation(x, token, ninth))


@inlined
def row_bytes(columns: int) -> int:
    """Return the bytes that a row takes; `nibble9.bytes_per_row` for compiled functions."""
    left = columns % COLUMNS
    return columns // COLUMNS * GROUP + (0 if left == 0 else 4 if left <= 16 else GROUP)


@compiled
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, bytes of a row, 256)."""
    masks = MASKS
    tokens, taken = x.shape[0], row_bytes(x.shape[1])
    part = np.empty(16, np.int16)
    first, last = share(taken, thread, threads)
    for byte in range(first, last):
        for token in range(tokens):
            low, high = nibble_sums(x, token, byte, masks)
            store(part, 0, high)
            place = (token * taken + byte) * ENTRIES
            for entry in range(16):
                store(prepared, place + 16 * entry, low + splat(I16X16, part[entry]))


@inlined
def entry(tables: Int16, table: Any, packed: Bytes, place: Any) -> Any:
    """Return the sum of the byte at a place; unsigned, so that nothing is compared with 0."""
    return tables[table + np.uint64(packed[place])]


@compiled
def eight_rows(packed: Bytes, place: int, count: int, tables: Int16, table: int, sums: Int32, row: int) -> None:
    """Add to the sums of eight rows those of `count` bytes each."""
    s0, s1, s2, s3 = sums[row], sums[row + 1], sums[row + 2], sums[row + 3]
    s4, s5, s6, s7 = sums[row + 4], sums[row + 5], sums[row + 6], sums[row + 7]
    byte, start = np.uint64(place), np.uint64(table)
    for _ in range(count):
        s0 += entry(tables, start, packed, byte)
        s1 += entry(tables, start, packed, byte + np.uint64(1))
        s2 += entry(tables, start, packed, byte + np.uint64(2))
        s3 += entry(tables, start, packed, byte + np.uint64(3))
        s4 += entry(tables, start, packed, byte + np.uint64(4))
        s5 += entry(tables, start, packed, byte + np.uint64(5))
        s6 += entry(tables, start, packed, byte + np.uint64(6))
        s7 += entry(tables, start, packed, byte + np.uint64(7))
        byte += np.uint64(ROWS)
        start += np.uint64(ENTRIES)
    sums[row], sums[row + 1], sums[row + 2], sums[row + 3] = s0, s1, s2, s3
    sums[row + 4], sums[row + 5], sums[row + 6], sums[row + 7] = s4, s5, s6, s7


@compiled
def few_tokens(packed: Bytes, prepared: Int16, taken: int, out: Int32, sums: Int32, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of a few tokens, one after another."""
    tokens, rows = out.shape
    for token in range(tokens):
        sums[:] = 0
        for byte in range(0, taken, IN_CACHE):
            table = (token * taken + byte) * ENTRIES
            for block in range(first, last):
                place = (block * taken + byte) * ROWS
                for row in range(0, ROWS, TOGETHER):
                    row_ = (block - first) * ROWS + row
                    eight_rows(packed, place + row, min(IN_CACHE, taken - byte), prepared, table, sums, row_)
        start = first * ROWS
        for row in range(start, min(last * ROWS, rows)):
            out[token, row] = sums[row - start]


@compiled
def write_patterns(packed: Bytes, taken: int, chunk: int, block: int, patterns: Bytes) -> None:
    """Write the patterns of nine groups of four columns of 32 rows: (9, 32)."""
    table, bits = PATTERNS, PATTERN_TABLES
    patterns[GROUP * ROWS :] = 0
    for byte in range(min(GROUP, taken - chunk * GROUP)):
        place = (block * taken + chunk * GROUP + byte) * ROWS
        prefetch(packed, place + GROUP * ROWS)  # for the next chunk: these bytes lie too far apart for the CPU to guess
        for row in range(ROWS):
            code = packed[place + row]
            patterns[byte * ROWS + row] = table[code]
            patterns[GROUP * ROWS + row] += bits[32 + byte // 2 * 16 + (code >> 4)]
    for place in range((taken - chunk * GROUP) * ROWS, GROUP * ROWS):
        patterns[place] = ZERO


@inlined
def store_places(places: Words, place: int, patterns: Register, starts: Words, start: int, width: int) -> None:
    """Write where the sums of 16 patterns lie: elements / 4 from the start of the tables of all groups."""
    of_width_16 = (widen_unsigned(patterns) << 2) + load(I16X16, starts, start)
    store(places, place, of_width_16 << (width >> 5))


@inlined
def store_four(places: Words, place: int, patterns: Bytes, group: int, starts: Words, start: int, width: int) -> None:
    """Write the places of four groups of 16 rows as (16, 4)."""
    a, b = load(U8X16, patterns, group), load(U8X16, patterns, group + ROWS)
    c, d = load(U8X16, patterns, group + 2 * ROWS), load(U8X16, patterns, group + 3 * ROWS)
    ab, ab_high = reinterpret(I16X8, interleave_low(a, b)), reinterpret(I16X8, interleave_high(a, b))
    cd, cd_high = reinterpret(I16X8, interleave_low(c, d)), reinterpret(I16X8, interleave_high(c, d))
    store_places(places, place, reinterpret(U8X16, interleave_low(ab, cd)), starts, start, width)
    store_places(places, place + 16, reinterpret(U8X16, interleave_high(ab, cd)), starts, start, width)
    store_places(places, place + 32, reinterpret(U8X16, interleave_low(ab_high, cd_high)), starts, start, width)
    store_places(places, place + 48, reinterpret(U8X16, interleave_high(ab_high, cd_high)), starts, start, width)


@inlined
def write_places(patterns: Bytes, starts: Words, row: int, rows: int, width: int, places: Words) -> None:
    """Write where the sums of 32 rows lie in tables 16 or 32 wide, from `row` on; see `russians.Places`."""
    for half in range(0, ROWS, 16):
        store_four(places, 4 * (row + half), patterns, half, starts, 0, width)
        store_four(places, 4 * (rows + row + half), patterns, 4 * ROWS + half, starts, 16, width)
        ninths = load(U8X16, patterns, GROUP * ROWS + half)
        store_places(places, 8 * rows + row + half, ninths, starts, 32, width)


@compiled
def many_tokens(
    packed: Bytes, prepared: Int16, columns: int, out: Int32, scratch: Int16, first: int, last: int
) -> None:
    """Write the row blocks from `first` to before `last` of many tokens with the tables of the Four Russians."""
    starts = STARTS
    width = lanes(I16X16)
    taken, chunks, rows = row_bytes(columns), russians.chunks(columns), (last - first) * ROWS
    blocks = -(-out.shape[0] // width)
    together = russians.blocks_together(rows, blocks)
    places, tables, totals, sums = russians.carve(I16X16, scratch, rows, together)
    patterns = np.empty(9 * ROWS, np.uint8)
    bounds = russians.bounds_of(I16X16, prepared, blocks, chunks)
    reach = np.zeros(together, np.int64)  # how large the int16 totals of a token block can be by now
    flushed = np.zeros(together, np.bool_)
    for start in range(0, blocks, together):
        here = min(together, blocks - start)
        reach[:] = 0
        flushed[:] = False
        for chunk in range(chunks):
            for block in range(first, last):
                write_patterns(packed, taken, chunk, block, patterns)
                write_places(patterns, starts, (block - first) * ROWS, rows, width, places)
            for block in range(here):
                bound = bounds[(start + block) * chunks + chunk]
                if reach[block] + bound > russians.LARGEST:
                    russians.flush(I16X16, totals, sums, block * rows * width, rows, not flushed[block])
                    flushed[block] = True
                    reach[block] = 0
                place = ((start + block) * chunks + chunk) * russians.COLUMNS * width
                russians.build_tables(I16X16, prepared, place, tables)
                russians.add_chunk(I16X16, places, tables, totals, block * rows * width, rows, reach[block] == 0)
                reach[block] += bound
        for block in range(here):
            part = sums if flushed[block] else sums[:0]
            corner = (start + block) * width, first * ROWS
            russians.write_out(I16X16, totals, part, block * rows * width, rows, out, corner)


@compiled
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of what all rows need of the activations."""
    if x.shape[0] < MANY:
        build_tables(x, prepared, thread, threads)
    else:
        russians.transpose(I16X16, x, prepared, thread, threads)


@compiled
def product(packed: Bytes, prepared: Int16, columns: int, out: Int32, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`; see `Kernel`."""
    if first < last and out.shape[0] < MANY:
        sums = scratch[: 2 * ROWS * (last - first)].view(np.int32)
        few_tokens(packed, prepared, row_bytes(columns), out, sums, first, last)
    elif first < last:
        many_tokens(packed, prepared, columns, out, scratch, first, last)


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations."""
    if tokens < MANY:
        return tokens * bytes_per_row(columns) * ENTRIES
    return -(-tokens // 16) * 16 * -(-columns // COLUMNS) * COLUMNS


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory that a thread with this many rows needs."""
    return 2 * rows if tokens < MANY else russians.scratch_elements(16, rows, tokens)


@compiled
def multiply(
    counters: Any,
    thread: int,
    threads: int,
    packed: Bytes,
    turns: tuple[int, int],
    x: Activations,
    out: Sums,
    work: tuple[Int16, Int16],
) -> None:
    """Multiply x by matrices of packed (matrices, words), in turns; see `Kernel`."""
    start, times = turns
    prepared, scratch = work
    blocks = row_blocks(out.shape[1])
    step = -(-blocks // threads)
    for turn in range(start, start + times):
        prepare(x, prepared, thread, threads)
        open_shares(counters, thread, threads, blocks)
        barrier(counters, threads)
        first, last = take(counters, thread, threads, blocks, step)
        while first < blocks:
            product(packed[turn % packed.shape[0]], prepared, x.shape[1], out, scratch[thread], first, last)
            first, last = take(counters, thread, threads, blocks, step)
        barrier(counters, threads)


KERNEL = Kernel(
    name="portable",
    packing="nibble9",
    word=np.uint8,
    needs=frozenset(),
    prepared_elements=prepared_elements,
    scratch_elements=scratch_elements,
    prepare=prepare,
    product=product,
    multiply=multiply,
)
