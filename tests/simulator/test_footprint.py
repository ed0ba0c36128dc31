"""Main memory: bytes by part, and what fits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import tiny_specs

from bitsim.simulator import SCHEMES, ModelSpec, Scheme, get_scheme, resolve_model
from bitsim.simulator.footprint import (
    activation_bytes,
    embedding_and_head_bytes,
    footprint,
    kv_bytes_per_token,
    largest_batch,
    largest_context,
    weight_bytes,
)

FP16, TERNARY = get_scheme("fp16"), get_scheme("b1.58")
LLAMA, B2B4T = resolve_model("llama-2-7b"), resolve_model("bitnet-b1.58-2B-4T")
ANY_SCHEME = st.sampled_from(list(SCHEMES.values()))


def test_llama_2_7b_in_fp16_by_hand() -> None:
    parts = footprint(LLAMA, FP16, batch=2, prompt_tokens=100, context=300)
    assert parts.weights + parts.embedding_and_head == 2 * LLAMA.parameters
    assert parts.embedding_and_head == 2 * 2 * 32000 * 4096
    assert parts.kv_cache == 2 * 300 * 2 * 32 * 4096 * 2
    assert parts.activations == (200 * (4096 + 2 * 11008) + 2 * 32000) * 2
    assert parts.runtime == 0.0
    assert parts.total == parts.weights + parts.embedding_and_head + parts.kv_cache + parts.activations


def test_a_tied_head_is_stored_once_and_ternary_weights_take_two_bits() -> None:
    assert embedding_and_head_bytes(B2B4T, TERNARY) == 128256 * 2560 * 2
    assert weight_bytes(B2B4T, TERNARY) == B2B4T.parameters_linear / 4 + B2B4T.parameters_other * 2
    assert weight_bytes(B2B4T, TERNARY) == pytest.approx(0.52e9, rel=0.01)


def test_grouped_keys_shrink_the_cache() -> None:
    grouped = replace(LLAMA, kv_heads=8)
    assert kv_bytes_per_token(LLAMA, FP16) == 4 * kv_bytes_per_token(grouped, FP16) == 524288


def test_fewer_kv_bits_shrink_the_cache() -> None:
    assert kv_bytes_per_token(LLAMA, get_scheme("fp16", kv_bits=4)) == kv_bytes_per_token(LLAMA, FP16) / 4


def test_long_prompts_are_read_in_pieces() -> None:
    assert activation_bytes(LLAMA, FP16, 1, 8192) == activation_bytes(LLAMA, FP16, 1, 10**6)
    assert activation_bytes(LLAMA, FP16, 1, 8191) < activation_bytes(LLAMA, FP16, 1, 8192)


def test_a_workspace_serves_cache_and_activations_before_it_costs() -> None:
    bare = footprint(LLAMA, FP16, 1, 512, 640)
    used = bare.kv_cache + bare.activations
    assert footprint(LLAMA, FP16, 1, 512, 640, workspace=used).total == bare.total
    assert footprint(LLAMA, FP16, 1, 512, 640, workspace=used + 1e9).total == pytest.approx(bare.total + 1e9)


@given(tiny_specs(), ANY_SCHEME, st.integers(0, 100), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_largest_context_fits_and_one_token_more_does_not(
    spec: ModelSpec, scheme: Scheme, prompt: int, capacity: float, workspace: float
) -> None:

    best = largest_context(spec, scheme, capacity, prompt, workspace)

    def needed(context: int) -> float:
        return footprint(spec, scheme, 1, prompt, context, workspace).total

    assert best == 0 or needed(best) <= capacity * (1 + 1e-12)
    assert needed(best + 1) > capacity * (1 - 1e-12)


@given(tiny_specs(), ANY_SCHEME, st.integers(0, 50), st.integers(1, 50), st.floats(0, 1e7))
def test_the_largest_batch_fits_and_one_sequence_more_does_not(
    spec: ModelSpec, scheme: Scheme, prompt: int, new: int, capacity: float
) -> None:
    context = prompt + new
    best = largest_batch(spec, scheme, capacity, prompt, context)
    assert best == 0 or footprint(spec, scheme, best, prompt, context).total <= capacity
    assert footprint(spec, scheme, best + 1, prompt, context).total > capacity


def test_what_does_not_fit_at_all_has_no_context_and_no_batch() -> None:
    assert largest_context(LLAMA, FP16, 1e9) == 0
    assert largest_batch(LLAMA, FP16, 1e9, 1, 2) == 0


@given(st.integers(1, 64), st.integers(0, 4096), st.integers(1, 4096), st.integers(1, 64), st.integers(0, 4096))
def test_more_work_never_takes_less_memory(batch: int, prompt: int, new: int, more: int, longer: int) -> None:
    base = footprint(LLAMA, TERNARY, batch, prompt, prompt + new).total
    assert footprint(LLAMA, TERNARY, batch + more, prompt, prompt + new).total > base
    assert footprint(LLAMA, TERNARY, batch, prompt + longer, prompt + longer + new).total >= base
    assert footprint(LLAMA, TERNARY, batch, prompt, prompt + new + longer).total >= base
