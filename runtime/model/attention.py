"""Attention of one token over the positions so far, four query heads of a key head at a time.

Two passes: scores of all positions, 16 in a register; then the values weighted by them. Sums run in the order of the
positions, whatever else is in the step, so a token's result does not depend on it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import types

from ..compile import inlined
from ..entry import Entry, array_of
from ..simd.floats import (
    exponential,
    from_half,
    larger_float,
    largest_lane,
    multiply_add,
    sum_of_lanes,
    to_floats,
)
from ..simd.vector import F32X16, I16X16, U8X16, broadcast, load, splat, store, widen
from .kv_cache import POSITIONS, Head, KeysAndValues, Row, bytes_of, halves_of

Float32 = npt.NDArray[np.float32]
Register = Any
Query = tuple[Float32, int, int, Any]  # the array that queries lie in, where, width of a head, factor of the scores

HEADS = 4  # query heads worked on together
MASKED = -1e30
LANES = 16


@inlined
def halves_at(array: Any, place: int) -> Register:
    """Return 16 numbers of half precision."""
    return from_half(load(I16X16, array, place))


@inlined
def bytes_at(array: Any, place: int) -> Register:
    """Return 16 signed bytes as numbers."""
    return to_floats(widen(widen(load(U8X16, array, place))))


@inlined
def scores_of_block(read: Any, keys: Any, place: int, q: Float32, heads: Any, width: int) -> Any:
    """Return the products of four queries with 16 keys; even and odd coordinates are summed apart."""
    a = b = c = d = splat(F32X16, 0.0)
    e = f = g = h = splat(F32X16, 0.0)
    for at in range(0, width, 2):
        key = read(keys, place + at * POSITIONS)
        a = multiply_add(key, broadcast(F32X16, q, heads[0] + at), a)
        b = multiply_add(key, broadcast(F32X16, q, heads[1] + at), b)
        c = multiply_add(key, broadcast(F32X16, q, heads[2] + at), c)
        d = multiply_add(key, broadcast(F32X16, q, heads[3] + at), d)
        key = read(keys, place + (at + 1) * POSITIONS)
        e = multiply_add(key, broadcast(F32X16, q, heads[0] + at + 1), e)
        f = multiply_add(key, broadcast(F32X16, q, heads[1] + at + 1), f)
        g = multiply_add(key, broadcast(F32X16, q, heads[2] + at + 1), g)
        h = multiply_add(key, broadcast(F32X16, q, heads[3] + at + 1), h)
    return a + e, b + f, c + g, d + h


@inlined
def softmax(scores: Float32, start: int, first: int, last: int) -> Any:
    """Replace scores by e^(score - largest) and return one over their sum; first and last are multiples of 16."""
    largest = splat(F32X16, MASKED)
    for at in range(first, last, LANES):
        largest = larger_float(largest, load(F32X16, scores, start + at))
    top = splat(F32X16, largest_lane(largest))
    total = splat(F32X16, 0.0)
    for at in range(first, last, LANES):
        part = exponential(load(F32X16, scores, start + at) - top)
        store(scores, start + at, part)
        total = total + part
    return np.float32(1) / sum_of_lanes(total)


@inlined
def weighted_values(
    read: Any, values: Any, place: int, width: int, weights: Float32, stride: int, span: tuple[int, int]
) -> Any:
    """Return for four heads the sums of 16 coordinates of the values from span[0] to before span[1]."""
    a = b = c = d = splat(F32X16, 0.0)
    for position in range(span[0], span[1]):
        value = read(values, place + position * width)
        a = multiply_add(value, broadcast(F32X16, weights, position), a)
        b = multiply_add(value, broadcast(F32X16, weights, stride + position), b)
        c = multiply_add(value, broadcast(F32X16, weights, 2 * stride + position), c)
        d = multiply_add(value, broadcast(F32X16, weights, 3 * stride + position), d)
    return a, b, c, d


@inlined
def four_heads(
    read: Any, memory: KeysAndValues, query: Query, present: int, span: tuple[int, int], scores: Float32, out: Float32
) -> None:
    """Write the attention of up to four query heads over the positions from span[0] to before span[1].

    scores: float32 (4, capacity), flat, the thread's own; out: as the queries lie.
    """
    keys, values, key_scales, value_scales = memory
    q, place, width, factor = query
    stride, (first, last) = len(scores) // HEADS, span
    heads = (
        place,
        place + min(1, present - 1) * width,
        place + min(2, present - 1) * width,
        place + min(3, present - 1) * width,
    )
    begin, end = first // POSITIONS * POSITIONS, -(-last // POSITIONS) * POSITIONS
    for at in range(begin, end, POSITIONS):
        a, b, c, d = scores_of_block(read, keys, at * width, q, heads, width)
        scale = splat(F32X16, factor)
        if len(key_scales) > 0:
            scale = scale * load(F32X16, key_scales, at)
        store(scores, at, a * scale)
        store(scores, stride + at, b * scale)
        store(scores, 2 * stride + at, c * scale)
        store(scores, 3 * stride + at, d * scale)
    for head in range(HEADS):
        for position in range(begin, first):
            scores[head * stride + position] = np.float32(MASKED)
        for position in range(last, end):
            scores[head * stride + position] = np.float32(MASKED)
    w0, w1 = softmax(scores, 0, begin, end), softmax(scores, stride, begin, end)
    w2, w3 = softmax(scores, 2 * stride, begin, end), softmax(scores, 3 * stride, begin, end)
    if len(value_scales) > 0:
        for head in range(HEADS):
            for position in range(first, last):
                scores[head * stride + position] *= value_scales[position]
    for at in range(0, width, LANES):
        a, b, c, d = weighted_values(read, values, at, width, scores, stride, span)
        # Backwards: where there are fewer heads the last ones are the first again, and its result stays.
        store(out, heads[3] + at, d * w3)
        store(out, heads[2] + at, c * w2)
        store(out, heads[1] + at, b * w1)
        store(out, heads[0] + at, a * w0)


def _entry(function: Callable[..., None]) -> Entry:
    """Make an entry of a function attend(row, head, query, group, span, scores, out)."""
    vector = array_of(np.float32)
    kinds: Any = types
    query = kinds.Tuple([vector, types.int64, types.int64, types.float32])
    pair, four = kinds.UniTuple(types.int64, 2), kinds.UniTuple(types.int64, 4)
    return Entry(function, four, pair, query, types.int64, pair, vector, vector)


@_entry
def attend_halves(
    row: Row, head: Head, query: Query, group: int, span: tuple[int, int], scores: Float32, out: Float32
) -> None:
    """Write the attention of the `group` query heads of a key head; keys and values in half precision."""
    q, place, width, factor = query
    memory = halves_of(row, head, width)
    for step in range(0, group, HEADS):
        here = q, place + step * width, width, factor
        four_heads(halves_at, memory, here, min(HEADS, group - step), span, scores, out)


@_entry
def attend_bytes(
    row: Row, head: Head, query: Query, group: int, span: tuple[int, int], scores: Float32, out: Float32
) -> None:
    """Write the attention of the `group` query heads of a key head; keys and values as int8."""
    q, place, width, factor = query
    memory = bytes_of(row, head, width)
    for step in range(0, group, HEADS):
        here = q, place + step * width, width, factor
        four_heads(bytes_at, memory, here, min(HEADS, group - step), span, scores, out)
