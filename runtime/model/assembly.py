"""From a checkpoint's tensors to the arrays of a step: packed for one kernel, laid end to end.

Matrices that take the same input are packed as one, so that the input is prepared once: q, k and v; gate and up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.checkpoint import NORMS, Checkpoint, Dense, Float32, Linear
from ..kernels.dense import padded
from ..memory import aligned
from ..packing import CODECS
from ..packing.codec import Ternary
from . import step
from .config import ModelConfig, TextRules, check_covered

Bytes = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

ALIGNMENT = 64  # bytes at which each packed matrix begins
# Linears that take the same input, where their products lie in a layer, and how many rows make a unit there.
INPUTS = (
    (("q", "k", "v"), step.ATTENTION_IN),
    (("o",), step.OUT),
    (("gate", "up"), step.FFN_IN),
    (("down",), step.DOWN),
)


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """A model as arrays, for the kernels of one packing; see `step.Weights`."""

    config: ModelConfig
    text: TextRules
    packing: str
    matrices: Bytes
    floats: Float32
    products: Int64
    norms: Int64
    output_norm: int
    embedding: Dense  # (vocabulary, hidden_wide)
    head: Dense | None  # None where it is the embedding


class _Floats:
    """Vectors laid end to end, each filled up to a multiple of 16."""

    def __init__(self) -> None:
        self._parts: list[Float32] = []
        self._size = 0

    def add(self, vector: Float32 | None) -> int:
        """Return where the vector lies, or `step.NONE` for none."""
        if vector is None:
            return step.NONE
        place = self._size
        part = np.zeros(padded(len(vector)), np.float32)
        part[: len(vector)] = vector
        self._parts.append(part)
        self._size += len(part)
        return place

    def together(self) -> Float32:
        """Return all of them."""
        return np.concatenate([*self._parts, np.zeros(16, np.float32)])


class _Matrices:
    """Packed matrices laid end to end, in memory that grows by doubling."""

    def __init__(self) -> None:
        self._memory: Bytes = aligned((1 << 16,), np.uint8)
        self._size = 0

    def add(self, packed: Bytes) -> int:
        """Return where the matrix lies."""
        place, end = self._size, self._size + len(packed)
        if end > len(self._memory):
            larger: Bytes = aligned((max(end, 2 * len(self._memory)),), np.uint8)
            larger[:place] = self._memory[:place]
            self._memory = larger
        self._memory[place:end] = packed
        self._size = -(-end // ALIGNMENT) * ALIGNMENT
        return place

    def together(self) -> Bytes:
        """Return all of them; an even number of bytes."""
        whole: Bytes = aligned((self._size,), np.uint8)
        whole[:] = self._memory[: self._size]
        return whole


def assemble(checkpoint: Checkpoint, packing: str, progress: Callable[[int, int], None] | None = None) -> Assembled:
    """Pack a checkpoint for the kernels of a packing; progress(layers done, layers) is called on the way.

    Raises:
        BitsimError: a tensor is missing, damaged, or not of the shape that the configuration says; or the model has
            something that a step does not do.
    """
    spec = checkpoint.config.spec
    check_covered(spec)
    floats, matrices = _Floats(), _Matrices()
    products = np.zeros((spec.layers, step.PRODUCTS, step.FIELDS), np.int64)
    norms = np.zeros((spec.layers, len(NORMS)), np.int64)
    for layer in range(spec.layers):
        norms[layer] = [floats.add(checkpoint.norm(layer, name)) for name in NORMS]
        for names, place in INPUTS:
            linears = [checkpoint.linear(layer, name) for name in names]
            unit = {step.ATTENTION_IN: spec.head_dim, step.FFN_IN: spec.ffn}.get(place, spec.hidden)
            for number, (first_row, linear) in enumerate(_fused(linears)):
                products[layer, place + number] = _product(linear, packing, floats, matrices, first_row // unit)
        if progress:
            progress(layer + 1, spec.layers)
    head = checkpoint.head()
    return Assembled(
        config=checkpoint.config,
        text=checkpoint.text,
        packing=packing,
        matrices=matrices.together(),
        output_norm=floats.add(checkpoint.output_norm()),
        floats=floats.together(),
        products=products,
        norms=norms,
        embedding=widened(checkpoint.embedding()),
        head=None if head is None else widened(head),
    )


def repacked(model: Assembled, packing: str) -> Assembled:
    """Return a model with its ternary matrices packed for another kernel.

    Raises:
        BitsimError: a matrix holds bytes that are no code.
    """
    matrices, products = _Matrices(), model.products.copy()
    old, new = CODECS[model.packing], CODECS[packing]
    for product in products.reshape(-1, products.shape[-1]):
        if product[step.KIND] == step.ABSENT:
            continue
        packed = model.matrices[product[step.WEIGHT] : product[step.WEIGHT] + product[step.SIZE]]
        if product[step.KIND] == step.TERNARY:
            packed = new.pack(old.unpack(packed, product[step.ROWS], product[step.COLUMNS]).weights).reshape(-1)
        product[step.WEIGHT], product[step.SIZE] = matrices.add(packed), len(packed)
    return replace(model, packing=packing, matrices=matrices.together(), products=products)


def widened(dense: Dense) -> Dense:
    """Return a matrix with its columns filled up with zeros to a multiple of 16."""
    rows, columns = dense.bits.shape
    if padded(columns) == columns:
        return dense
    bits = np.zeros((rows, padded(columns)), np.uint16)
    bits[:, :columns] = dense.bits
    return Dense(bits, dense.brain)


def _fused(linears: Sequence[Linear]) -> list[tuple[int, Linear]]:
    """Return the linears with their first row, as one where they take the same numbers in the same format."""
    linears = [_without_blocks(linear) for linear in linears]
    if len({_kind(linear) for linear in linears}) == 1 and all(_same_norm(linears[0], each) for each in linears):
        return [(0, _joined(linears))]
    starts = np.cumsum([0] + [_rows(linear) for linear in linears])
    return [(int(start), linear) for start, linear in zip(starts, linears, strict=False)]


def _without_blocks(linear: Linear) -> Linear:
    """Return a linear with one scale a row; ternary blocks with scales of their own become 16-bit numbers."""
    weights = linear.weights
    if not isinstance(weights, Ternary) or weights.scales.shape[1] == 1:
        return linear
    dense = Dense(weights.dequantised().astype(np.float16).view(np.uint16))
    return replace(linear, weights=dense)


def _kind(linear: Linear) -> int:
    if isinstance(linear.weights, Ternary):
        return step.TERNARY
    return step.BRAIN if linear.weights.brain else step.HALF


def _rows(linear: Linear) -> int:
    weights = linear.weights
    return len(weights.weights if isinstance(weights, Ternary) else weights.bits)


def _same_norm(left: Linear, right: Linear) -> bool:
    if left.norm is None or right.norm is None:
        return left.norm is right.norm
    return left.norm_eps == right.norm_eps and np.array_equal(left.norm, right.norm)


def _joined(linears: Sequence[Linear]) -> Linear:
    """Return linears as one of all their rows."""
    if len(linears) == 1:
        return linears[0]
    biases = [np.zeros(_rows(each), np.float32) if each.bias is None else each.bias for each in linears]
    bias = None if all(each.bias is None for each in linears) else np.concatenate(biases)
    all_weights: list[Any] = [linear.weights for linear in linears]
    if isinstance(all_weights[0], Ternary):
        scales = [np.broadcast_to(each.scales, (len(each.weights), 1)) for each in all_weights]
        weights: Any = Ternary(np.concatenate([each.weights for each in all_weights]), np.concatenate(scales))
    else:
        weights = Dense(np.concatenate([each.bits for each in all_weights]), all_weights[0].brain)
    return replace(linears[0], weights=weights, bias=bias)


def _product(linear: Linear, packing: str, floats: _Floats, matrices: _Matrices, first_unit: int) -> list[int]:
    """Pack one product; return its row of `Weights.products`."""
    weights = linear.weights
    scale = step.NONE
    if isinstance(weights, Ternary):
        rows, columns = weights.weights.shape
        packed = CODECS[packing].pack(weights.weights).reshape(-1)
        scale = floats.add(np.ascontiguousarray(np.broadcast_to(weights.scales, (rows, 1))).reshape(-1))
    else:
        rows, columns = weights.bits.shape
        packed = np.ascontiguousarray(widened(weights).bits).reshape(-1).view(np.uint8)
    place = matrices.add(packed)
    bias, norm = floats.add(linear.bias), floats.add(linear.norm)
    epsilon = step.NONE if linear.norm is None else floats.add(np.array([linear.norm_eps], np.float32))
    return [_kind(linear), place, len(packed), rows, columns, scale, bias, norm, epsilon, first_unit]
