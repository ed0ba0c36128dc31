"""Robust fits of sums of power laws, many at a time.

A sum of power laws is, in logarithms, log(exp(t_1) + ... + exp(t_k)), in which each term t is linear in the unknowns:
a - alpha log N, b - beta log D, e. So one array describes any such form, and one solver serves them all, for one scheme
or for several that share unknowns. What is minimised is the sum of Huber losses of that minus the logarithm of what was
measured (Hoffmann et al. 2022, Equation 11).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROWS = 128  # of a batch at a time: the arrays of 245 points then stay in the cache
_STEPS = 200
_LIMIT = 60.0  # of an unknown, all of which are logarithms or exponents: a term of e^-60 is none


def predictions(terms: Array, unknowns: Array) -> Array:
    """Return the logarithm of the sum of power laws.

    Args:
        terms: how each term at each point depends on each unknown. Shape: (points, terms, unknowns).
        unknowns: one set of unknowns a row. Shape: (rows, unknowns).

    Returns:
        Shape: (rows, points).
    """
    value, _ = _log_sum(terms, unknowns)
    return value


def least_share(terms: Array, unknowns: Array) -> Array:
    """Return how small a part of the sum any term is at any point; shapes as in `predictions`, result (rows,)."""
    _, shares = _log_sum(terms, unknowns)
    return np.asarray(np.min([share.min(axis=1) for share in shares], axis=0))


def objective(terms: Array, target: Array, weights: Array, unknowns: Array, delta: float) -> Array:
    """Return the weighted sum of Huber losses of each row; shapes as in `minimise`."""
    residuals = np.abs(predictions(terms, unknowns) - target)
    return _huber(residuals, weights, delta)


def minimise(
    terms: Array,
    target: Array,
    weights: Array,
    start: Array,
    delta: float,
    free: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array]:
    """Minimise the objective for many weightings or targets at once.

    Newton steps on the Huber loss, damped by the matrix of iteratively re-weighted least squares, while delta falls
    from the size of the residuals to its value: a small delta alone leaves too few points with any curvature.

    Args:
        terms: see `predictions`.
        target: logarithms of what was measured. Shape: (rows, points) or (1, points).
        weights: how often each point counts. Shape: (rows, points) or (1, points).
        start: Shape: (rows, unknowns).
        delta: where the loss turns from square to absolute; infinite for least squares.
        free: which unknowns may move; all without it. Shape: (unknowns,).

    Returns:
        Unknowns (rows, unknowns) and objective (rows,).
    """
    rows, points = len(start), len(terms)
    target, weights = np.broadcast_to(target, (rows, points)), np.broadcast_to(weights, (rows, points))
    chosen = np.arange(start.shape[1]) if free is None else np.flatnonzero(free)
    pieces = [slice(first, first + _ROWS) for first in range(0, rows, _ROWS)]

    def solve(piece: slice) -> tuple[Array, Array]:
        return _Descent(terms, target[piece], weights[piece], delta, chosen).run(start[piece])

    if len(pieces) == 1:
        return solve(pieces[0])
    from bitsim.runtime.cpu import usable_cores  # noqa: PLC0415 it imports numba

    with ThreadPoolExecutor(usable_cores()) as pool:
        solved = list(pool.map(solve, pieces))
    return np.concatenate([found for found, _ in solved]), np.concatenate([value for _, value in solved])


class _Descent:
    """One batch of fits on the way to their minima; rows that have arrived are left alone."""

    def __init__(self, terms: Array, target: Array, weights: Array, delta: float, chosen: NDArray[np.intp]) -> None:
        self.terms, self.target, self.weights, self.delta, self.chosen = terms, target, weights, delta, chosen

    def run(self, start: Array) -> tuple[Array, Array]:
        unknowns = start.copy()
        delta = self._first_delta(unknowns)
        damping = np.full(len(start), 1e-2)
        inner = np.zeros(len(start), dtype=np.int64)
        live = np.arange(len(start))
        for _ in range(_STEPS):
            if not len(live):
                break
            target, weights = self.target[live], self.weights[live]
            now, step = self._step(unknowns[live], target, weights, delta[live], damping[live])
            moved = np.clip(unknowns[live] + step, -_LIMIT, _LIMIT)
            then = _huber(np.abs(predictions(self.terms, moved) - target), weights, delta[live][:, None])
            better = then < now
            unknowns[live[better]] = moved[better]
            damping[live] = np.where(better, np.maximum(damping[live] * 0.2, 1e-9), damping[live] * 8.0)
            inner[live] += 1

            gain = np.where(better, now - then, 0.0)
            stuck = damping[live] > 1e7
            at_last = delta[live] <= self.delta
            arrived = (better & (gain <= np.where(at_last, 1e-11, 1e-3) * now)) | stuck | (now <= 1e-24)
            ready = ~at_last & (arrived | (inner[live] >= 6))
            narrower = live[ready]
            delta[narrower] = np.maximum(self.delta, delta[narrower] * 0.3)
            damping[narrower], inner[narrower] = 1e-2, 0
            live = live[~(at_last & arrived)]
        return unknowns, objective(self.terms, self.target, self.weights, unknowns, self.delta)

    def _first_delta(self, unknowns: Array) -> Array:
        residuals = np.abs(predictions(self.terms, unknowns) - self.target)
        if np.isinf(self.delta):
            return np.full(len(unknowns), self.delta)
        return np.asarray(np.maximum(self.delta, 2.0 * residuals.mean(axis=1)))

    def _step(
        self, unknowns: Array, target: Array, weights: Array, delta: Array, damping: Array
    ) -> tuple[Array, Array]:
        """Return the objective where the rows are, and the step from there."""
        value, shares = _log_sum(self.terms, unknowns)
        residuals = value - target
        size = np.abs(residuals)
        inside = size <= delta[:, None]
        slope = np.clip(residuals, -delta[:, None], delta[:, None])
        # The second derivative inside delta, plus some of what re-weighted least squares has in its place everywhere.
        ratio = np.divide(slope, residuals, out=np.ones_like(slope), where=~inside)
        curvature = weights * (inside + damping[:, None] * ratio)
        slopes = _slopes(self.terms, shares)[:, self.chosen]
        matrix = (slopes * curvature[:, None]) @ slopes.transpose(0, 2, 1)
        count = len(self.chosen)
        ridge = 1e-13 * np.trace(matrix, axis1=1, axis2=2) / count + 1e-300
        matrix += ridge[:, None, None] * np.eye(count)
        downhill = -(slopes @ (weights * slope)[..., None])
        step = np.zeros_like(unknowns)
        step[:, self.chosen] = np.clip(np.linalg.solve(matrix, downhill)[..., 0], -3.0, 3.0)
        return _huber(size, weights, delta[:, None]), step


def _log_sum(terms: Array, unknowns: Array) -> tuple[Array, list[Array]]:
    """Return the logarithm of the sum, and each term's share of the sum; each (rows, points)."""
    logs = [unknowns @ terms[:, term].T for term in range(terms.shape[1])]
    largest = logs[0]
    for log in logs[1:]:
        largest = np.maximum(largest, log)
    shares = [np.exp(log - largest) for log in logs]
    total = sum(shares[1:], shares[0])
    return largest + np.log(total), [share / total for share in shares]


def _slopes(terms: Array, shares: list[Array]) -> Array:
    """Return the derivative of the logarithm of the sum by each unknown. Shape: (rows, unknowns, points)."""
    slopes = np.zeros((len(shares[0]), terms.shape[2], terms.shape[0]))
    for term, unknown in _touching(terms):
        slopes[:, unknown] += shares[term] * terms[:, term, unknown]
    return slopes


def _touching(terms: Array) -> Iterator[tuple[int, int]]:
    """Yield the pairs of term and unknown that have to do with each other at any point."""
    for term, unknown in np.argwhere(np.any(terms != 0.0, axis=0)):
        yield int(term), int(unknown)


def _huber(size: Array, weights: Array, delta: float | Array) -> Array:
    inside = np.minimum(size, delta)
    return np.asarray(np.sum(weights * inside * (size - 0.5 * inside), axis=-1))
