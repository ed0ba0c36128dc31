"""A model that keeps what it rounded, so that a slow twin can go on from the same numbers.

A rounding that falls the other way, as sums in another order may make it, changes everything after it by a percent or
so; and yet both are right. The twin checks that each rounding is one to the nearest, and takes it.
"""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from slow_transformer import Array, Rounding

from bitsim.runtime.atomics import barrier
from bitsim.runtime.checkpoints.checkpoint import Checkpoint
from bitsim.runtime.compile import inner
from bitsim.runtime.entry import Entry
from bitsim.runtime.heads.exact import ExactHead
from bitsim.runtime.kernels.kernel import Kernel, share
from bitsim.runtime.model import buffers
from bitsim.runtime.model import model as models
from bitsim.runtime.model import step as steps
from bitsim.runtime.model.assembly import Assembled, assemble
from bitsim.runtime.model.kv_cache import Sequence, padded_head
from bitsim.runtime.threads import Team

RECORD = steps.FIELDS  # one more column of `products`: where in `codes` the input's int8 is kept
FROM = {"q": 0, "k": 0, "v": 0, "o": 3, "gate": 4, "up": 4, "down": 6}  # the first product that takes the same input
NOISE = 2e-3  # of int8: how far beyond a half the twin may be, its float64 against the step's float32

_multiply = inner(steps.multiply)


def recording_multiply(
    crew: steps.Crew,
    weights: steps.Weights,
    product: Any,
    memory: steps.Buffers,
    tokens: int,
    wide: int,
    place: steps.Place,
    out: steps.Float32,
) -> None:
    """Multiply as `step.multiply` does, and copy the int8 of this thread's tokens to where they stay."""
    _multiply(crew, weights, product, memory, tokens, wide, place, out)
    first, last = share(tokens, crew.thread, crew.threads)
    for at in range(first * product[steps.COLUMNS], last * product[steps.COLUMNS]):
        memory.codes[product[RECORD] + at] = memory.codes[at]
    barrier(crew.counters, crew.threads)  # the next product's inputs may be of another width


RECORDING = Entry(recording_multiply, *steps.multiply_entry().arguments)


class RecordedModel(models.Model):
    """A model that keeps the int8 inputs of all products of the last step."""

    def __init__(self, checkpoint: Checkpoint, kernel: Kernel, threads: int = 1, kv: str = "f16") -> None:
        assembled, self._room = _with_records(assemble(checkpoint, kernel.packing))
        team = Team(threads)
        head = ExactHead(checkpoint.head() or checkpoint.embedding(), team)
        super().__init__(assembled, kernel, head, team, kv)

    def rounding(self, sequence: Sequence) -> "Recorded":
        """Return how the last step rounded, which took the whole sequence."""
        memory = self._buffers[buffers.size_for(sequence.length)]
        return Recorded(self._assembled, memory.codes, sequence)

    def _once(self, rows: steps.Int64) -> models.Float32:
        with patch.object(models, "MULTIPLY", RECORDING):
            return super()._once(rows)

    def _buffers_for(self, tokens: int) -> steps.Buffers:
        memory = super()._buffers_for(tokens)
        if len(memory.codes) < self._room:
            memory = memory._replace(codes=np.zeros(self._room, np.int8))
            self._buffers[buffers.size_for(tokens)] = memory
        return memory


def _with_records(made: Assembled) -> tuple[Assembled, int]:
    """Return a model with the column RECORD, and how many int8 that takes."""
    layers, products, fields = made.products.shape
    table = np.zeros((layers, products, fields + 1), np.int64)
    table[..., :fields] = made.products
    room = np.int64(buffers.MOST * int(made.products[..., steps.COLUMNS].max() + 15))
    for product in table.reshape(-1, fields + 1):
        product[RECORD] = room
        room += buffers.MOST * product[steps.COLUMNS]
    return replace(made, products=table), int(room)


class Recorded(Rounding):
    """The roundings of a model's last step, each checked to be one to the nearest."""

    def __init__(self, made: Assembled, codes: npt.NDArray[np.int8], sequence: Sequence) -> None:
        self._made, self._codes, self._sequence = made, codes, sequence

    def activations(self, layer: int, name: str, scaled: Array) -> Array:
        tokens, columns = scaled.shape
        start = self._product(layer, name)[RECORD]
        codes = self._codes[start : start + tokens * columns].reshape(tokens, columns).astype(np.float64)
        assert np.abs(scaled - codes).max() <= 0.5 + NOISE, (layer, name)
        return codes

    def kept(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        tokens, heads, size = keys.shape
        sequence, spec = self._sequence, self._made.config.spec
        wide, blocks = padded_head(size), (spec.layers, heads, -1, padded_head(size), 16)
        number: Any = np.float16 if sequence.kind == "f16" else np.int8
        all_keys = sequence._keys.view(number).reshape(blocks).swapaxes(3, 4).reshape(spec.layers, heads, -1, wide)
        all_values = sequence._values.view(number).reshape(spec.layers, heads, -1, wide)
        pair = []
        for place, (right, found) in enumerate(((keys, all_keys), (values, all_values))):
            got = found[layer, :, :tokens].swapaxes(0, 1).astype(np.float64)
            assert not got[..., size:].any()
            pair.append(self._checked(right, got[..., :size], layer, place))
        return pair[0], pair[1]

    def _checked(self, right: Array, got: Array, layer: int, place: int) -> Array:
        """Return keys (place 0) or values (1) as they lie in the cache, rounded from what is right."""
        largest = np.abs(right).max(axis=-1, keepdims=True)
        if self._sequence.kind == "f16":
            assert (np.abs(got - right) <= 2.0**-11 * np.abs(right) + 2.0**-25 + 1e-5 * largest).all(), layer
            return got
        tokens, heads, _ = right.shape
        scales = self._sequence._scales.reshape(2, self._made.config.spec.layers, heads, -1)[place, layer, :, :tokens]
        scales = scales.T[..., None].astype(np.float64)
        np.testing.assert_allclose(scales, np.maximum(largest, 1e-30) / 127, rtol=1e-4)
        assert (np.abs(right / scales - got) <= 0.5 + NOISE).all(), layer
        return got * scales

    def _product(self, layer: int, name: str) -> npt.NDArray[np.int64]:
        """Return the product whose rows a linear layer's are among."""
        spec, products = self._made.config.spec, self._made.products[layer]
        unit = spec.head_dim if name in "qkv" else spec.ffn if name in ("gate", "up") else spec.hidden
        first = {"k": spec.heads, "v": spec.heads + spec.kv_heads, "up": 1}.get(name, 0)
        return next(
            product
            for product in products[FROM[name] :]
            if product[steps.FIRST_UNIT] <= first < product[steps.FIRST_UNIT] + product[steps.ROWS] // unit
        )
