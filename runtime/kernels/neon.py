"""NEON: 32 rows at once look up sums of activations with tbl, a nibble at a time (1.78 bits a weight).

tbl looks bytes up in a register of 16, so each sum is two bytes, 32 high + low, looked up and added apart. In the
layout `nibble9` two bytes of a row hold nine weights. For 144 weights: a load of 32 bytes, two masks, two shifts, eight
lookups and eight adds. After eight nibbles the bytes are full, and uaddw and saddw add them to 16-bit sums. From `MANY`
tokens on the tables of `four_russians` are quicker.

Cycles for 64 weights on a Cortex-A72 and an A76 by LLVM's timing models (`make test-arm` prints them): 8.2 and 4.7.
Tried: three weights an index in tables of two registers, nine weights in 16 bits: 10.9 and 4.5. Two weights an index,
four in a byte: 9.4 and 5.3. This without the branch in the loop, so that registers are spilled: 8.3 and 4.8. Tables of
two registers gain a twentieth on the A76 and cost a third on the A72; `avx2` and `portable` use `nibble9` too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.nibble9 import GROUP, ROWS, bytes_per_row
from ..simd.neon import look_up, narrow
from ..simd.vector import (
    I16X16,
    I16X32,
    U8X16,
    U8X32,
    add_into,
    load,
    prefetch,
    splat,
    store,
    widen,
    widen_unsigned,
)
from . import four_russians as russians
from . import nibble9_places
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share
from .nibble9_places import PATTERN_TABLES, ZERO, row_bytes
from .nibble9_sums import MASKS, nibble_sums

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Register = Any

TABLES = 64  # bytes of the tables of a byte of a row: low nibble's low and high bytes, high nibble's
STEP = 4  # bytes of a row before widening: 8 nibbles x 31 = 248 unsigned, 8 x -16 = -128 signed
STEPS_IN_INT16 = 256  # 256 x 248 < 65,536 unsigned, 256 x -128 = -32,768 signed
AHEAD = 128  # bytes of a row asked for before they are used
TOGETHER = 4  # row blocks that a thread takes at once
SCRATCH = 2 * ROWS  # int16 elements
MANY = 9  # tokens from which on the tables of the Four Russians are quicker


@inlined
def store_table(tables: Bytes, place: int, sums: Register) -> None:
    """Write 16 sums from -512 to 511 as low bytes from 0 to 31 and high bytes from -16 to 15: 32 high + low."""
    store(tables, place, narrow(sums) & 31)
    store(tables, place + 16, narrow(sums >> 5))


@inner
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: bytes (tokens, bytes of a row, 64)."""
    masks = MASKS
    tables = prepared.view(np.uint8)
    tokens, taken = x.shape[0], row_bytes(x.shape[1])
    first, last = share(taken, thread, threads)
    for byte in range(first, last):
        for token in range(tokens):
            low, high = nibble_sums(x, token, byte, masks)
            place = (token * taken + byte) * TABLES
            store_table(tables, place, low)
            store_table(tables, place + 32, high)


@inlined
def first_byte(packed: Bytes, place: int, tables: Bytes, table: int) -> tuple[Register, Register]:
    """Return the low and high bytes of 32 rows' sums of a byte of a row."""
    codes = load(U8X32, packed, place)
    index, other = codes & 15, codes >> 4
    low = look_up(load(U8X16, tables, table), index) + look_up(load(U8X16, tables, table + 32), other)
    high = look_up(load(U8X16, tables, table + 16), index) + look_up(load(U8X16, tables, table + 48), other)
    return low, high


@inlined
def next_byte(
    packed: Bytes, place: int, tables: Bytes, table: int, low: Register, high: Register
) -> tuple[Register, Register]:
    """Add to the low and high bytes those of another byte of a row."""
    codes = load(U8X32, packed, place)
    index, other = codes & 15, codes >> 4
    low = low + look_up(load(U8X16, tables, table), index)
    high = high + look_up(load(U8X16, tables, table + 16), index)
    low = low + look_up(load(U8X16, tables, table + 32), other)
    return low, high + look_up(load(U8X16, tables, table + 48), other)


@inlined
def add_bytes(packed: Bytes, place: int, tables: Bytes, table: int, taken: int) -> Any:
    """Return the 16-bit sums of 32 rows' low and high bytes, of up to `taken` bytes of a row, a multiple of four."""
    lows = highs = splat(I16X32, 0)
    byte = 0
    while byte < taken:
        prefetch(packed, place + AHEAD * ROWS)
        prefetch(packed, place + AHEAD * ROWS + 64)
        low, high = first_byte(packed, place, tables, table)
        low, high = next_byte(packed, place + ROWS, tables, table + TABLES, low, high)
        byte += 2
        # It always is. The branch keeps the compiler from loading all tables at once: there are too few registers.
        if byte < taken:
            low, high = next_byte(packed, place + 2 * ROWS, tables, table + 2 * TABLES, low, high)
            low, high = next_byte(packed, place + 3 * ROWS, tables, table + 3 * TABLES, low, high)
            byte += 2
        lows = lows + widen_unsigned(low)
        highs = highs + widen(high)
        place += STEP * ROWS
        table += STEP * TABLES
    return lows, highs


@inner
def one_token(packed: Bytes, taken: int, tables: Bytes, start: int, sums: Int32, block: int) -> None:
    """Write the 32 sums of one token and a row block; the tables begin at `start`."""
    store(sums, 0, widen(splat(I16X32, 0)))
    for byte in range(0, taken, STEP * STEPS_IN_INT16):
        here = min(STEP * STEPS_IN_INT16, taken - byte)
        lows, highs = add_bytes(packed, (block * taken + byte) * ROWS, tables, start + byte * TABLES, here)
        add_into(sums, 0, widen_unsigned(lows) + (widen(highs) << 5))


@inner
def few_tokens(packed: Bytes, prepared: Int16, taken: int, out: Int32, sums: Int32, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of a few tokens, the weights read from memory once."""
    tokens, rows = out.shape
    tables = prepared.view(np.uint8)
    for block in range(first, last):
        for token in range(tokens):
            one_token(packed, taken, tables, token * taken * TABLES, sums, block)
            for row in range(min(ROWS, rows - block * ROWS)):
                out[token, block * ROWS + row] = sums[row]


@inner
def write_patterns(packed: Bytes, taken: int, chunk: int, block: int, patterns: Bytes) -> None:
    """Write the patterns of nine groups of four columns of 32 rows: (9, 32)."""
    tables = PATTERN_TABLES
    low, high = load(U8X16, tables, 0), load(U8X16, tables, 16)
    ninth = splat(U8X32, 0)
    for byte in range(min(GROUP, taken - chunk * GROUP)):
        place = (block * taken + chunk * GROUP + byte) * ROWS
        prefetch(packed, place + GROUP * ROWS)  # for the next chunk
        codes = load(U8X32, packed, place)
        other = codes >> 4
        # Masked, so that damaged bytes lead no further than the scratch memory behind the tables.
        store(patterns, byte * ROWS, (look_up(low, codes & 15) + look_up(high, other)) & 127)
        ninth = ninth + look_up(load(U8X16, tables, 32 + byte // 2 * 16), other)
    store(patterns, GROUP * ROWS, ninth)
    for byte in range(taken - chunk * GROUP, GROUP):
        store(patterns, byte * ROWS, splat(U8X32, ZERO))


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
    few_tokens(packed, prepared, row_bytes(columns), out, scratch.view(np.int32), first, last)


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
    return tokens * bytes_per_row(columns) * TABLES // 2


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory for a few tokens."""
    return SCRATCH


KERNEL = Kernel(
    name="neon",
    packing="nibble9",
    needs=frozenset({"neon"}),
    methods=(
        (1, Compiled(prepare_few, few, prepared_elements, scratch_elements, TOGETHER)),
        (MANY, russians.method(prepare_many, many, 16)),
    ),
)
