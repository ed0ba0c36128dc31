"""A model of any shape with random weights: as quick and as large as a real one, and nonsense."""

import numpy as np

from bitsim.simulator.model_spec import ModelSpec

from ..model.config import ModelConfig, Rope, TextRules
from ..packing.codec import Ternary
from .checkpoint import Dense, Float32, Linear

THETA, EPSILON = 500_000.0, 1e-5  # of BitNet b1.58 2B4T and Llama 3
SPREAD = 0.02  # standard deviation of dense weights, as transformers begins with
ROWS_AT_ONCE = 4096


class RandomCheckpoint:
    """A `Checkpoint` of a shape; ternary (a third each of -1, 0, +1) or 16-bit matrices, the same for the same seed.

    All layers share their matrices' random numbers: only speed is to be measured.
    """

    def __init__(self, spec: ModelSpec, ternary: bool, seed: int = 0) -> None:
        """Take a shape, and whether the layers' matrices are ternary."""
        self.config = ModelConfig(spec=spec, norm_eps=EPSILON, rope=Rope(theta=THETA))
        self.text = TextRules()
        self._ternary, self._seed = ternary, seed
        self._kept: dict[tuple[int, int], Linear] = {}

    def embedding(self) -> Dense:
        """Return the token embedding (vocabulary, hidden)."""
        return self._dense(self.config.spec.vocab, self.config.spec.hidden)

    def head(self) -> Dense | None:
        """Return the output head, or None where it is the embedding."""
        spec = self.config.spec
        return None if spec.tied_head else self._dense(spec.vocab, spec.hidden)

    def output_norm(self) -> Float32:
        """Return ones."""
        return np.ones(self.config.spec.hidden, np.float32)

    def norm(self, layer: int, name: str) -> Float32 | None:
        """Return ones for the norms that the shape has."""
        spec = self.config.spec
        widths = {"attention_norm": spec.hidden, "ffn_norm": spec.hidden}
        if spec.sub_norms:
            widths |= {"attention_sub_norm": spec.query_width, "ffn_sub_norm": spec.ffn}
        if spec.qk_norm:
            widths |= {"q_norm": spec.head_dim, "k_norm": spec.head_dim}
        return np.ones(widths[name], np.float32) if name in widths else None

    def linear(self, layer: int, name: str) -> Linear:
        """Return a matrix of a layer."""
        shape = next((each.outputs, each.inputs) for each in self.config.spec.linears() if each.name == name)
        if shape not in self._kept:
            if self._ternary:
                weights = np.random.default_rng(self._seed).integers(-1, 2, shape, np.int8)
                self._kept[shape] = Linear(Ternary(weights, np.full((1, 1), shape[1] ** -0.5, np.float32)))
            else:
                self._kept[shape] = Linear(self._dense(*shape))
        return self._kept[shape]

    def _dense(self, rows: int, columns: int) -> Dense:
        random = np.random.default_rng(self._seed)
        bits = np.empty((rows, columns), np.uint16)
        for start in range(0, rows, ROWS_AT_ONCE):
            here = bits[start : start + ROWS_AT_ONCE]
            here[:] = (random.standard_normal(here.shape, np.float32) * SPREAD).astype(np.float16).view(np.uint16)
        return Dense(bits)
