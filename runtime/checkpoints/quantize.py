"""Ternary weights from full ones by their mean size (absmean), per tensor, per row or per group of columns."""

from dataclasses import replace

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion

from ..packing.codec import Ternary
from .changed import Changed
from .checkpoint import Checkpoint, Float32, Linear

GRAINS = ("tensor", "row", "group")
_SMALLEST = np.float32(1e-5)  # a scale is never smaller, so that a matrix of zeros has one


def quantized(checkpoint: Checkpoint, grain: str = "tensor", group: int | None = None) -> Checkpoint:
    """Return the model with its linear matrices made ternary, one after the other as they are asked for.

    Of the weights that share a scale, s = 1 / max(mean |W|, 1e-5), each becomes round(W s), at most 1 in size, and is
    worth that / s (arXiv 2402.17764, section 2). Nothing is trained: what it costs shows in the perplexity. Embedding,
    head and norms stay. Matrices that are ternary already stay as they are.

    Args:
        checkpoint: a model with full numbers.
        grain: what shares a scale: "tensor", "row", or "group" for `group` neighbouring columns of a row.
        group: columns of a group; the columns of every matrix must be a multiple.

    Raises:
        BitsimError: another grain, or a group that the matrices can't be cut into.
    """
    if grain not in GRAINS:
        near = suggestion(grain, GRAINS)
        raise BitsimError(f"grain: expected one of {', '.join(GRAINS)}, got '{shown(grain)}'{near}")
    if (grain == "group") != (group is not None):
        raise BitsimError("group: expected a number of columns with grain 'group', and with no other")
    for matrix in checkpoint.config.spec.linears() if group is not None else []:
        _whole_groups(matrix.name, matrix.inputs, group or 0)

    def made_ternary(name: str, linear: Linear) -> Linear:
        if isinstance(linear.weights, Ternary):
            return linear
        return replace(linear, weights=absmean(linear.weights.as_float32(), grain, group))

    return Changed(checkpoint, made_ternary)


def absmean(values: Float32, grain: str = "tensor", group: int | None = None) -> Ternary:
    """Return the ternary matrix of full weights (rows, columns); see `quantized`."""
    rows, columns = values.shape
    blocks = values.reshape(rows, -1, group or columns)
    axes = (0, 1, 2) if grain == "tensor" else (2,)
    means = np.abs(blocks).mean(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32)
    inverse = np.float32(1) / np.maximum(means, _SMALLEST)
    weights = np.clip(np.round(blocks * inverse), -1, 1).astype(np.int8).reshape(rows, columns)
    scales: Float32 = np.float32(1) / inverse
    return Ternary(weights, scales.reshape(scales.shape[0], scales.shape[1]))


def _whole_groups(name: str, columns: int, group: int) -> None:
    if group < 1 or columns % group:
        raise BitsimError(f"group: expected a divisor of the {columns:,} columns of {name}, got {shown(group)}")
