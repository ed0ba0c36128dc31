"""The best size for an amount of compute, without a law of the loss (Hoffmann et al. 2022, approaches 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.units import format_count
from bitsim.simulator.compute_optimal import FLOPS_PER_PARAMETER_TOKEN

from .huber import Array


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The loss of one run as it goes: after so many tokens, so much loss. Shape of each array: (evaluations,)."""

    parameters: float
    tokens: Array
    losses: Array


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    """Best size N = n C^a and tokens D = C^(1-a) / (6 n), from best sizes found at some amounts of compute.

    Attributes:
        exponent: a.
        log_scale: the logarithm of n.
        flops: where a best size was found. Shape: (budgets,).
        parameters: those sizes. Shape: (budgets,).
        warnings: what stands against them, one line each.
    """

    exponent: float
    log_scale: float
    flops: Array
    parameters: Array
    warnings: tuple[str, ...] = ()

    @property
    def tokens_exponent(self) -> float:
        """Of D ~ C^b; a and b add to 1."""
        return 1.0 - self.exponent

    def best_parameters(self, flops: float) -> float:
        """Return the best size for an amount of compute."""
        return float(np.exp(self.log_scale + self.exponent * np.log(flops)))

    def best_tokens(self, flops: float) -> float:
        """Return the tokens that go with it."""
        return flops / (FLOPS_PER_PARAMETER_TOKEN * self.best_parameters(flops))


def envelope(curves: Sequence[Curve], budgets: int = 1500) -> Frontier:
    """Find the size with the lowest loss at each amount of compute along training curves (approach 1).

    Each run's loss is interpolated in log compute; only compute that two or more sizes have curves for counts.

    Args:
        curves: of runs whose learning rate fits their length, or the early part of a long run looks worse than it is.
        budgets: how many amounts of compute are looked at, evenly spaced in logarithms.

    Raises:
        BitsimError: curves of fewer than three sizes, a number that is not above zero, or one size is best throughout.
    """
    sizes = {curve.parameters for curve in curves}
    if len(sizes) < 3:
        raise BitsimError(f"curves: expected runs of at least 3 sizes, got {len(sizes)}")
    spans = []
    for curve in curves:
        _check_above_zero(f"curve of {format_count(curve.parameters)}", curve.parameters, curve.tokens, curve.losses)
        spans.append(np.log(FLOPS_PER_PARAMETER_TOKEN * curve.parameters * np.sort(curve.tokens)))
    grid = np.linspace(min(span[0] for span in spans), max(span[-1] for span in spans), budgets)
    losses = np.array(
        [
            np.interp(grid, span, curve.losses[np.argsort(curve.tokens)], left=np.inf, right=np.inf)
            for span, curve in zip(spans, curves, strict=True)
        ]
    )
    parameters = np.array([curve.parameters for curve in curves])
    several = np.array([len(set(parameters[column])) > 1 for column in np.isfinite(losses).T])
    winner = parameters[np.argmin(losses, axis=0)]
    # A size that wins at the edge of what was trained may have won for want of a rival.
    inner = several & (winner > parameters.min()) & (winner < parameters.max())
    if len(set(winner[inner])) < 2:
        raise BitsimError("curves: expected several sizes to be the best at some compute, with smaller and larger ones")
    return _frontier(np.exp(grid[inner]), winner[inner], [])


def iso_flops(flops: ArrayLike, parameters: ArrayLike, losses: ArrayLike) -> Frontier:
    """Find the size with the lowest loss on each profile of equal compute, by a parabola in log N (approach 2).

    Args:
        flops: compute of each run; runs of one profile have the same to 1 %. Shape: (runs,).
        parameters: size of each run. Shape: (runs,).
        losses: final loss of each run. Shape: (runs,).

    Raises:
        BitsimError: arrays of unequal length, a number that is not above zero, a profile with fewer than three sizes or
            without a lowest point, or fewer than two profiles.
    """
    budget, size, loss = (np.asarray(column, dtype=np.float64) for column in (flops, parameters, losses))
    if not budget.shape == size.shape == loss.shape:
        raise BitsimError("profiles: expected one compute, one size and one loss for each run")
    _check_above_zero("profiles", budget, size, loss)
    order = np.argsort(budget)
    groups = np.split(order, np.flatnonzero(np.diff(np.log(budget[order])) > 0.01) + 1)
    if len(groups) < 2:
        raise BitsimError(f"profiles: expected at least 2 amounts of compute, got {len(groups)}")
    found, warnings = [], []
    for group in groups:
        name = f"profile of {budget[group[0]]:.3g} FLOPs"
        logs = np.log(size[group])
        if len(set(size[group])) < 3:
            raise BitsimError(f"{name}: expected at least 3 sizes, got {len(set(size[group]))}")
        bend, slope, _ = np.polyfit(logs - logs.mean(), loss[group], 2)
        if bend <= 0:
            raise BitsimError(f"{name}: expected losses that are lowest at some size, got losses that bend downwards")
        best = logs.mean() - slope / (2 * bend)
        if not logs.min() <= best <= logs.max():
            warnings.append(f"{name}: its lowest point {format_count(np.exp(best))} is outside the sizes trained")
        found.append((float(np.exp(np.log(budget[group]).mean())), float(np.exp(best))))
    budgets, sizes = np.array(found).T
    return _frontier(budgets, sizes, warnings)


def _frontier(flops: Array, parameters: Array, warnings: list[str]) -> Frontier:
    exponent, log_scale = np.polyfit(np.log(flops), np.log(parameters), 1)
    return Frontier(float(exponent), float(log_scale), flops, parameters, tuple(warnings))


def _check_above_zero(what: str, *columns: float | Array) -> None:
    for column in columns:
        if not np.all(np.isfinite(column) & (np.asarray(column) > 0)):
            raise BitsimError(f"{what}: expected finite numbers above 0")
