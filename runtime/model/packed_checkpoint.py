"""A packed file as a checkpoint: what was fused for the step is cut into q, k, v and gate, up again."""

from pathlib import Path

import numpy as np

from bitsim.energy_tables import BitsimError

from ..checkpoints.checkpoint import NORMS, Checkpoint, Dense, Float32, Linear
from ..kernels.dense import padded
from ..packing import CODECS, Ternary
from . import step
from .assembly import INPUTS, Assembled, Int64
from .packed_file import read_packed


def open_packed(path: Path) -> Checkpoint:
    """Open a file that `write_packed` wrote.

    Raises:
        BitsimError: see `read_packed`.
    """
    return PackedCheckpoint(read_packed(path)[0], str(path))


class PackedCheckpoint:
    """A `Checkpoint` over the arrays of a step; matrices are unpacked when asked for, those fused with them too.

    What the packing changed stays so: ternary matrices with scales for groups of columns have become 16-bit numbers.
    """

    def __init__(self, model: Assembled, where: str) -> None:
        """Take a model whose tables are checked; `where` names it in messages."""
        self.config, self.text = model.config, model.text
        self._model, self._where = model, where
        self._shapes = {matrix.name: (matrix.outputs, matrix.inputs) for matrix in model.config.spec.linears()}
        self._unpacked: tuple[tuple[int, int], Ternary | Dense] | None = None  # the last one, by layer and product

    def embedding(self) -> Dense:
        """Return the token embedding (vocabulary, hidden)."""
        return self._narrowed(self._model.embedding)

    def head(self) -> Dense | None:
        """Return the output head, or None where it is the embedding."""
        return None if self._model.head is None else self._narrowed(self._model.head)

    def output_norm(self) -> Float32:
        """Return the weights of the last norm."""
        return self._floats(self._model.output_norm, self.config.spec.hidden)

    def norm(self, layer: int, name: str) -> Float32 | None:
        """Return the weights of a norm of a layer, or None."""
        place, spec = self._model.norms[layer, NORMS.index(name)], self.config.spec
        widths = {"attention_sub_norm": spec.query_width, "ffn_sub_norm": spec.ffn}
        widths |= {"q_norm": spec.head_dim, "k_norm": spec.head_dim}
        return None if place == step.NONE else self._floats(place, widths.get(name, spec.hidden))

    def linear(self, layer: int, name: str) -> Linear:
        """Return a matrix of a layer.

        Raises:
            BitsimError: its bytes are no codes.
        """
        rows, columns = self._shapes[name]
        number, first = self._place(layer, name)
        product, whole = self._model.products[layer, number], self._matrix(layer, number)
        weights: Ternary | Dense
        if isinstance(whole, Ternary):
            weights = Ternary(whole.weights[first : first + rows], _fewest(whole.scales[first : first + rows]))
        else:
            weights = Dense(whole.bits[first : first + rows], whole.brain)
        bias = self._floats(product[step.BIAS] + first, rows) if self._has_bias(name, product) else None
        if product[step.NORM] == step.NONE:
            return Linear(weights, bias)
        epsilon = float(self._model.floats[product[step.EPSILON]])
        return Linear(weights, bias, self._floats(product[step.NORM], columns), epsilon)

    def _narrowed(self, wide: Dense) -> Dense:
        return Dense(np.ascontiguousarray(wide.bits[:, : self.config.spec.hidden]), wide.brain)

    def _floats(self, place: int, count: int) -> Float32:
        return self._model.floats[place : place + count]

    def _has_bias(self, name: str, product: Int64) -> bool:
        """Whether the model has it: a fused product has zeros for those of its matrices that have none."""
        spec = self.config.spec
        there = spec.output_bias if name == "o" else spec.qkv_bias and name in ("q", "k", "v")
        return there and bool(product[step.BIAS] != step.NONE)

    def _place(self, layer: int, name: str) -> tuple[int, int]:
        """Return which product of a layer holds a matrix, and from which of its rows on."""
        names, number = next((names, place) for names, place in INPUTS if name in names)
        first = sum(self._shapes[other][0] for other in names[: names.index(name)])
        for product in range(number, number + len(names)):
            kind, rows = self._model.products[layer, product, [step.KIND, step.ROWS]]
            if kind != step.ABSENT and first + self._shapes[name][0] <= rows:
                return product, first
            first -= 0 if kind == step.ABSENT else int(rows)
        raise BitsimError(f"{self._where}: layer {layer}: {name}: expected all its rows in one product")

    def _matrix(self, layer: int, number: int) -> Ternary | Dense:
        """Return the whole matrix of a product."""
        if self._unpacked is None or self._unpacked[0] != (layer, number):
            product = self._model.products[layer, number]
            try:
                self._unpacked = (layer, number), self._unpack(product)
            except BitsimError as error:
                raise BitsimError(f"{self._where}: matrices, layer {layer}: {error}") from error
        return self._unpacked[1]

    def _unpack(self, product: Int64) -> Ternary | Dense:
        rows, columns, start = (int(product[field]) for field in (step.ROWS, step.COLUMNS, step.WEIGHT))
        packed = self._model.matrices[start : start + product[step.SIZE]]
        if product[step.KIND] == step.TERNARY:
            weights = CODECS[self._model.packing].unpack(packed, rows, columns).weights
            return Ternary(weights, self._floats(product[step.SCALE], rows).reshape(rows, 1))
        bits = packed.view(np.uint16).reshape(rows, padded(columns))[:, :columns]
        return Dense(np.ascontiguousarray(bits), bool(product[step.KIND] == step.BRAIN))


def _fewest(scales: Float32) -> Float32:
    """Return one scale where all rows have the same."""
    return scales[:1] if (scales == scales[0]).all() else scales
