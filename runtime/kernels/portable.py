"""Any CPU: a byte is the address of the sum of its four and a half weights, eight rows at once in registers.

For each byte of a row, all 256 sums are made with one addition each; all rows share the tables. Load a byte, load its
sum, add. The tables of 180 columns stay in first-level cache while all rows go by. From `MANY` tokens on the tables
of `four_russians` are quicker; LLVM makes their registers of what the CPU has.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.nibble9 import GROUP, ROWS, bytes_per_row
from ..simd.vector import (
    I16X16,
    prefetch,
    splat,
    store,
)
from . import four_russians as russians
from . import nibble9_places
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share
from .nibble9_places import PATTERN_TABLES, PATTERNS, ZERO, row_bytes
from .nibble9_sums import MASKS, nibble_sums

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Register = Any

ENTRIES = 256  # of a byte's table
IN_CACHE = 40  # bytes of a row whose tables are in first-level cache together: 20 kB
TOGETHER = 8  # rows whose sums are in registers
MANY = 4  # tokens from which on the tables of the Four Russians are quicker


@inner
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


@inner
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


@inner
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


@inner
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


@inner
def write_places(packed: Packed, columns: int, chunk: int, blocks: tuple[int, int], width: int, places: Words) -> None:
    """Write the places of nine groups of four columns; see `four_russians`."""
    nibble9_places.write_places(write_patterns, packed, columns, chunk, blocks, width, places)


@prepares
def prepare_few(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables of a few tokens; see `Compiled`."""
    build_tables(x, prepared, thread, threads)


@multiplies
def few(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of a few tokens; see `Compiled`."""
    sums = scratch[: 2 * ROWS * (last - first)].view(np.int32)
    few_tokens(packed, prepared, row_bytes(columns), out, sums, first, last)


@prepares
def prepare_many(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Turn a thread's share of x for tables of 16 lanes; see `Compiled`."""
    russians.transpose(I16X16, x, prepared, thread, threads)


@multiplies
def many(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of many tokens; see `Compiled`."""
    russians.multiply(write_places, I16X16, packed, prepared, columns, out, scratch, (first, last))


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the tables of a few tokens."""
    return tokens * bytes_per_row(columns) * ENTRIES


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory for a few tokens."""
    return 2 * rows


KERNEL = Kernel(
    name="portable",
    packing="nibble9",
    needs=frozenset(),
    methods=(
        (1, Compiled(prepare_few, few, prepared_elements, scratch_elements)),
        (MANY, russians.method(prepare_many, many, 16)),
    ),
)
