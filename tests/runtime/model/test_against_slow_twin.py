"""The compiled step beside the slow twin: shapes, kernels, threads, kinds of weights, rotations, caches."""

from typing import Any

import numpy as np
import pytest
from made_checkpoint import MadeCheckpoint, small_spec
from recorded_model import RecordedModel
from slow_transformer import Array, hidden_states, logits

from bitsim.runtime.kernels import best
from bitsim.runtime.kernels.choice import available
from bitsim.runtime.kernels.kernel import Compiled, Kernel
from bitsim.runtime.model.config import Rope
from bitsim.runtime.model.model import Model

KERNELS = [kernel for kernel in available() if all(isinstance(method, Compiled) for _, method in kernel.methods)]
CLOSE = 3e-5  # relative distance of a state from the twin's with the same roundings: float32 against float64
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")


def distance(found: Any, right: Array) -> float:
    """Return the largest relative distance of a row."""
    return float((np.linalg.norm(found - right, axis=1) / np.linalg.norm(right, axis=1)).max())


def check(
    checkpoint: MadeCheckpoint, tokens: int, kernel: Kernel | None = None, threads: int = 2, kv: str = "f16"
) -> None:
    """Compare all states and logits of a text."""
    model = RecordedModel(checkpoint, kernel or best(), threads, kv)
    text = np.random.default_rng(5).integers(0, checkpoint.config.spec.vocab, tokens)
    sequence = model.sequence(tokens)
    states = model.hidden_states(sequence, text)
    right = hidden_states(checkpoint, text, model.rounding(sequence))
    assert distance(states, right) <= CLOSE
    assert distance(model.head.logits(states), logits(checkpoint, right)) <= CLOSE
    model.close()


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("tokens", [1, 5, 16, 40])  # on both sides of where kernels change their method
def test_every_kernel(kernel: Kernel, tokens: int) -> None:
    check(MadeCheckpoint(small_spec(sub_norms=True, activation="relu2")), tokens, kernel)


SHAPES: dict[str, dict[str, int]] = {
    "head of 20": {"hidden": 100, "heads": 5, "kv_heads": 5, "head_dim": 20, "ffn": 77},
    "head of 32": {"hidden": 70, "heads": 6, "kv_heads": 2, "head_dim": 32, "ffn": 131, "layers": 3},
    "head of 100": {"hidden": 33, "heads": 3, "kv_heads": 1, "head_dim": 100, "ffn": 45, "layers": 1},
    "head of 2": {"hidden": 17, "heads": 9, "kv_heads": 3, "head_dim": 2, "ffn": 1},
    "eight to one": {"hidden": 64, "heads": 8, "kv_heads": 1, "head_dim": 8, "ffn": 97, "layers": 3},
    "one of all": {"hidden": 1, "heads": 1, "kv_heads": 1, "head_dim": 2, "ffn": 1, "layers": 1, "vocab": 2},
    "six to one": {"hidden": 250, "heads": 6, "kv_heads": 1, "head_dim": 16, "ffn": 300, "layers": 1},
}


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["ternary", "half"])
def test_odd_shapes(shape: str, threads: int, kind: str) -> None:
    check(MadeCheckpoint(small_spec(**SHAPES[shape]), kind), 19, threads=threads)


@pytest.mark.parametrize("shape", ["head of 20", "head of 32", "eight to one"])
@pytest.mark.parametrize("kind", ["ternary", "brain"])
def test_keys_and_values_of_int8(shape: str, kind: str) -> None:
    """With the same roundings; that these are to the nearest, the twin checks."""
    check(MadeCheckpoint(small_spec(**SHAPES[shape]), kind), 37, kv="int8")


def test_what_int8_of_keys_and_values_costs() -> None:
    """Each coordinate is off by at most half a step, 1/254 of the largest, and by a root of twelfth of one typically.

    A value's error is 1/(127 sqrt(12)) of its largest coordinate, some 2.5 times its root mean square here: 0.6 %. The
    scores move likewise. Through two layers that add up beside the tokens themselves: below 2 %.
    """
    checkpoint = MadeCheckpoint(small_spec(head_dim=64), "half")
    text = np.random.default_rng(6).integers(0, 300, 60)
    right = hidden_states(checkpoint, text)
    model = RecordedModel(checkpoint, best(), 2, "int8")
    off = distance(model.hidden_states(model.sequence(60), text), right)
    assert 1e-4 < off < 2e-2
    model.close()


@pytest.mark.parametrize("kind", ["rows", "blocks", "brain", "half"])
@pytest.mark.parametrize("activation", ["silu", "relu2"])
def test_kinds_of_weights(kind: str, activation: str) -> None:
    check(MadeCheckpoint(small_spec(activation=activation, qk_norm=True, tied_head=False), kind), 21)


MIXED: dict[str, dict[str, str]] = {
    "k apart": {"k": "half"},
    "all three apart": {"q": "half", "k": "brain", "v": "ternary"},
    "two of a kind around": {"q": "half", "v": "half"},
    "gate apart": {"gate": "half"},
    "up apart": {"up": "brain", "o": "half"},
    "down apart": {"down": "brain", "v": "rows"},
    "blocks among them": {"q": "blocks", "up": "blocks"},
}


@pytest.mark.parametrize("kinds", list(MIXED))
def test_mixed_kinds_in_a_layer(kinds: str) -> None:
    check(MadeCheckpoint(small_spec(sub_norms=True), MIXED[kinds], biases="q down"), 18, threads=3)


@pytest.mark.parametrize("kind", ["ternary", "half"])
@pytest.mark.parametrize("biases", ["q k v", "v", "o", "q k v o gate up down", "up"])
def test_biases(kind: str, biases: str) -> None:
    check(MadeCheckpoint(small_spec(hidden=50, ffn=81, heads=5, kv_heads=5, head_dim=10), kind, biases=biases), 9)


@pytest.mark.parametrize("kind", ["ternary", "half"])
@pytest.mark.parametrize("inner", [LINEARS, ("q", "k", "v"), ("k", "down"), ("o",), ("gate",)])
def test_norms_inside_of_linear_layers(kind: str, inner: tuple[str, ...]) -> None:
    spec = small_spec(hidden=40, ffn=90, sub_norms=True, heads=6, kv_heads=3, head_dim=12)
    check(MadeCheckpoint(spec, kind, inner_norms=inner), 17, threads=3)


ROPES = {
    "none": Rope(theta=500_000.0),
    "linear": Rope(theta=10_000.0, scaling="linear", factor=4.0),
    "llama3": Rope(theta=10_000.0, scaling="llama3", factor=8.0, original_context=64),
    "yarn": Rope(theta=10_000.0, scaling="yarn", factor=4.0, original_context=64, attention_factor=1.14),
    "yarn, other bounds": Rope(
        theta=500.0, scaling="yarn", factor=40.0, original_context=32, beta_fast=4.0, beta_slow=0.5
    ),
}


@pytest.mark.parametrize("rope", list(ROPES))
@pytest.mark.parametrize("kind", ["ternary", "half"])
def test_rotations(rope: str, kind: str) -> None:
    check(MadeCheckpoint(small_spec(head_dim=32), kind, rope=ROPES[rope]), 120)


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("kv", ["f16", "int8"])
def test_sliding_windows(window: int, kv: str) -> None:
    check(MadeCheckpoint(small_spec(layers=1), "half", window=window), 70, kv=kv)


def test_recording_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = MadeCheckpoint(small_spec(), {"k": "half"})
    model = RecordedModel(checkpoint, best(), 2)
    text = np.arange(50)
    recorded = model.hidden_states(model.sequence(50), text)
    monkeypatch.setattr(RecordedModel, "_once", Model._once)
    np.testing.assert_array_equal(model.hidden_states(model.sequence(50), text), recorded)
    model.close()
