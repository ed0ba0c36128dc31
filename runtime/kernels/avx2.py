"""AVX2: 32 rows at once look up sums of activations with vpshufb, a nibble at a time (1.78 bits a weight).

vpshufb looks up bytes in a table of 16, so each sum is two bytes, 32 high + low, looked up and added apart. In the
layout `nibble9` four nibbles hold nine weights: 2 shifts, 4 masks, 8 lookups, 7 adds and 3 operations of widening do
288 of them, 24 operations where vpmaddubsw takes 30 (`maddubs`).

After eight nibbles the bytes are full. Widening is three operations for 32 bytes: taken as 16-bit lanes of an even and
an odd byte, the lanes are added up, and so are the lanes shifted right by 8; the even bytes' sum is the first less 256
times the second, modulo 2^16. For many tokens the tables of `four_russians` are quicker.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.nibble9 import COLUMNS, GROUP, HIGH, LOW, ROWS, bytes_per_row
from ..simd.avx2 import load_twice, low_bytes, shuffle, sign
from ..simd.vector import (
    I16X16,
    I16X32,
    I32X8,
    I32X16,
    U8X32,
    add_into,
    broadcast,
    interleave_high,
    interleave_low,
    load,
    prefetch,
    reinterpret,
    splat,
    store,
    widen,
)
from . import four_russians as russians
from . import nibble9_places
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share
from .nibble9_places import PATTERN_TABLES, ZERO, row_bytes

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Register = Any

TABLES = 64  # bytes of the tables of a byte of a row: low nibble's low and high bytes, high nibble's
TOGETHER = 4  # row blocks worked on in turns: as many streams from memory
AHEAD = 128  # bytes of a row asked for before they are used
STEP = 4  # bytes of a row before widening: 8 nibbles x 16 = 128
BIAS = 128  # added to a byte's sums before each widening, since they are then taken as unsigned
STEPS_IN_INT16 = 256  # of at most 255 in an unsigned lane
TOTALS = 64  # int16 elements of a row block's totals: low all, low odd, high all, high odd
SCRATCH = TOGETHER * (TOTALS + 2 * ROWS)  # int16 elements of scratch memory for a token
NARROW, WIDE = 14, 17  # tokens from which on the tables of the Four Russians are quicker, with 16 or 32 lanes


# What each of the 16 entries of a nibble's table takes of four activations: the low nibble's, the high nibble's of even
# bytes, whose bit counts from -1, and of odd bytes.
SIGNS = np.stack([LOW.T, (HIGH - np.array([0, 0, 0, 1], np.int8)).T, HIGH.T]).astype(np.int16).reshape(-1)
LOW_SIGNS, HIGH_SIGNS = 0, 64


@inlined
def store_table(tables: Bytes, place: int, sums: Register, bias: int) -> None:
    """Write 16 sums from -512 to 495 as low bytes from -16 to 15 and high bytes, sum = 32 high + low, plus a bias."""
    high = ((sums + splat(I16X16, 528)) >> 5) - splat(I16X16, 16)
    low = sums - (high << 5)
    added = splat(I16X16, bias)
    store(tables, place, low_bytes(low + added, high + added))


@inlined
def signed_sum(signs: Int16, place: int, a: Register, b: Register, c: Register, d: Register) -> Register:
    """Return the 16 sums of a nibble of four activations."""
    sums = sign(a, load(I16X16, signs, place)) + sign(b, load(I16X16, signs, place + 16))
    return sums + sign(c, load(I16X16, signs, place + 32)) + sign(d, load(I16X16, signs, place + 48))


@inlined
def everywhere(pairs: Int32, place: int) -> Register:
    """Return an activation, twice in an int32, in 16 lanes."""
    return reinterpret(I16X16, broadcast(I32X8, pairs, place))


@inlined
def byte_tables(pairs: Int32, byte: int, signs: Int16, tables: Bytes, place: int) -> None:
    """Write the tables of a byte of a group of 36 activations: 64 bytes."""
    b, c = everywhere(pairs, 4 * byte + 1), everywhere(pairs, 4 * byte + 2)
    d, ninth = everywhere(pairs, 4 * byte + 3), everywhere(pairs, 4 * GROUP + (byte >> 1))
    low = signed_sum(signs, LOW_SIGNS, everywhere(pairs, 4 * byte), b, c, d)
    store_table(tables, place, low, BIAS if byte & (STEP - 1) == 0 else 0)
    store_table(tables, place + 32, signed_sum(signs, HIGH_SIGNS + (byte & 1) * 64, b, c, d, ninth), 0)


@inlined
def twice(value: Any) -> Any:
    """Return an int32 with the same int16 in both halves."""
    wide = np.int32(value)
    return (wide << np.int32(16)) | (wide & np.int32(0xFFFF))


@inner
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: bytes (tokens, bytes of a row, 64)."""
    signs = SIGNS
    tables = prepared.view(np.uint8)
    tokens, columns = x.shape
    taken = row_bytes(columns)
    pairs = np.zeros(COLUMNS, np.int32)
    first, last = share(-(-taken // GROUP), thread, threads)
    for token in range(tokens):
        for group in range(first, last):
            here = x[token, group * COLUMNS : (group + 1) * COLUMNS]
            pairs[len(here) :] = 0
            for column in range(len(here)):
                pairs[column] = twice(here[column])
            place = (token * taken + group * GROUP) * TABLES
            for byte in range(min(GROUP, taken - group * GROUP)):
                byte_tables(pairs, byte, signs, tables, place + byte * TABLES)


@inlined
def high_nibbles(codes: Register) -> Register:
    """Return the high nibbles of 32 bytes."""
    return reinterpret(U8X32, reinterpret(I16X16, codes) >> 4) & 15


@inlined
def nibbles(packed: Bytes, place: int) -> tuple[Register, Register]:
    """Return the low and the high nibbles of 32 bytes."""
    codes = load(U8X32, packed, place)
    return codes & 15, high_nibbles(codes)


@inlined
def byte_sums(tables: Bytes, table: int, low: Register, high: Register) -> tuple[Register, Register]:
    """Return the low and high bytes of the sums of a byte of 32 rows."""
    low_bytes_ = shuffle(load_twice(tables, table), low) + shuffle(load_twice(tables, table + 32), high)
    return low_bytes_, shuffle(load_twice(tables, table + 16), low) + shuffle(load_twice(tables, table + 48), high)


@inlined
def four_bytes_sums(tables: Bytes, table: int, codes: Any) -> tuple[Register, Register]:
    """Return the low and high bytes of the sums of four bytes of 32 rows, whose nibbles are given."""
    low, high = byte_sums(tables, table, codes[0], codes[1])
    low_1, high_1 = byte_sums(tables, table + TABLES, codes[2], codes[3])
    low_2, high_2 = byte_sums(tables, table + 2 * TABLES, codes[4], codes[5])
    low_3, high_3 = byte_sums(tables, table + 3 * TABLES, codes[6], codes[7])
    return low + low_1 + low_2 + low_3, high + high_1 + high_2 + high_3


@inlined
def add_step(
    packed: Bytes, place: int, tables: Bytes, table: tuple[int, int], tokens: int, totals: Int16, total: int
) -> None:
    """Add four bytes of 32 rows to a row block's totals of each token; table = start, stride of tokens."""
    codes = (
        *nibbles(packed, place),
        *nibbles(packed, place + ROWS),
        *nibbles(packed, place + 2 * ROWS),
        *nibbles(packed, place + 3 * ROWS),
    )
    for token in range(tokens):
        low, high = four_bytes_sums(tables, table[0] + token * table[1], codes)
        low_pairs, high_pairs = reinterpret(I16X16, low), reinterpret(I16X16, high)
        place = total + token * TOTALS
        add_into(totals, place, low_pairs)
        add_into(totals, place + 16, low_pairs >> 8)
        add_into(totals, place + 32, high_pairs)
        add_into(totals, place + 48, high_pairs >> 8)


@inlined
def even_rows(totals: Int16, total: int, bias: Register) -> Register:
    """Return the 16-bit sums of the even rows' bytes."""
    return load(I16X16, totals, total) - (load(I16X16, totals, total + 16) << 8) - bias


@inlined
def add_to_sums(totals: Int16, total: int, steps: int, sums: Int32, row: int) -> None:
    """Add a row block's totals to its 32 sums."""
    bias = splat(I16X16, BIAS * steps)
    even = widen(even_rows(totals, total, bias)) + (widen(even_rows(totals, total + 32, bias)) << 5)
    odd_low, odd_high = load(I16X16, totals, total + 16) - bias, load(I16X16, totals, total + 48) - bias
    odd = widen(odd_low) + (widen(odd_high) << 5)
    add_into(sums, row, interleave_low(even, odd))
    add_into(sums, row + 16, interleave_high(even, odd))


@inlined
def some_blocks(
    packed: Bytes, taken: int, tables: Bytes, tokens: int, totals: Int16, sums: Int32, blocks: tuple[int, int]
) -> None:
    """Write the sums of a few tokens for row blocks (first, count), int32 (count, tokens, 32)."""
    first, count = blocks
    stride = taken * ROWS
    byte = 0
    for row in range(0, count * tokens * ROWS, 16):
        store(sums, row, splat(I32X16, 0))
    while byte < taken:
        end = min(byte + STEP * STEPS_IN_INT16, taken)
        steps = (end - byte) // STEP
        for total in range(0, count * tokens * TOTALS, 16):
            store(totals, total, splat(I16X16, 0))
        while byte < end:
            place = first * stride + byte * ROWS
            # Near the end of these blocks the next ones are asked for.
            ahead = AHEAD * ROWS + ((count - 1) * stride if byte + AHEAD >= taken else 0)
            for block in range(count):
                prefetch(packed, place + ahead)
                prefetch(packed, place + ahead + 64)
                table = byte * TABLES, taken * TABLES
                add_step(packed, place, tables, table, tokens, totals, block * tokens * TOTALS)
                place += stride
            byte += STEP
        for part in range(count * tokens):
            add_to_sums(totals, part * TOTALS, steps, sums, part * ROWS)


@inner
def one_token(packed: Bytes, taken: int, tables: Bytes, totals: Int16, sums: Int32, blocks: tuple[int, int]) -> None:
    """Write the sums of one token: compiled for itself, 7 % quicker."""
    some_blocks(packed, taken, tables, 1, totals, sums, blocks)


@inner
def two_tokens_or_more(
    packed: Bytes, taken: int, tables: Bytes, tokens: int, totals: Int16, sums: Int32, blocks: tuple[int, int]
) -> None:
    """Write the sums of several tokens, the nibbles taken apart once."""
    some_blocks(packed, taken, tables, tokens, totals, sums, blocks)


@inner
def few_tokens(packed: Bytes, prepared: Int16, taken: int, out: Int32, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of a few tokens, the weights read from memory once."""
    tokens, rows = out.shape
    tables = prepared.view(np.uint8)
    totals = scratch[: TOGETHER * tokens * TOTALS]
    sums = scratch[TOGETHER * tokens * TOTALS : TOGETHER * tokens * (TOTALS + 2 * ROWS)].view(np.int32)
    for block in range(first, last, TOGETHER):
        count = min(TOGETHER, last - block)
        if tokens == 1:
            one_token(packed, taken, tables, totals, sums, (block, count))
        else:
            two_tokens_or_more(packed, taken, tables, tokens, totals, sums, (block, count))
        for part in range(count):
            row = (block + part) * ROWS
            for token in range(tokens):
                for step in range(min(ROWS, rows - row)):
                    out[token, row + step] = sums[(part * tokens + token) * ROWS + step]


@inner
def write_patterns(packed: Bytes, taken: int, chunk: int, block: int, patterns: Bytes) -> None:
    """Write the patterns of nine groups of four columns of 32 rows: (9, 32)."""
    tables = PATTERN_TABLES
    low, high = load_twice(tables, 0), load_twice(tables, 16)
    ninth = splat(U8X32, 0)
    for byte in range(min(GROUP, taken - chunk * GROUP)):
        place = (block * taken + chunk * GROUP + byte) * ROWS
        prefetch(packed, place + GROUP * ROWS)  # for the next chunk: these bytes lie too far apart for the CPU to guess
        codes = load(U8X32, packed, place)
        other = high_nibbles(codes)
        # Masked, so that damaged bytes lead no further than the scratch memory behind the tables.
        store(patterns, byte * ROWS, (shuffle(low, codes & 15) + shuffle(high, other)) & 127)
        ninth = ninth + shuffle(load_twice(tables, 32 + byte // 2 * 16), other)
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
    few_tokens(packed, prepared, row_bytes(columns), out, scratch, first, last)


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
    return tokens * bytes_per_row(columns) * TABLES // 2


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory for a few tokens."""
    return SCRATCH * tokens


KERNEL = Kernel(
    name="avx2",
    packing="nibble9",
    needs=frozenset({"avx2"}),
    methods=(
        (1, Compiled(prepare_few, few, prepared_elements, scratch_elements, TOGETHER)),
        (NARROW, russians.method(prepare_narrow, narrow, 16)),
        (WIDE, russians.method(prepare_wide, wide, 32)),
    ),
)
