"""The head at eight bits: half the bytes of the full head, and logits that are nearly right."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..atomics import Counters, barrier
from ..checkpoints.checkpoint import Dense
from ..compile import compiled, inlined, inner
from ..kernels.dense import LANES
from ..kernels.kernel import open_shares, take
from ..memory import CACHE_LINE, aligned
from ..simd.floats import multiply_add, sum_of_lanes, to_floats
from ..simd.vector import F32X16, U8X16, load, prefetch, splat, widen
from ..threads import Team
from .choose import checked_count, top_of, within_of
from .exact import filled_up_states
from .head import Candidates, Float32

Codes = npt.NDArray[np.int8]  # flat: rows x columns
Register = Any

LARGEST = 127
ROWS = 64  # that a thread takes at once
TOGETHER = 4  # rows, or sequences, worked on together
AHEAD = 2048  # bytes asked for before they are used
BLOCK = 4096  # rows turned into codes at once


@inlined
def floats(codes: Codes, place: int) -> Register:
    """Return 16 codes as float32."""
    return to_floats(widen(widen(load(U8X16, codes, place))))


@inlined
def four_rows(codes: Codes, place: int, x: Float32, start: int, columns: int) -> Any:
    """Return the products of four rows and one sequence."""
    a = b = c = d = splat(F32X16, 0.0)
    for line in range(0, columns, CACHE_LINE):
        # Near the end of these rows the next four are asked for.
        ahead = place + line + AHEAD + (3 * columns if line + AHEAD >= columns else 0)
        prefetch(codes, ahead)
        prefetch(codes, ahead + columns)
        prefetch(codes, ahead + 2 * columns)
        prefetch(codes, ahead + 3 * columns)
        for column in range(line, line + CACHE_LINE, LANES):
            here, at = load(F32X16, x, start + column), place + column
            a = multiply_add(floats(codes, at), here, a)
            b = multiply_add(floats(codes, at + columns), here, b)
            c = multiply_add(floats(codes, at + 2 * columns), here, c)
            d = multiply_add(floats(codes, at + 3 * columns), here, d)
    return sum_of_lanes(a), sum_of_lanes(b), sum_of_lanes(c), sum_of_lanes(d)


@inlined
def two_by_four(codes: Codes, place: int, x: Float32, start: int, columns: int) -> Any:
    """Return the products of two rows and four sequences, each summed up as in `four_rows`."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        at = start + column
        x0, x1 = load(F32X16, x, at), load(F32X16, x, at + columns)
        x2, x3 = load(F32X16, x, at + 2 * columns), load(F32X16, x, at + 3 * columns)
        row = floats(codes, place + column)
        a0, a1 = multiply_add(row, x0, a0), multiply_add(row, x1, a1)
        a2, a3 = multiply_add(row, x2, a2), multiply_add(row, x3, a3)
        row = floats(codes, place + columns + column)
        b0, b1 = multiply_add(row, x0, b0), multiply_add(row, x1, b1)
        b2, b3 = multiply_add(row, x2, b2), multiply_add(row, x3, b3)
    upper = sum_of_lanes(a0), sum_of_lanes(a1), sum_of_lanes(a2), sum_of_lanes(a3)
    return upper, (sum_of_lanes(b0), sum_of_lanes(b1), sum_of_lanes(b2), sum_of_lanes(b3))


@inlined
def one_by_one(codes: Codes, place: int, x: Float32, start: int, columns: int) -> Any:
    """Return the product of a row and a sequence."""
    total = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        total = multiply_add(floats(codes, place + column), load(F32X16, x, start + column), total)
    return sum_of_lanes(total)


@inlined
def rows_of_one(codes: Codes, scales: Float32, x: Float32, out: Float32, sequence: int, rows: tuple[int, int]) -> None:
    """Write the rows (first, last) of one sequence."""
    columns = x.shape[1]
    flat, start = x.reshape(-1), sequence * columns
    row, last = rows
    while last - row >= TOGETHER:
        a, b, c, d = four_rows(codes, row * columns, flat, start, columns)
        out[sequence, row], out[sequence, row + 1] = a * scales[row], b * scales[row + 1]
        out[sequence, row + 2], out[sequence, row + 3] = c * scales[row + 2], d * scales[row + 3]
        row += TOGETHER
    while row < last:
        out[sequence, row] = one_by_one(codes, row * columns, flat, start, columns) * scales[row]
        row += 1


@inlined
def store_four(out: Float32, sequence: int, row: int, products: Any, scale: Any) -> None:
    """Write the products of a row and four sequences."""
    out[sequence, row], out[sequence + 1, row] = products[0] * scale, products[1] * scale
    out[sequence + 2, row], out[sequence + 3, row] = products[2] * scale, products[3] * scale


@inner
def some_rows(codes: Codes, scales: Float32, x: Float32, out: Float32, first: int, last: int) -> None:
    """Write the rows from `first` to before `last` of all sequences."""
    columns, sequence = x.shape[1], 0
    flat, even = x.reshape(-1), last - (last - first) % 2
    while len(x) - sequence >= TOGETHER:
        for row in range(first, even, 2):
            upper, lower = two_by_four(codes, row * columns, flat, sequence * columns, columns)
            store_four(out, sequence, row, upper, scales[row])
            store_four(out, sequence, row + 1, lower, scales[row + 1])
        for step in range(TOGETHER):
            rows_of_one(codes, scales, x, out, sequence + step, (even, last))
        sequence += TOGETHER
    while sequence < len(x):
        rows_of_one(codes, scales, x, out, sequence, (first, last))
        sequence += 1


@compiled
def all_rows(
    counters: Counters, thread: int, threads: int, weights: tuple[Codes, Float32], x: Float32, out: Float32
) -> None:
    """Write x @ (codes x scales).T, float32 (sequences, rows). A job for `Team.run`."""
    codes, scales = weights
    rows = out.shape[1]
    open_shares(counters, thread, threads, rows)
    barrier(counters, threads)
    first, last = take(counters, thread, threads, rows, ROWS)
    while first < rows:
        some_rows(codes, scales, x, out, first, last)
        first, last = take(counters, thread, threads, rows, ROWS)


class Int8Head:
    """Rows of int8 and a scale each, the largest weight being 127; hidden states stay float32.

    Approximate: a weight is off by up to 1/254 of the largest of its row, so a logit by up to that times sum |hidden|.
    """

    def __init__(self, weights: Dense, team: Team) -> None:
        """Take the weights (vocabulary, hidden), of which nothing is kept."""
        self.vocab, columns = weights.bits.shape
        wide = -(-columns // CACHE_LINE) * CACHE_LINE
        self.codes: Codes = aligned((self.vocab * wide,), np.int8)
        self.scales: Float32 = np.empty(self.vocab, np.float32)
        self._team, self._wide = team, wide
        self.bytes_read = 0
        for first in range(0, self.vocab, BLOCK):
            rows = Dense(weights.bits[first : first + BLOCK], weights.brain).as_float32()
            largest = np.abs(rows).max(axis=1, initial=0.0)
            scales = np.where(largest > 0, largest / np.float32(LARGEST), np.float32(1))
            codes = self.codes.reshape(self.vocab, wide)[first : first + BLOCK]
            codes[:, :columns], codes[:, columns:] = np.rint(rows / scales[:, None]), 0
            self.scales[first : first + BLOCK] = scales

    def logits(self, hidden: Float32) -> Float32:
        """Return all logits (sequences, vocabulary)."""
        out: Float32 = np.empty((len(hidden), self.vocab), np.float32)
        self.bytes_read += self.codes.nbytes + self.scales.nbytes
        self._team.run(all_rows, (self.codes, self.scales), filled_up_states(hidden, self._wide), out)
        return out

    def top(self, hidden: Float32, count: int) -> list[Candidates]:
        """Return the `count` tokens of the largest logits of each sequence.

        Raises:
            ValueError: fewer than one are asked for.
        """
        checked_count(count)
        return [top_of(logits, count) for logits in self.logits(hidden)]

    def within(self, hidden: Float32, margin: float) -> list[Candidates]:
        """Return the tokens whose logit is at least the largest less `margin`, of each sequence."""
        return [within_of(logits, margin) for logits in self.logits(hidden)]
