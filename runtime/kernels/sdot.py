"""ARM's dot product: four multiply-accumulates in a lane, to compare additions with (it is no part of a model's way).

sdot multiplies signed bytes and adds four products to a 32-bit lane; here a lane is a row. The codes are weight + 1,
and the sum of the activations is taken off at the end. Four tokens times 16 rows are worked on together.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..packing.dot16 import COLUMNS, ROWS
from ..simd.neon import dot_bytes, lane_everywhere
from ..simd.vector import I32X4, U8X16, load, prefetch, reinterpret, splat, store
from .kernel import Activations, Compiled, Int16, Int32, Kernel, Packed, Sums, multiplies, prepares, share

Bytes = npt.NDArray[np.int8]
Register = Any

BYTES = ROWS * 4  # of a column group of a row block
AHEAD = 32  # column groups asked for before they are used
TOKENS = 4  # worked on together
TOGETHER = 4  # row blocks that a thread takes at once


@prepares
def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Copy a thread's share of x, filled up with zeros, and the sums of each token: see `split`."""
    tokens, columns = x.shape
    groups = -(-columns // COLUMNS)
    bytes_, sums = split(prepared, tokens, groups)
    first, last = share(tokens, thread, threads)
    for token in range(first, last):
        sums[token] = 0
        for column in range(groups * COLUMNS):
            value = x[token, column] if column < columns else np.int8(0)
            bytes_[token * groups * COLUMNS + column] = value
            sums[token] += value


@inlined
def split(prepared: Int16, tokens: int, groups: int) -> tuple[Bytes, Int32]:
    """Return the activations (tokens, groups, 16) and their sums (tokens)."""
    elements = tokens * groups * COLUMNS // 2
    return prepared[:elements].view(np.int8), prepared[elements:].view(np.int32)


@inlined
def unpacked(packed: Packed, place: int) -> tuple[Register, Register, Register, Register]:
    """Return four rows' codes of sixteen columns, four columns in a register."""
    codes = load(U8X16, packed, place)
    return codes & 3, (codes >> 2) & 3, (codes >> 4) & 3, codes >> 6


@inlined
def four_columns(x: Register, number: int) -> Register:
    """Return four of a token's sixteen activations in every lane."""
    return reinterpret(U8X16, lane_everywhere(x, number))


@inlined
def dot(total: Register, codes: Any, x: Register) -> Register:
    """Add to four rows' totals the products of sixteen columns."""
    total = dot_bytes(total, codes[0], four_columns(x, 0))
    total = dot_bytes(total, codes[1], four_columns(x, 1))
    total = dot_bytes(total, codes[2], four_columns(x, 2))
    return dot_bytes(total, codes[3], four_columns(x, 3))


@inner
def one_token(packed: Packed, groups: int, x: Bytes, token: int, sums: Int32, block: int) -> None:
    """Write 32 sums of codes x activations of one token."""
    a = b = c = d = e = f = g = h = splat(I32X4, 0)
    for group in range(groups):
        place = (block * groups + group) * BYTES
        prefetch(packed, place + AHEAD * BYTES)
        prefetch(packed, place + AHEAD * BYTES + 64)
        activations = load(I32X4, x, (token * groups + group) * COLUMNS)
        a = dot(a, unpacked(packed, place), activations)
        b = dot(b, unpacked(packed, place + 16), activations)
        c = dot(c, unpacked(packed, place + 32), activations)
        d = dot(d, unpacked(packed, place + 48), activations)
        e = dot(e, unpacked(packed, place + 64), activations)
        f = dot(f, unpacked(packed, place + 80), activations)
        g = dot(g, unpacked(packed, place + 96), activations)
        h = dot(h, unpacked(packed, place + 112), activations)
    store4(sums, 0, (a, b, c, d))
    store4(sums, 16, (e, f, g, h))


@inlined
def store4(sums: Int32, place: int, totals: Any) -> None:
    """Write sixteen rows' totals."""
    store(sums, place, totals[0])
    store(sums, place + 4, totals[1])
    store(sums, place + 8, totals[2])
    store(sums, place + 12, totals[3])


@inlined
def dot4(totals: Any, codes: Any, x: Any) -> Any:
    """Add to four rows' totals of four tokens the products of sixteen columns."""
    return (
        dot(totals[0], codes, x[0]),
        dot(totals[1], codes, x[1]),
        dot(totals[2], codes, x[2]),
        dot(totals[3], codes, x[3]),
    )


@inner
def four_tokens(packed: Packed, groups: int, x: Bytes, token: int, sums: Int32, block: int) -> None:
    """Write (4, 32) sums of codes x activations of four tokens that follow each other."""
    stride = groups * COLUMNS
    for half in range(0, BYTES, 64):
        zero = splat(I32X4, 0)
        a = b = c = d = zero, zero, zero, zero
        for group in range(groups):
            place = (block * groups + group) * BYTES + half
            start = (token * groups + group) * COLUMNS
            x0, x1 = load(I32X4, x, start), load(I32X4, x, start + stride)
            x2, x3 = load(I32X4, x, start + 2 * stride), load(I32X4, x, start + 3 * stride)
            activations = x0, x1, x2, x3
            a = dot4(a, unpacked(packed, place), activations)
            b = dot4(b, unpacked(packed, place + 16), activations)
            c = dot4(c, unpacked(packed, place + 32), activations)
            d = dot4(d, unpacked(packed, place + 48), activations)
        row = half // 4
        store4(sums, row, (a[0], b[0], c[0], d[0]))
        store4(sums, row + ROWS, (a[1], b[1], c[1], d[1]))
        store4(sums, row + 2 * ROWS, (a[2], b[2], c[2], d[2]))
        store4(sums, row + 3 * ROWS, (a[3], b[3], c[3], d[3]))


@multiplies
def product(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last`; see `Compiled`."""
    tokens, rows = out.shape
    groups = -(-columns // COLUMNS)
    x, offsets = split(prepared, tokens, groups)
    sums = scratch[: 2 * TOKENS * ROWS].view(np.int32)
    for block in range(first, last):
        token = 0
        while token < tokens:
            here = TOKENS if tokens - token >= TOKENS else 1
            if here == 1:
                one_token(packed, groups, x, token, sums, block)
            else:
                four_tokens(packed, groups, x, token, sums, block)
            for step in range(here):
                for row in range(min(ROWS, rows - block * ROWS)):
                    out[token + step, block * ROWS + row] = sums[step * ROWS + row] - offsets[token + step]
            token += here


def prepared_elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the prepared activations: bytes, then an int32 for each token."""
    return tokens * -(-columns // COLUMNS) * COLUMNS // 2 + 2 * tokens


def scratch_elements(rows: int, columns: int, tokens: int) -> int:
    """Return the int16 elements of scratch memory that a thread needs."""
    return 2 * TOKENS * ROWS


KERNEL = Kernel(
    name="sdot",
    packing="dot16",
    needs=frozenset({"neon", "dotprod"}),
    methods=((1, Compiled(prepare, product, prepared_elements, scratch_elements, TOGETHER)),),
    add_only=False,
)
