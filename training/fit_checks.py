"""Checks of a fitted law: what the likelihood allows, and how well it says what it has not seen."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bitsim.energy_tables import BitsimError, Interval

from .fit import Scale, check_points, fit_law
from .fitted import Fit, natural_terms
from .huber import Array, minimise, predictions
from .measured import Measured

# Where the profile is looked at, in half-widths of the interval that a straight line through the optimum would give.
_LOOKS = np.concatenate([np.linspace(0.0, 3.0, 61)[1:], np.geomspace(3.0, 100.0, 40)[1:]])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that a law was asked about before it was fitted to it. `error` is predicted over measured, less 1."""

    scheme: str
    parameters: float
    tokens: float | None
    measured: float
    predicted: Interval

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted.mid / self.measured - 1.0


def profile_interval(fit: Fit, name: str, scheme: str | None = None) -> Interval:
    """Return the values of a coefficient that the likelihood allows, all others refitted for each.

    The likelihood is that of normal noise on the logarithms: a value is allowed while the sum of squares stays below
    S (1 + F / free points), with F's quantile at the fit's level (Bates & Watts, profile t). `mid` is the
    least-squares value, which is not quite the Huber fit's. An end is 0 or infinite where the likelihood has none.

    Raises:
        BitsimError: as many unknowns as points, or no such coefficient.
    """
    free = len(fit.points) - len(fit.names)
    if free <= 0:
        raise BitsimError(f"profile: expected more than {len(fit.names)} points for {len(fit.names)} unknowns")
    index = fit.index(name, scheme)
    scale = Scale.of(fit.points, fit.form, fit.names)
    turn = scale.turn.copy()
    turn[index] = np.eye(len(turn))[index]  # the coefficient itself, not its term in the middle of the points
    terms = natural_terms(fit.points, fit.form, fit.names) @ turn
    target = (np.log(fit.points.values) - scale.centre)[None]
    even = np.ones_like(target)
    start = np.linalg.solve(turn, fit.unknowns - scale.shift)[None].astype(np.float64)
    best, half_squares = minimise(terms, target, even, start, math.inf)

    covariance = np.linalg.pinv(_information(terms, best[0])) * (2.0 * half_squares[0] / free)
    quantile = float(stats.f.ppf(fit.level, 1, free))
    width = math.sqrt(covariance[index, index] * quantile)
    movable = np.arange(len(turn)) != index
    limit = half_squares[0] * quantile / free
    ends = []
    for sign in (-1.0, 1.0):
        steps = sign * width * _LOOKS
        starts = best + steps[:, None] * (covariance[index] / covariance[index, index])
        _, values = minimise(terms, target, even, starts, math.inf, movable)
        ends.append(float(best[0, index]) + sign * width * _crossing(values - half_squares[0], limit))
    low, mid, high = ends[0], float(best[0, index]), ends[1]
    if name in ("alpha", "beta"):
        return Interval(low, mid, high)
    return Interval(*(math.exp(value + scale.shift[index]) for value in (low, mid, high)))


def leave_one_out(fit: Fit) -> tuple[LeftOut, ...]:
    """Fit once more without each run, and predict that run.

    Raises:
        BitsimError: without one of the runs the rest can't hold the unknowns.
    """
    points = fit.points
    every = np.arange(len(points))
    for left_out in every:
        check_points(points.chosen(every != left_out), fit.form, fit.shared)
    scale = Scale.of(points, fit.form, fit.names)
    target = (np.log(points.values) - scale.centre)[None]
    starts = np.repeat(scale.moved(fit.unknowns[None]), len(points), axis=0)
    found, _ = minimise(scale.terms, target, 1.0 - np.eye(len(points)), starts, fit.delta)
    predicted = np.exp(np.diagonal(predictions(scale.terms, found)) + scale.centre)
    return tuple(_left_out(points, int(row), Interval.exact(float(predicted[row]))) for row in every)


def predict_largest(points: Measured, form: str, **options: Any) -> tuple[Fit, tuple[LeftOut, ...]]:
    """Fit without the runs of the largest size, and predict them: what the law would have said beforehand.

    Args:
        points: what was measured.
        form: one of `FORMS`.
        options: those of `fit_law`.

    Returns:
        The fit to the smaller sizes, and the runs left out with their predictions.

    Raises:
        BitsimError: the smaller sizes can't hold the unknowns.
    """
    largest = points.parameters == points.parameters.max()
    fit = fit_law(points.chosen(~largest), form, **options)
    tokens = points.tokens if form == "chinchilla" else None
    found = []
    for row in np.flatnonzero(largest):
        value = fit.predict(
            float(points.parameters[row]), None if tokens is None else float(tokens[row]), points.schemes[row]
        ).value
        found.append(_left_out(points, int(row), value))
    return fit, tuple(found)


def _left_out(points: Measured, row: int, predicted: Interval) -> LeftOut:
    return LeftOut(
        scheme=points.schemes[row],
        parameters=float(points.parameters[row]),
        tokens=None if points.tokens is None else float(points.tokens[row]),
        measured=float(points.values[row]),
        predicted=predicted,
    )


def _information(terms: Array, unknowns: Array) -> Array:
    """Return J^T J at the optimum, by central differences of the predictions, which are smooth."""
    steps = 1e-6 * np.eye(len(unknowns))
    slopes = (predictions(terms, unknowns + steps) - predictions(terms, unknowns - steps)) / 2e-6
    return np.asarray(slopes @ slopes.T)


def _crossing(rises: Array, limit: float) -> float:
    """Return where the rise passes the limit, in units of `_LOOKS`; its root is nearly straight."""
    over = np.flatnonzero(rises > limit)
    if not len(over):
        return math.inf
    at = int(over[0])
    before, x_before = (0.0, 0.0) if at == 0 else (math.sqrt(max(rises[at - 1], 0.0)), _LOOKS[at - 1])
    after, goal = math.sqrt(rises[at]), math.sqrt(limit)
    return float(x_before + (_LOOKS[at] - x_before) * (goal - before) / (after - before))
