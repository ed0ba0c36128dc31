"""AVX-512 VNNI: four multiply-accumulates in a lane, to compare the additions with (it is no part of a model's way).

vpdpbusd takes unsigned bytes times signed ones: the codes are weight + 1, and the sum of the activations is taken off
at the end. Eight tokens times 32 rows are worked on together.
"""

from typing import Any

import numpy as np

from ..compile import inlined, inner
from ..packing.dot16 import COLUMNS, ROWS
from ..simd.avx512 import dot_bytes
from ..simd.vector import I32X16, U8X64, broadcast, load, prefetch, reinterpret, splat, store
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share

Register = Any

BYTES = ROWS * 4  # of a column group of a row block
AHEAD = 32  # column groups asked for before they are used
TOGETHER = 8  # tokens


@prepares
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Copy a thread's share of x as bytes, filled up with zeros, and the sums of each token: see `split`."""
    tokens, columns = x.shape
    groups = -(-columns // COLUMNS)
    fours, sums = split(prepared, tokens, groups)
    bytes_ = fours.view(np.int8)
    first, last = share(tokens, thread, threads)
    for token in range(first, last):
        start = token * groups * COLUMNS
        bytes_[start : start + columns] = x[token]
        bytes_[start + columns : start + groups * COLUMNS] = 0
        sums[token] = x[token].sum()


@inlined
def split(prepared: Int16, tokens: int, groups: int) -> tuple[Int32, Int32]:
    """Return the activations, four in an int32 (tokens, groups, 4), and their sums (tokens)."""
    words = prepared.view(np.int32)
    return words[: tokens * groups * 4], words[tokens * groups * 4 :]


@inlined
def codes_at(packed: Packed, place: int, shift: int) -> Register:
    """Return 16 rows' codes of four columns."""
    return reinterpret(U8X64, (load(I32X16, packed, place) >> shift) & 0x03030303)


@inlined
def activations(fours: Int32, place: int) -> Register:
    """Return four activations in every lane."""
    return reinterpret(U8X64, broadcast(I32X16, fours, place))


@inner
def one_token(packed: Packed, groups: int, fours: Int32, start: int, sums: Int32, block: int) -> None:
    """Write 32 sums of codes x activations of one token."""
    a = b = c = d = splat(I32X16, 0)
    for group in range(groups):
        place = (block * groups + group) * BYTES
        prefetch(packed, place + AHEAD * BYTES)
        prefetch(packed, place + AHEAD * BYTES + 64)
        for step in range(2):
            x = activations(fours, start + group * 4 + 2 * step)
            y = activations(fours, start + group * 4 + 2 * step + 1)
            a = dot_bytes(a, codes_at(packed, place, 4 * step), x)
            b = dot_bytes(b, codes_at(packed, place + 64, 4 * step), x)
            c = dot_bytes(c, codes_at(packed, place, 4 * step + 2), y)
            d = dot_bytes(d, codes_at(packed, place + 64, 4 * step + 2), y)
    store(sums, 0, a + c)
    store(sums, 16, b + d)


@inlined
def dot8(totals: Any, codes: Register, fours: Int32, place: int, stride: int) -> Any:
    """Add the products of 16 rows' codes and eight tokens' activations."""
    return (
        dot_bytes(totals[0], codes, activations(fours, place)),
        dot_bytes(totals[1], codes, activations(fours, place + stride)),
        dot_bytes(totals[2], codes, activations(fours, place + 2 * stride)),
        dot_bytes(totals[3], codes, activations(fours, place + 3 * stride)),
        dot_bytes(totals[4], codes, activations(fours, place + 4 * stride)),
        dot_bytes(totals[5], codes, activations(fours, place + 5 * stride)),
        dot_bytes(totals[6], codes, activations(fours, place + 6 * stride)),
        dot_bytes(totals[7], codes, activations(fours, place + 7 * stride)),
    )


@inlined
def store8(sums: Int32, place: int, totals: Any) -> None:
    """Write eight tokens' totals, 32 elements apart."""
    store(sums, place, totals[0])
    store(sums, place + 32, totals[1])
    store(sums, place + 64, totals[2])
    store(sums, place + 96, totals[3])
    store(sums, place + 128, totals[4])
    store(sums, place + 160, totals[5])
    store(sums, place + 192, totals[6])
    store(sums, place + 224, totals[7])


@inner
def eight_tokens(packed: Packed, groups: int, fours: Int32, start: int, sums: Int32, block: int) -> None:
    """Write (8, 32) sums of codes x activations of eight tokens that follow each other."""
    zero = splat(I32X16, 0)
    upper = zero, zero, zero, zero, zero, zero, zero, zero
    lower = zero, zero, zero, zero, zero, zero, zero, zero
    for group in range(groups):
        place = (block * groups + group) * BYTES
        for step in range(4):
            x = start + group * 4 + step
            upper = dot8(upper, codes_at(packed, place, 2 * step), fours, x, groups * 4)
            lower = dot8(lower, codes_at(packed, place + 64, 2 * step), fours, x, groups * 4)
    store8(sums, 0, upper)
    store8(sums, 16, lower)


@multiplies
def product(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`; see `Compiled`."""
    tokens, rows = out.shape
    groups = -(-columns // COLUMNS)
    fours, offsets = split(prepared, tokens, groups)
    sums = scratch[: 2 * TOGETHER * ROWS].view(np.int32)
    for block in range(first, last):
        token = 0
        while token < tokens:
            here = TOGETHER if tokens - token >= TOGETHER else 1
            if here == 1:
                one_token(packed, groups, fours, token * groups * 4, sums, block)
            else:
                eight_tokens(packed, groups, fours, token * groups * 4, sums, block)
            for step in range(here):
                for row in range(min(ROWS, rows - block * ROWS)):
                    out[token + step, block * ROWS + row] = sums[step * ROWS + row] - offsets[token + step]
            token += here


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations: bytes, then an int32 for each token."""
    return tokens * -(-columns // COLUMNS) * COLUMNS // 2 + 2 * tokens


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory that a thread needs."""
    return 2 * TOGETHER * ROWS


KERNEL = Kernel(
    name="vnni",
    packing="dot16",
    needs=frozenset({"avx512f", "avx512bw", "avx512vnni"}),
    methods=((1, Compiled(prepare, product, prepared_elements, scratch_elements)),),
    add_only=False,
)
