"""AVX2 with vpmaddubsw, to compare the additions with (it is no part of a model's way).

Two products of unsigned and signed bytes are added up in a 16-bit lane. A lane of four bytes belongs to one row, as in
ik_llama.cpp's IQ2_BN_R4; codes are weight + 1, and the sum of the activations is taken off at the end. Codes in bits
2-3 stay where they are, four times too large, so that a load of 128 weights takes one shift instead of three: 1 shift,
4 masks, 4 multiplications, 4 adds.
"""

from typing import Any

import numpy as np

from ..compile import inlined, inner
from ..packing.dot16 import COLUMNS, ROWS
from ..simd.avx2 import multiply_bytes, multiply_words
from ..simd.vector import I16X16, I32X8, U8X32, add_into, broadcast, load, prefetch, reinterpret, splat, store
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, multiplies, prepares, share

Register = Any

BYTES = ROWS * 4  # of a column group of a row block
AHEAD = 32  # column groups asked for before they are used
TOGETHER = 4  # row blocks worked on in turns: as many streams from memory
IN_INT16 = 8  # column groups: 8 x 4 products of at most 8 x 128 = 32,768, which occurs as -32,768 only


@inlined
def split(prepared: Int16, tokens: int, groups: int) -> tuple[Int32, Int32]:
    """Return the activations, four in an int32 (tokens, groups, 4), and their sums (tokens)."""
    words = prepared.view(np.int32)
    return words[: tokens * groups * 4], words[tokens * groups * 4 :]


@prepares
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Copy a thread's share of x as bytes, filled up with zeros, and the sums of each token: see `split`."""
    tokens, columns = x.shape
    groups = -(-columns // COLUMNS)
    fours, sums = split(prepared, tokens, groups)
    bytes_ = fours.view(np.int8)
    first, last = share(tokens, thread, threads)
    for token in range(first, last):
        place = token * groups * COLUMNS
        bytes_[place : place + columns] = x[token]
        bytes_[place + columns : place + groups * COLUMNS] = 0
        total = np.int32(0)
        for value in x[token]:
            total += np.int32(value)
        sums[token] = total


@inlined
def activations(fours: Int32, place: int) -> Register:
    """Return four activations in every lane."""
    return reinterpret(U8X32, broadcast(I32X8, fours, place))


@inlined
def add_products(codes: Register, fours: Int32, place: int, once: Register, four_times: Register) -> Any:
    """Add the products of eight rows' codes of 16 columns."""
    upper = reinterpret(U8X32, reinterpret(I16X16, codes) >> 4)
    once = once + multiply_bytes(codes & 3, activations(fours, place))
    four_times = four_times + multiply_bytes(codes & 12, activations(fours, place + 1))
    once = once + multiply_bytes(upper & 3, activations(fours, place + 2))
    return once, four_times + multiply_bytes(upper & 12, activations(fours, place + 3))


@inlined
def add_pairs(sums: Int32, row: int, once: Register, four_times: Register) -> None:
    """Add to the sums of eight rows, four times as large as they should be."""
    add_into(sums, row, multiply_words(once, splat(I16X16, 4)) + multiply_words(four_times, splat(I16X16, 1)))


@inlined
def add_groups(
    packed: Packed, place: int, ahead: int, fours: Int32, four: int, groups: int, sums: Int32, row: int
) -> None:
    """Add to 32 rows' sums the products of up to `IN_INT16` column groups."""
    a = b = c = d = splat(I16X16, 0)
    e = f = g = h = splat(I16X16, 0)
    for _ in range(groups):
        prefetch(packed, place + ahead)
        prefetch(packed, place + ahead + 64)
        a, e = add_products(load(U8X32, packed, place), fours, four, a, e)
        b, f = add_products(load(U8X32, packed, place + 32), fours, four, b, f)
        c, g = add_products(load(U8X32, packed, place + 64), fours, four, c, g)
        d, h = add_products(load(U8X32, packed, place + 96), fours, four, d, h)
        place += BYTES
        four += 4
    add_pairs(sums, row, a, e)
    add_pairs(sums, row + 8, b, f)
    add_pairs(sums, row + 16, c, g)
    add_pairs(sums, row + 24, d, h)


@inner
def one_token(packed: Packed, groups: int, fours: Int32, start: int, sums: Int32, blocks: tuple[int, int]) -> None:
    """Write four times the sums of codes x activations of one token for row blocks (first, count)."""
    first, count = blocks
    stride = groups * BYTES
    for row in range(0, count * ROWS, 8):
        store(sums, row, splat(I32X8, 0))
    for group in range(0, groups, IN_INT16):
        # Near the end of these blocks the next ones are asked for.
        ahead = AHEAD * BYTES + ((count - 1) * stride if group + AHEAD >= groups else 0)
        for block in range(count):
            place = (first + block) * stride + group * BYTES
            here = min(IN_INT16, groups - group)
            add_groups(packed, place, ahead, fours, start + 4 * group, here, sums, block * ROWS)


@multiplies
def product(packed: Packed, prepared: Int16, columns: int, out: Int32, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`, the weights read from memory once; see `Compiled`."""
    tokens, rows = out.shape
    groups = -(-columns // COLUMNS)
    fours, offsets = split(prepared, tokens, groups)
    sums = scratch[: 2 * TOGETHER * ROWS].view(np.int32)
    for block in range(first, last, TOGETHER):
        count = min(TOGETHER, last - block)
        for token in range(tokens):
            one_token(packed, groups, fours, token * groups * 4, sums, (block, count))
            for row in range(min(count * ROWS, rows - block * ROWS)):
                out[token, block * ROWS + row] = (sums[row] >> 2) - offsets[token]


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations: bytes, then an int32 for each token."""
    return tokens * -(-columns // COLUMNS) * COLUMNS // 2 + 2 * tokens


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory that a thread needs."""
    return 2 * TOGETHER * ROWS


KERNEL = Kernel(
    name="maddubs",
    packing="dot16",
    needs=frozenset({"avx2"}),
    methods=((1, Compiled(prepare, product, prepared_elements, scratch_elements, TOGETHER)),),
    add_only=False,
)
