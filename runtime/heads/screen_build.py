"""Making the screen of a head: a balanced and randomly rotated basis, codes of two bits, and what bounds their error.

A row w' of the new basis becomes scale x levels, with scale = |w'|^2 / (levels.w') as in RaBitQ (Gao and Long,
2405.12497): then the residual is orthogonal to w'. Since the rotation is drawn uniformly and independently of weights
and hidden states, the residual is uniformly distributed on a sphere in d - 1 dimensions. A coordinate there is
sub-Gaussian with variance 1 / (d - 1) (Marchal and Arbel, 1705.00048), so the residual's product with h' exceeds
c |h'| |residual| / sqrt(d - 1) with a probability of at most exp(-c^2 / 2), whatever the row and the hidden state.
Rounding the rotation to half precision makes it uniform only to one part in two thousand; for that, d - 2 is taken.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..checkpoints.checkpoint import Dense
from ..kernels.dense import padded
from . import quarter_codes
from .basis import rotation
from .screen import Screen

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Progress = Callable[[float], None]

ROWS = 4096  # worked on at once, a multiple of the codes' row blocks
# Distance of four levels with the least squared error for normal numbers of variance 1 (J. Max, "Quantizing for minimum
# distortion", IRE Transactions on Information Theory 6, 1960, table II).
STEP = 0.9957
# Rounding of w' and h' to float32 points anywhere, like the residual, and is smaller by more than this factor.
ROUNDING = 1.001


def build_screen(
    weights: Dense, hidden: Float32 | None = None, seed: int = 0, progress: Progress | None = None
) -> Screen:
    """Return the screen of a head (rows, columns).

    hidden: hidden states after the last norm (states, columns), float32, of any text: a thousand do. They change how
        many rows are looked at again, never the answers. Without them all directions are taken as equally large.
    seed: of the random rotation; it must have nothing to do with the weights.
    progress: called with the share of the work that is done, from 0 to 1.

    It takes about 12 x 4096 x columns bytes and ten matrices (columns, columns) of float64 besides the screen.

    Raises:
        BitsimError: the head has no rows, a number is not finite, or the hidden states are of another width.
    """
    rows, columns = weights.bits.shape
    if rows == 0 or columns == 0:
        raise BitsimError(f"screen of the head: expected rows and columns, got {rows} x {columns}")
    report = progress or (lambda share: None)
    random: Any = np.random.default_rng(seed)  # numpy's stubs give a float for an array of float32
    mean_row, row_covariance = moments(_reported(weights, report, 0.0, 0.45), "weights of the head")
    centre, covariance = np.zeros(columns), np.eye(columns)
    if hidden is not None:
        centre, covariance = hidden_moments(hidden, columns)
    basis = rotation(covariance, row_covariance, random)
    report(0.55)
    coder = _Coder(rows, columns, np.linalg.inv(basis.astype(np.float64)), mean_row, centre)
    for block in _reported(weights, report, 0.55, 0.45):
        coder.add(block)
    stored = np.zeros((columns, padded(columns)), np.uint16)
    stored[:, :columns] = basis.view(np.uint16)
    return Screen(
        rotation=stored,
        centre=centre.astype(np.float32),
        mean_row=mean_row.astype(np.float32),
        codes=coder.codes.reshape(-1),
        scales=coder.scales,
        offsets=coder.offsets,
        errors=coder.errors,
        dither=random.random(columns, dtype=np.float32),
        longest=np.array([coder.longest], np.float32),
    )


def hidden_moments(hidden: Float32, columns: int) -> tuple[Float64, Float64]:
    """Return mean and covariance of hidden states; few states are drawn towards all directions alike.

    Raises:
        BitsimError: they are no matrix of so many columns and at least one row, or not finite.
    """
    if hidden.ndim != 2 or hidden.shape[1] != columns or len(hidden) == 0:
        raise BitsimError(f"hidden states: expected (states, {columns}), got {hidden.shape}")
    mean, covariance = moments(iter([hidden]), "hidden states")
    trust = len(hidden) / (len(hidden) + SHRINKAGE * columns)
    alike = np.eye(columns) * (np.trace(covariance) / columns)
    return mean, trust * covariance + (1 - trust) * alike


SHRINKAGE = 0.1  # states for each column that weigh as much as the assumption that all directions are alike


def moments(blocks: Iterator[Float32], what: str) -> tuple[Float64, Float64]:
    """Return the mean (columns) and the covariance (columns, columns) of rows that come in blocks.

    Raises:
        BitsimError: they are not finite, or too large for float32 once squared; `what` says what they are.
    """
    count = 0
    total: Any = 0.0
    products: Any = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # seen in the result
        for block in blocks:
            count += len(block)
            total += block.sum(axis=0, dtype=np.float64)
            products += (block.T @ block).astype(np.float64)
        mean = np.asarray(total / count)
        covariance = np.asarray(products / count - np.outer(mean, mean))
    if not np.isfinite(covariance).all():
        raise BitsimError(f"{what}: expected finite numbers below 1e18, got some that are not")
    return mean, covariance


def _reported(weights: Dense, report: Progress, start: float, share: float) -> Iterator[Float32]:
    """Yield the rows in blocks; the share of the work that is done goes from `start` to `start + share`."""
    rows = len(weights.bits)
    for first in range(0, rows, ROWS):
        yield Dense(weights.bits[first : first + ROWS], weights.brain).as_float32()
        report(start + share * min(first + ROWS, rows) / rows)


class _Coder:
    """Turns rows, block after block, into codes and what goes with them."""

    def __init__(self, rows: int, columns: int, inverse: Float64, mean_row: Float64, centre: Float64) -> None:
        blocks = quarter_codes.row_blocks(rows)
        filled = blocks * quarter_codes.ROWS
        self.codes = np.empty((blocks, quarter_codes.column_groups(columns), quarter_codes.ROWS), np.uint8)
        self.scales, self.offsets = np.zeros(filled, np.float32), np.full(filled, -np.inf, np.float32)
        self.errors, self.longest = np.zeros(filled, np.uint32), 0.0
        self._inverse, self._mean_row, self._centre = inverse.astype(np.float32), mean_row, centre
        self._done = 0

    def add(self, rows: Float32) -> None:
        """Code the next rows."""
        here = slice(self._done, self._done + len(rows))
        first = here.start // quarter_codes.ROWS
        self._done = here.stop
        turned = (rows - self._mean_row.astype(np.float32)) @ self._inverse
        levels, scales, residuals, longest = coded(turned)
        packed = quarter_codes.pack(levels)
        self.codes[first : first + len(packed)] = packed
        self.scales[here] = scales
        self.offsets[here] = rows @ self._centre
        norms = lengths(rows) + np.linalg.norm(self._mean_row)
        self.errors[here] = two_in_one(ROUNDING * residuals / np.sqrt(max(rows.shape[1] - 2, 1)), norms)
        self.longest = max(self.longest, longest)


def coded(rows: Float32) -> tuple[npt.NDArray[np.int8], Float64, Float64, float]:
    """Return levels -3, -1, 1, 3 of rows, the scales, the lengths of the residuals and the largest length of levels."""
    columns = rows.shape[1]
    squares = lengths(rows) ** 2
    step = np.maximum(STEP * np.sqrt(squares / columns), np.finfo(np.float32).tiny)
    levels = 2 * np.clip(np.floor(rows / step.astype(np.float32)[:, None]), -2, 1).astype(np.int8) + np.int8(1)
    along = np.einsum("rc,rc->r", levels, rows, dtype=np.float64)
    scales = np.where(along > 0, squares / np.where(along > 0, along, 1.0), 0.0)
    levels_squared = np.einsum("rc,rc->r", levels, levels, dtype=np.int64)
    residuals = np.sqrt(np.maximum(scales**2 * levels_squared - squares, 0.0))
    return levels, scales, residuals, float(np.sqrt(levels_squared.max()))


def lengths(rows: Float32) -> Float64:
    """Return the length of each row."""
    return np.asarray(np.sqrt(np.einsum("rc,rc->r", rows, rows, dtype=np.float64)))


def two_in_one(upper: Float64, lower: Float64) -> npt.NDArray[np.uint32]:
    """Return two numbers, not negative, rounded up to bfloat16, in the upper and the lower 16 bits."""
    high, low = (each.astype(np.float32).view(np.uint32) + np.uint32(0xFFFF) for each in (upper, lower))
    return np.asarray((high & np.uint32(0xFFFF0000)) | (low >> np.uint32(16)))
