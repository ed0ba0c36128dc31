"""From the bytes of `nibble9` to places in the tables of `four_russians`; each kernel looks the patterns up itself."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined
from ..packing.nibble9 import COLUMNS, GROUP, HIGH, LOW, ROWS
from ..simd.vector import (
    I16X8,
    I16X16,
    U8X16,
    interleave_high,
    interleave_low,
    load,
    reinterpret,
    store,
    widen_unsigned,
)
from . import four_russians as russians

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]
Register = Any


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
def row_bytes(columns: int) -> int:
    """Return the bytes that a row takes; `nibble9.bytes_per_row` for compiled functions."""
    left = columns % COLUMNS
    return columns // COLUMNS * GROUP + (0 if left == 0 else 4 if left <= 16 else GROUP)


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
def write_block_places(patterns: Bytes, starts: Words, row: int, rows: int, width: int, places: Words) -> None:
    """Write where the sums of 32 rows lie in tables 16 or 32 wide, from `row` on; see `russians.Places`."""
    for half in range(0, ROWS, 16):
        store_four(places, 4 * (row + half), patterns, half, starts, 0, width)
        store_four(places, 4 * (rows + row + half), patterns, 4 * ROWS + half, starts, 16, width)
        ninths = load(U8X16, patterns, GROUP * ROWS + half)
        store_places(places, 8 * rows + row + half, ninths, starts, 32, width)


@inlined
def write_places(
    write_patterns: Any, packed: Bytes, columns: int, chunk: int, blocks: tuple[int, int], width: int, places: Words
) -> None:
    """Write the places of nine groups of four columns; see `four_russians`.

    write_patterns(packed, row_bytes, chunk, block, patterns) is a kernel's own: the patterns (9, 32) of a row block.
    """
    starts = STARTS
    patterns = np.empty(russians.GROUPS * ROWS, np.uint8)
    first, last = blocks
    for block in range(first, last):
        write_patterns(packed, row_bytes(columns), chunk, block, patterns)
        write_block_places(patterns, starts, (block - first) * ROWS, (last - first) * ROWS, width, places)
