"""Cross-entropy of rows of logits, and its gradient, each in one pass over memory by compiled code.

Arrays are (rows, vocabulary), of float32 or, as uint16, of the bits of bfloat16; functions work on the rows from
`first` up to `last`, so that threads can share them. A row whose target is below 0 counts for nothing.
"""

from typing import Any

import numpy as np

from bitsim.runtime.compile import compiled, inlined
from bitsim.runtime.simd.floats import exponential, larger_float, largest_lane, sum_of_lanes
from bitsim.runtime.simd.vector import F32X16, load, splat, store

from .row_kernels import INFINITY, SIZE, load_row, store_row

_LANES = 16
_LEAST = np.float32(-1e30)  # of the columns that fill the last register


@inlined
def _is_finite(bits: Any) -> Any:
    most = np.int32(0)
    for j in range(len(bits)):
        size = np.int32(bits[j] & SIZE)
        most = size if size > most else most
    return most < INFINITY


@compiled
def row_losses(logits: Any, targets: Any, normalizers: Any, losses: Any, first: int, last: int) -> int:
    """Write each row's largest logit and the logarithm of its sum of e^(logit - largest), and its loss (float64, nats).

    They are NaN where a logit is NaN or infinite. Largest and sum are kept apart (rows, 2) for what float32 rounds: the
    logarithm alone is small.
    """
    columns = logits.shape[1]
    bits = np.empty(-(-columns // _LANES) * _LANES, np.int32)
    row = bits.view(np.float32)
    for i in range(first, last):
        load_row(logits, i, bits[:columns], row[:columns])
        row[columns:] = _LEAST
        if not _is_finite(bits[:columns]):
            normalizers[i, 0] = normalizers[i, 1] = losses[i] = np.nan
            continue
        largest = splat(F32X16, _LEAST)
        for j in range(0, len(row), _LANES):
            largest = larger_float(largest, load(F32X16, row, j))
        most = largest_lane(largest)
        top = splat(F32X16, most)
        total = splat(F32X16, 0.0)
        for j in range(0, len(row), _LANES):
            total = total + exponential(load(F32X16, row, j) - top)
        normalizers[i, 0], normalizers[i, 1] = most, np.log(np.float64(sum_of_lanes(total)))
        losses[i] = np.float64(most) - row[targets[i]] + normalizers[i, 1] if targets[i] >= 0 else 0.0
    return 0


@compiled
def loss_gradient(logits: Any, targets: Any, normalizers: Any, factor: Any, out: Any, first: int, last: int) -> int:
    """Write the gradient of the factor times the sum of the losses: the factor times (odds - 1 at the target)."""
    columns = logits.shape[1]
    bits = np.empty(-(-columns // _LANES) * _LANES, np.int32)
    row = bits.view(np.float32)
    for i in range(first, last):
        if targets[i] < 0:
            row[:columns] = 0
            store_row(bits[:columns], row[:columns], out, i)
            continue
        load_row(logits, i, bits[:columns], row[:columns])
        row[columns:] = _LEAST
        top, of_sum = splat(F32X16, normalizers[i, 0]), splat(F32X16, normalizers[i, 1])
        scale = splat(F32X16, factor)
        for j in range(0, len(row), _LANES):
            store(row, j, exponential(load(F32X16, row, j) - top - of_sum) * scale)
        row[targets[i]] -= factor
        if np.isnan(normalizers[i, 0]):
            row[:columns] = np.nan
        store_row(bits[:columns], row[:columns], out, i)
    return 0
