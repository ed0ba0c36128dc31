"""What is done to one token's numbers between two matrices: norms, activations, rounding to int8.

Rows of numbers lie in flat float32 arrays and are a multiple of 16 wide, filled up with zeros.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined, inner
from ..simd.floats import (
    absolute,
    exponential,
    from_brain,
    from_half,
    larger_float,
    largest_lane,
    multiply_add,
    rounded,
    smaller_float,
    sum_of_lanes,
    to_bytes,
    to_floats,
    to_integers,
)
from ..simd.vector import F32X16, I16X16, I32X16, load, splat, store

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint16]
Factors = tuple[Float32, int, Any]  # scales of rows, where they begin, what one step of the token's int8 is worth

LANES = 16
SMALLEST = 1e-5  # of a token's largest activation, below which it counts as this (transformers, BitLinear)


@inner
def rms_norm(x: Float32, place: int, width: int, weights: Float32, weight: int, eps: float, out: Float32) -> None:
    """Divide a row by the root of its mean square and multiply by weights, into `out` at the same place.

    width: numbers that count; the row is filled up with zeros, and the weights' end may be anything finite.
    """
    total = splat(F32X16, 0.0)
    for at in range(place, place + width, LANES):
        here = load(F32X16, x, at)
        total = multiply_add(here, here, total)
    scale = np.float32(1) / np.sqrt(sum_of_lanes(total) / np.float32(width) + np.float32(eps))
    for step in range(0, width, LANES):
        store(out, place + step, load(F32X16, x, place + step) * scale * load(F32X16, weights, weight + step))


@inner
def to_int8(x: Float32, place: int, width: int, out: Bytes, target: int) -> Any:
    """Round a row to int8 by its largest number; return what one step is worth.

    s = 127 / max(|x|), q = round(x s), halves to even (2402.17764, section 2; transformers, BitLinear).
    """
    largest = splat(F32X16, 0.0)
    for at in range(place, place + width, LANES):
        largest = larger_float(largest, absolute(load(F32X16, x, at)))
    scale = np.float32(127) / max(largest_lane(largest), np.float32(SMALLEST))
    # Whole registers, and then the end number by number: the bytes of the next token follow.
    whole = width // LANES * LANES
    for step in range(0, whole, LANES):
        store(out, target + step, to_bytes(to_integers(rounded(load(F32X16, x, place + step) * scale))))
    for step in range(whole, width):
        out[target + step] = np.uint8(np.int32(np.rint(x[place + step] * scale)))
    return np.float32(1) / scale


@inner
def scaled(sums: Int32, place: int, count: int, factors: Factors, out: Float32, target: int, add: bool) -> None:
    """Write sums x scales x step, the numbers that int32 sums stand for, or add them to what is there."""
    scales, scale, step = factors
    whole = count // LANES * LANES
    for at in range(0, whole, LANES):
        value = to_floats(load(I32X16, sums, place + at)) * (load(F32X16, scales, scale + at) * step)
        store(out, target + at, value + load(F32X16, out, target + at) if add else value)
    for at in range(whole, count):
        last = np.float32(sums[place + at]) * (scales[scale + at] * step)
        out[target + at] = last + out[target + at] if add else last


@inner
def copied(source: Float32, place: int, count: int, out: Float32, target: int, add: bool) -> None:
    """Write numbers, or add them to what is there."""
    for at in range(count):
        out[target + at] = source[place + at] + out[target + at] if add else source[place + at]


@inlined
def sigmoid_times(x: Any) -> Any:
    """Return x / (1 + e^-x), lane by lane."""
    bounded = smaller_float(larger_float(x, splat(F32X16, -87.0)), splat(F32X16, 87.0))
    return x / (exponential(splat(F32X16, 0.0) - bounded) + 1.0)


@inner
def gated(x: Float32, gate: int, up: int, width: int, squared: bool, out: Float32, target: int) -> None:
    """Write f(gate) x up: f is the square of the positive part if `squared`, else SiLU."""
    if squared:
        for at in range(0, width, LANES):
            positive = larger_float(load(F32X16, x, gate + at), splat(F32X16, 0.0))
            store(out, target + at, positive * positive * load(F32X16, x, up + at))
    else:
        for at in range(0, width, LANES):
            store(out, target + at, sigmoid_times(load(F32X16, x, gate + at)) * load(F32X16, x, up + at))


@inner
def copy_wide(source: Float32, place: int, width: int, out: Float32, target: int) -> None:
    """Copy numbers, a multiple of 16."""
    for at in range(0, width, LANES):
        store(out, target + at, load(F32X16, source, place + at))


@inner
def read_embedding(bits: Bits, brain: bool, place: int, width: int, out: Float32, target: int) -> None:
    """Write a row of 16-bit floating-point numbers as float32; width is a multiple of 16."""
    for at in range(0, width, LANES):
        word = load(I16X16, bits, place + at)
        store(out, target + at, from_brain(word) if brain else from_half(word))
