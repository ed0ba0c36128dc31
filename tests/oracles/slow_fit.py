"""Slow twins of the fit: one law at a time, in its own unknowns, by scipy's general methods."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin, least_squares
from scipy.special import logsumexp

Array = NDArray[np.float64]


def residuals(unknowns: Array, sizes: Array, tokens: Array | None, values: Array) -> Array:
    """log(exp(a - alpha log N) [+ exp(b - beta log D)] + exp(e)) - log(measured): hoffmann2022, Equation 11."""
    a, alpha, e = unknowns[:3]
    logs = [a - alpha * np.log(sizes), np.full(len(sizes), e)]
    if tokens is not None:
        logs.append(unknowns[3] - unknowns[4] * np.log(tokens))
    return np.asarray(logsumexp(logs, axis=0) - np.log(values))


def huber(found: Array, delta: float) -> float:
    """The sum of Huber losses of residuals."""
    total = 0.0
    for residual in np.abs(found):
        total += 0.5 * residual**2 if residual <= delta else delta * (residual - 0.5 * delta)
    return float(total)


def fit(sizes: Array, tokens: Array | None, values: Array, delta: float, start: Array) -> Array:
    """Fit a, alpha, e [, b, beta], from one start."""
    rows = (sizes, tokens, values)
    scale = np.maximum(np.abs(start), 0.1)
    found = least_squares(residuals, start, x_scale=scale, args=rows).x
    if math.isinf(delta):
        return np.asarray(found)
    found = least_squares(residuals, found, loss="huber", f_scale=delta, x_scale=scale, args=rows, max_nfev=2000).x

    def height(unknowns: Array) -> float:
        return huber(residuals(unknowns, *rows), delta) / delta

    # The Huber loss at a small delta is nearly one of absolute values, at which least_squares stops early.
    for _ in range(4):
        found = fmin(height, found, xtol=1e-9, ftol=1e-12, maxfun=8000, disp=False)
    return np.asarray(found)
