"""Rotary position embedding: angles beside the slow twin's and transformers', rotation beside complex numbers."""

from typing import Any

import numpy as np
import pytest
import slow_transformer
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.compile import compiled
from bitsim.runtime.model import rotary
from bitsim.runtime.model.config import Rope

Float32 = np.ndarray[Any, np.dtype[np.float32]]


@compiled
def rotate(x: Float32, place: int, half: int, table: Float32, start: int) -> None:
    rotary.rotate(x, place, half, table, start)


@st.composite
def ropes(draw: st.DrawFn) -> Rope:
    low = draw(st.floats(0.1, 4))
    return Rope(
        theta=draw(st.sampled_from([2.0, 100.0, 1e4, 5e5, 1e7])),
        scaling=draw(st.sampled_from(["none", "linear", "llama3", "yarn"])),
        factor=draw(st.floats(1, 64)),
        original_context=draw(st.sampled_from([1, 32, 2048, 8192, 131072])),
        low_frequency=low,
        high_frequency=low + draw(st.floats(0.1, 8)),
        beta_fast=draw(st.floats(2, 64)),
        beta_slow=draw(st.floats(0.1, 2)),
        attention_factor=draw(st.floats(0.5, 2)),
    )


@given(ropes(), st.integers(1, 80))
def test_frequencies_are_the_twins(rope: Rope, pairs: int) -> None:
    found = rotary.frequencies(rope, 2 * pairs)
    np.testing.assert_allclose(found, slow_transformer.frequencies(rope, 2 * pairs), rtol=1e-9)


SCALINGS = [
    Rope(theta=10_000.0),
    Rope(theta=10_000.0, scaling="linear", factor=2.5),
    Rope(theta=500_000.0, scaling="llama3", factor=8.0, original_context=8192),
    Rope(theta=10_000.0, scaling="yarn", factor=4.0, original_context=2048, attention_factor=0.1 * np.log(4.0) + 1),
    Rope(theta=150_000.0, scaling="yarn", factor=32.0, original_context=4096, attention_factor=1.5, beta_fast=16.0),
]


@pytest.mark.parametrize("rope", SCALINGS, ids=lambda rope: rope.scaling)
@pytest.mark.parametrize("head", [20, 64, 128])
def test_tables_are_those_of_transformers(rope: Rope, head: int) -> None:
    """At 4,000 positions: transformers makes angles in float32, 4000 x 2^-24 off at most."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    settings = {
        "rope_type": "default" if rope.scaling == "none" else rope.scaling,
        "rope_theta": rope.theta,
        "factor": rope.factor,
        "original_max_position_embeddings": rope.original_context,
        "low_freq_factor": rope.low_frequency,
        "high_freq_factor": rope.high_frequency,
        "beta_fast": rope.beta_fast,
        "beta_slow": rope.beta_slow,
        "attention_factor": rope.attention_factor,
    }
    used = {
        "none": [],
        "linear": ["factor"],
        "llama3": ["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
        "yarn": ["factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"],
    }[rope.scaling]
    config = transformers.LlamaConfig(
        hidden_size=2 * head, num_attention_heads=2, head_dim=head, max_position_embeddings=8192,
        rope_parameters={name: settings[name] for name in ["rope_type", "rope_theta", *used]},
    )  # fmt: skip
    cosine, sine = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(4000)[None])
    found = rotary.tables(rope, head, 4000)
    assert found.dtype == np.float32
    for part, right in enumerate((cosine, sine)):
        np.testing.assert_allclose(found[:, part], right[0, :, : head // 2].numpy(), atol=5e-4)


@pytest.mark.parametrize("half", [1, 8, 10, 50])
def test_rotation_turns_pairs(half: int) -> None:
    random = np.random.default_rng(half)
    x, rope = random.normal(size=2 * half + 7).astype(np.float32), Rope(theta=100.0)
    table, before = rotary.tables(rope, 2 * half, 30), x.copy()
    rotate(x, 4, half, table.reshape(-1), 29 * 2 * half)
    pairs = before[4 : 4 + half] + 1j * before[4 + half : 4 + 2 * half].astype(np.float64)
    right = pairs * np.exp(29j * slow_transformer.frequencies(rope, 2 * half))
    np.testing.assert_allclose(x[4 : 4 + half], right.real, atol=1e-5)
    np.testing.assert_allclose(x[4 + half : 4 + 2 * half], right.imag, atol=1e-5)
    np.testing.assert_array_equal(x[:4], before[:4])
    np.testing.assert_array_equal(x[4 + 2 * half :], before[4 + 2 * half :])


def test_position_0_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=32).astype(np.float32)
    turned = x.copy()
    rotate(turned, 0, 16, rotary.tables(Rope(theta=1e4), 32, 1).reshape(-1), 0)
    np.testing.assert_array_equal(turned, x)


NUMBERS = ("theta", "factor", "low_frequency", "high_frequency", "beta_fast", "beta_slow", "attention_factor")


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e13, "1", None, True])
def test_numbers_without_sense_are_refused(field: str, value: Any) -> None:
    message = refusal(lambda: Rope(**{"theta": 1e4, field: value}))
    assert message == f"rope: {field}: expected a number above 0 and at most 1e+12, got '{value}'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling": "dynamic"}, "rope: scaling: expected one of none, linear, llama3, yarn, got 'dynamic'"),
        ({"scaling": "yarn"}, "rope: original_context: expected a whole number above 0 for yarn, got '0'"),
        (
            {"scaling": "llama3", "original_context": 2.5},
            "rope: original_context: expected a whole number above 0 for llama3, got '2.5'",
        ),
        (
            {"scaling": "yarn", "original_context": 8, "theta": 1.0},
            "rope: theta: expected more than 1 for yarn, got '1.0'",
        ),
        (
            {"scaling": "llama3", "original_context": 8, "low_frequency": 4.0},
            "rope: high_frequency: expected more than low_frequency ('4.0'), got '4.0'",
        ),
    ],
)
def test_scalings_without_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    assert refusal(lambda: Rope(**({"theta": 1e4} | changes))) == message
