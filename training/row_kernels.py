"""Rows of activations and weights, rounded and normalized in one pass over memory by compiled code.

Arrays are (rows, columns), of float32 or, as uint16, of the bits of bfloat16. Each function works on the rows from
`first` up to `last`, so that threads can share them, and does what torch would in the same steps.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from bitsim.runtime.compile import compiled, inlined

from .quantize import SMALLEST

_ROWS_OF_A_PART = 256  # fewer rows are not worth another thread
_SMALLEST = np.float32(SMALLEST)
_LANES = 64
_TINY = np.float32(1e-35)  # a scale of numbers near the largest
_LARGEST = np.finfo(np.float32).max
# Bits of a float32 without its sign, of infinity, and of a number near the largest.
SIZE, INFINITY, _HUGE = np.int32(0x7FFFFFFF), np.int32(0x7F800000), np.int32(0x7F000000)


def in_parts(job: Callable[..., Any], rows: int, *arguments: Any) -> list[Any]:
    """Return what job(*arguments, first row, last row) returns, called on as many threads as torch uses."""
    parts = min(torch.get_num_threads(), max(rows // _ROWS_OF_A_PART, 1))
    edges = [rows * part // parts for part in range(parts + 1)]
    rest = [_pool(os.getpid(), parts - 1).submit(job, *arguments, *edges[i : i + 2]) for i in range(1, parts)]
    return [job(*arguments, *edges[:2]), *(part.result() for part in rest)]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, f"bitsim-{process}")


@inlined
def _to_brain(bits: Any) -> Any:
    """Round the bits of a finite float32 to those of a bfloat16, halves to even."""
    return np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))


@inlined
def load_row(values: Any, i: Any, bits: Any, row: Any) -> None:
    """Copy a row of float32 or bfloat16 to `row`, whose bits are `bits`."""
    for j in range(len(row)):
        if values.itemsize == 2:
            bits[j] = np.int32(values[i, j]) << np.int32(16)
        else:
            row[j] = values[i, j]


@inlined
def store_row(bits: Any, row: Any, values: Any, i: Any) -> None:
    """Copy a row of finite float32 to an array of float32 or bfloat16."""
    for j in range(len(row)):
        if values.itemsize == 2:
            values[i, j] = _to_brain(bits[j])
        else:
            values[i, j] = row[j]


@inlined
def _normalize(bits: Any, row: Any, inverse: Any, brain: Any) -> None:
    """Multiply a row by one over its size; what came as bfloat16 becomes it again, as transformers has it."""
    for j in range(len(row)):
        row[j] = row[j] * inverse
        if brain:
            bits[j] = np.int32(_to_brain(bits[j])) << np.int32(16)


@inlined
def _round_row(bits: Any, row: Any, top: Any, integers: Any, scales: Any, i: Any) -> Any:
    """Round a row by its largest value and return whether it held NaN or infinity. Same steps as `absmax`."""
    most = np.int32(0)
    for j in range(len(row)):
        size = np.int32(bits[j] & SIZE)  # of 32 bits again: numba has made it 64
        most = size if size > most else most
    scale = np.float32(1) / max(np.int32(most).view(np.float32), _SMALLEST) * top  # so torch divides a number
    if scales is not None:
        scales[i, 0] = scale
    for j in range(len(row)):
        whole = np.rint(row[j] * scale)
        if integers is not None:
            integers[i, j] = np.int8(whole)
        row[j] = whole / scale
    _cap(row, most)
    return most >= INFINITY


@inlined
def _cap(row: Any, most: Any) -> None:
    """Put what a division may have rounded up to infinity back to the largest number."""
    if most >= _HUGE:
        for j in range(len(row)):
            row[j] = min(max(row[j], -_LARGEST), _LARGEST)


@compiled
def round_rows(x: Any, top: Any, made: Any, first: int, last: int) -> int:
    """Round rows and return how many held NaN or infinity; `made` is (values, integers, scales) or has two None."""
    out, integers, scales = made
    bits = np.empty(x.shape[1], np.int32)
    row = bits.view(np.float32)
    wrong = 0
    for i in range(first, last):
        load_row(x, i, bits, row)
        wrong += _round_row(bits, row, top, integers, scales, i)
        store_row(bits, row, out, i)
    return wrong


@compiled
def make_again(integers: Any, scales: Any, out: Any, first: int, last: int) -> None:
    """Write what `round_rows` wrote to `out`."""
    bits = np.empty(integers.shape[1], np.int32)
    row = bits.view(np.float32)
    for i in range(first, last):
        for j in range(len(row)):
            row[j] = np.float32(integers[i, j]) / scales[i, 0]
        if scales[i, 0] < _TINY:
            _cap(row, _HUGE)
        store_row(bits, row, out, i)


@compiled
def norm_rows(x: Any, inverse: Any, norm: Any, out: Any, first: int, last: int) -> None:
    """Normalize rows and multiply them by the norm's weights."""
    bits = np.empty(x.shape[1], np.int32)
    row = bits.view(np.float32)
    for i in range(first, last):
        load_row(x, i, bits, row)
        _normalize(bits, row, inverse[i], x.itemsize == 2)
        for j in range(len(row)):
            out[i, j] = norm[j] * row[j]


@compiled
def round_normed(x: Any, inverse: Any, norm: Any, top: Any, made: Any, first: int, last: int) -> int:
    """Normalize rows, multiply them by the norm's weights and go on as `round_rows`."""
    out, integers, scales = made
    bits = np.empty(x.shape[1], np.int32)
    row = bits.view(np.float32)
    wrong = 0
    for i in range(first, last):
        load_row(x, i, bits, row)
        _normalize(bits, row, inverse[i], x.itemsize == 2)
        for j in range(len(row)):
            row[j] = norm[j] * row[j]
        wrong += _round_row(bits, row, top, integers, scales, i)
        store_row(bits, row, out, i)
    return wrong


@compiled
def normed_gradient(x: Any, inverse: Any, norm: Any, gradient: Any, of_x: Any, first: int, last: int) -> Any:
    """Write the gradient of rows before an RMSNorm and return that of its weights.

    With n = x / size and g the gradient after the norm, they are (g w - n mean(g w n)) / size and the sum of g n.
    """
    columns = x.shape[1]
    of_norm = np.zeros(columns, np.float32)
    bits, gradient_bits = np.empty(columns, np.int32), np.empty(columns, np.int32)
    row, g = bits.view(np.float32), gradient_bits.view(np.float32)
    lanes = np.empty(_LANES, np.float32)
    for i in range(first, last):
        load_row(x, i, bits, row)
        load_row(gradient, i, gradient_bits, g)
        _normalize(bits, row, inverse[i], x.itemsize == 2)
        for j in range(columns):
            of_norm[j] += g[j] * row[j]
            g[j] *= norm[j]
        mean = _dot(g, row, lanes) / np.float32(columns)
        for j in range(columns):
            row[j] = (g[j] - row[j] * mean) * inverse[i]
        store_row(bits, row, of_x, i)
    return of_norm


@inlined
def _dot(left: Any, right: Any, lanes: Any) -> Any:
    """Return the sum of products; in lanes, since a compiler may not change the order of a plain sum."""
    lanes[:] = 0
    whole = len(left) // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += left[start + lane] * right[start + lane]
    total = np.float32(0)
    for j in range(whole, len(left)):
        total += left[j] * right[j]
    for lane in range(_LANES):
        total += lanes[lane]
    return total


@compiled
def round_weights(weights: Any, scale: Any, out: Any, first: int, last: int) -> int:
    """Round finite weights times the scale to -1, 0 or 1. Halves go to the even 0."""
    half = np.float32(0.5)
    for i in range(first, last):
        for j in range(weights.shape[1]):
            value = weights[i, j] * scale
            sign = np.int32(value > half) - np.int32(value < -half)
            if out.itemsize == 2:
                out[i, j] = np.uint16(0x3F80 * (sign & 1) | (0x8000 & sign))
            else:
                out[i, j] = sign
    return 0
