"""Products with 16-bit floating-point weights: x @ weights.T for float32 x, each sum in the same order however many.

A row's product with a token is 16 running sums, lane by lane over the columns, then added up in pairs. How many rows
and tokens are worked on together changes nothing in it, so a token's result does not depend on what else is in a step.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import compiled, inlined, inner
from ..simd.floats import from_brain, from_half, multiply_add, sum_of_lanes
from ..simd.vector import F32X16, I16X16, load, prefetch, splat

Bits = npt.NDArray[np.uint16]  # flat: rows x columns
Float32 = npt.NDArray[np.float32]
Register = Any

LANES = 16
AHEAD = 1024  # elements asked for before they are used
ROWS, TOKENS = 4, 4  # worked on together


@inlined
def four_by_four(convert: Any, bits: Bits, place: int, x: Float32, start: int, columns: int, out: Any) -> None:
    """Write the products of four rows and four tokens; out = (array, first place, stride of tokens)."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(F32X16, 0.0)
    c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        x0, x1 = load(F32X16, x, start + column), load(F32X16, x, start + columns + column)
        x2, x3 = load(F32X16, x, start + 2 * columns + column), load(F32X16, x, start + 3 * columns + column)
        w = convert(load(I16X16, bits, place + column))
        a0, a1 = multiply_add(w, x0, a0), multiply_add(w, x1, a1)
        a2, a3 = multiply_add(w, x2, a2), multiply_add(w, x3, a3)
        w = convert(load(I16X16, bits, place + columns + column))
        b0, b1 = multiply_add(w, x0, b0), multiply_add(w, x1, b1)
        b2, b3 = multiply_add(w, x2, b2), multiply_add(w, x3, b3)
        w = convert(load(I16X16, bits, place + 2 * columns + column))
        c0, c1 = multiply_add(w, x0, c0), multiply_add(w, x1, c1)
        c2, c3 = multiply_add(w, x2, c2), multiply_add(w, x3, c3)
        w = convert(load(I16X16, bits, place + 3 * columns + column))
        d0, d1 = multiply_add(w, x0, d0), multiply_add(w, x1, d1)
        d2, d3 = multiply_add(w, x2, d2), multiply_add(w, x3, d3)
    array, first, stride = out
    write_four(array, first, a0, b0, c0, d0)
    write_four(array, first + stride, a1, b1, c1, d1)
    write_four(array, first + 2 * stride, a2, b2, c2, d2)
    write_four(array, first + 3 * stride, a3, b3, c3, d3)


@inlined
def write_four(out: Float32, place: int, a: Register, b: Register, c: Register, d: Register) -> None:
    """Write the sums of four registers' lanes."""
    out[place], out[place + 1] = sum_of_lanes(a), sum_of_lanes(b)
    out[place + 2], out[place + 3] = sum_of_lanes(c), sum_of_lanes(d)


@inlined
def four_by_one(convert: Any, bits: Bits, place: int, x: Float32, start: int, columns: int, out: Any) -> None:
    """Write the products of four rows and one token."""
    a = b = c = d = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        here = load(F32X16, x, start + column)
        # Near the rows' end the next four are asked for.
        ahead = place + column + AHEAD + (3 * columns if column + AHEAD >= columns else 0)
        prefetch(bits, ahead)
        prefetch(bits, ahead + columns)
        prefetch(bits, ahead + 2 * columns)
        prefetch(bits, ahead + 3 * columns)
        a = multiply_add(convert(load(I16X16, bits, place + column)), here, a)
        b = multiply_add(convert(load(I16X16, bits, place + columns + column)), here, b)
        c = multiply_add(convert(load(I16X16, bits, place + 2 * columns + column)), here, c)
        d = multiply_add(convert(load(I16X16, bits, place + 3 * columns + column)), here, d)
    write_four(out[0], out[1], a, b, c, d)


@inlined
def one_by_one(convert: Any, bits: Bits, place: int, x: Float32, start: int, columns: int) -> Any:
    """Return the product of a row and a token."""
    total = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        total = multiply_add(convert(load(I16X16, bits, place + column)), load(F32X16, x, start + column), total)
    return sum_of_lanes(total)


@inlined
def rows_of(convert: Any, bits: Bits, x: Float32, columns: int, out: Float32, first: int, last: int) -> None:
    """Write the rows from `first` to before `last` of out (tokens, rows); x is flat, (tokens, columns)."""
    tokens, rows = out.shape
    flat = out.reshape(-1)
    row = first
    while row < last:
        here = ROWS if last - row >= ROWS else 1
        token = 0
        while token < tokens:
            place, start, target = row * columns, token * columns, token * rows + row
            step = 1
            if here == ROWS and tokens - token >= TOKENS:
                four_by_four(convert, bits, place, x, start, columns, (flat, target, rows))
                step = TOKENS
            elif here == ROWS:
                four_by_one(convert, bits, place, x, start, columns, (flat, target))
            else:
                flat[target] = one_by_one(convert, bits, place, x, start, columns)
            token += step
        row += here


@inner
def half_rows(bits: Bits, x: Float32, columns: int, out: Float32, first: int, last: int) -> None:
    """Write rows from weights in half precision; see `rows_of`."""
    rows_of(from_half, bits, x, columns, out, first, last)


@inner
def brain_rows(bits: Bits, x: Float32, columns: int, out: Float32, first: int, last: int) -> None:
    """Write rows from weights in bfloat16; see `rows_of`."""
    rows_of(from_brain, bits, x, columns, out, first, last)


@compiled
def dense_rows(bits: Bits, brain: bool, x: Float32, columns: int, out: Float32, first: int, last: int) -> None:
    """Write the rows from `first` to before `last` of x @ weights.T.

    bits: uint16 (rows x columns), flat, half precision or bfloat16; x: float32 (tokens x columns), flat; out: float32
    (tokens, rows), contiguous. columns is a multiple of 16.
    """
    if brain:
        brain_rows(bits, x, columns, out, first, last)
    else:
        half_rows(bits, x, columns, out, first, last)


def padded(columns: int) -> int:
    """Return how many columns a dense matrix is to have: a multiple of the lanes, the last ones zero."""
    return -(-columns // LANES) * LANES
