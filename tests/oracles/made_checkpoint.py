"""Checkpoints of random numbers and any shape, for the runtime and its slow twin."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitsim.runtime.checkpoints.checkpoint import Dense, Float32, Linear
from bitsim.runtime.checkpoints.stored import brain_bits
from bitsim.runtime.model.config import ModelConfig, Rope, TextRules
from bitsim.runtime.packing.codec import Ternary
from bitsim.simulator import ModelSpec

PLAIN = Rope(theta=10_000.0)
BLOCK = 16  # columns that share a scale, of kind "blocks"


def small_spec(**changes: Any) -> ModelSpec:
    """A shape so small that all tests together take seconds."""
    shape = {"layers": 2, "hidden": 48, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 80, "vocab": 300}
    named = {"name": "small", "architecture": "bitnet", "tied_head": True, "max_context": 8192}
    return ModelSpec(**{**named, **shape, **changes})


class MadeCheckpoint:
    """A `Checkpoint`; every linear layer has a kind: "ternary", "rows" (a scale each), "blocks", "half" or "brain"."""

    def __init__(
        self,
        spec: ModelSpec,
        kinds: str | Mapping[str, str] = "ternary",
        *,
        rope: Rope = PLAIN,
        window: int | None = None,
        biases: str = "",
        inner_norms: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        """Take a shape; `biases` and `inner_norms` name linear layers that have one."""
        self.config = ModelConfig(spec=spec, norm_eps=1e-5, rope=rope, sliding_window=window)
        self.text = TextRules(bos=1, eos=(2,), chat_template="{{ messages }}", special={"bos_token": "<s>"})
        self._kinds, self._biases, self._inner_norms, self._seed = kinds, biases.split(), inner_norms, seed

    def embedding(self) -> Dense:
        return self._dense(self._random("embedding").normal(size=(self.config.spec.vocab, self.config.spec.hidden)))

    def head(self) -> Dense | None:
        spec = self.config.spec
        return None if spec.tied_head else self._dense(self._random("head").normal(size=(spec.vocab, spec.hidden)))

    def output_norm(self) -> Float32:
        return self._norm(self.config.spec.hidden, "output_norm")

    def norm(self, layer: int, name: str) -> Float32 | None:
        spec = self.config.spec
        widths = {"attention_norm": spec.hidden, "ffn_norm": spec.hidden}
        if spec.sub_norms:
            widths |= {"attention_sub_norm": spec.query_width, "ffn_sub_norm": spec.ffn}
        if spec.qk_norm:
            widths |= {"q_norm": spec.head_dim, "k_norm": spec.head_dim}
        return self._norm(widths[name], name, layer) if name in widths else None

    def linear(self, layer: int, name: str) -> Linear:
        rows, columns = next((each.outputs, each.inputs) for each in self.config.spec.linears() if each.name == name)
        random = self._random(name, layer)
        kind = self._kinds if isinstance(self._kinds, str) else self._kinds.get(name, "ternary")
        bias = random.normal(size=rows).astype(np.float32) if name in self._biases else None
        norm = self._norm(columns, "norm of " + name, layer) if name in self._inner_norms else None
        return Linear(self._matrix(kind, random, rows, columns), bias, norm, norm_eps=1e-3)

    def _matrix(self, kind: str, random: np.random.Generator, rows: int, columns: int) -> Ternary | Dense:
        size = columns**-0.5  # so that what comes out is of the size of what goes in
        if kind in ("half", "brain"):
            return self._dense(random.normal(size=(rows, columns)) * size, brain=kind == "brain")
        shape = {"ternary": (1, 1), "rows": (rows, 1), "blocks": (rows, columns // BLOCK)}[kind]
        scales = (random.uniform(0.5, 2, shape) * size).astype(np.float32)
        return Ternary(random.integers(-1, 2, (rows, columns), np.int8), scales)

    def _dense(self, values: np.ndarray[Any, np.dtype[np.float64]], brain: bool = False) -> Dense:
        if brain:
            return Dense(brain_bits(values.astype(np.float32)), brain=True)
        return Dense(values.astype(np.float16).view(np.uint16))

    def _norm(self, width: int, name: str, layer: int = 0) -> Float32:
        return self._random(name, layer).uniform(0.5, 1.5, width).astype(np.float32)

    def _random(self, name: str, layer: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._seed, layer, *name.encode()])
