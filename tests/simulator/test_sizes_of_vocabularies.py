"""spec_for_vocabulary: near the size asked for with just this vocabulary, and never smaller for a larger size."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.simulator import ModelSpec, spec_for_vocabulary
from bitsim.simulator.sizes import MAX_PARAMETERS

VOCABULARIES = st.integers(256, 200_000)


def measures(spec: ModelSpec) -> dict[str, int]:
    return {
        "parameters": spec.parameters,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "linear weights": spec.parameters_linear,
    }


def grain(hidden: int) -> int:
    """Columns from one hidden width to the next, at its widest."""
    return 16 if hidden < 112 else 32 if hidden < 480 else 64 if hidden < 1984 else 128


def smallest(vocab: int, tied: bool) -> int:
    """Parameters from which on all sizes can be asked for: between widths of 64 and 80 there is a gap."""
    return max(300_000, int(1.15 * (vocab * 64 * (1 if tied else 2) + 250_000)))


@given(st.floats(0.0, 9.0), VOCABULARIES, st.booleans())
@example(0.0, 1024, True)
@example(0.0, 256, False)
def test_a_size_is_met_within_three_percent_and_half_a_step(exponent: float, vocab: int, tied: bool) -> None:
    size = min(smallest(vocab, tied) * 10.0**exponent, MAX_PARAMETERS)
    spec = spec_for_vocabulary(size, vocab, tied=tied)
    assert (spec.vocab, spec.tied_head) == (vocab, tied)
    half_a_step = grain(spec.hidden) * vocab * (1 if tied else 2) / 2
    assert abs(spec.parameters - size) <= 0.03 * size + half_a_step


@given(st.floats(0.0, 9.0), st.floats(1.0, 1.2) | st.floats(1.0, 1e6), VOCABULARIES, st.booleans())
def test_a_larger_size_is_never_smaller_in_anything(exponent: float, factor: float, vocab: int, tied: bool) -> None:
    size = smallest(vocab, tied) * 10.0**exponent
    small, large = (
        measures(spec_for_vocabulary(min(each, MAX_PARAMETERS), vocab, tied=tied)) for each in (size, size * factor)
    )
    assert {name: (small[name], large[name]) for name in small if large[name] < small[name]} == {}


@pytest.mark.parametrize("vocab", [512, 4096, 32000])
def test_a_fine_grid_of_sizes_only_grows(vocab: int) -> None:
    first = smallest(vocab, tied=True)
    found = [measures(spec_for_vocabulary(first * 1.01**step, vocab)) for step in range(1500)]
    assert [(name, a[name], b[name]) for a, b in pairwise(found) for name in a if b[name] < a[name]] == []


@given(st.floats(0.0, 9.0), VOCABULARIES)
def test_widths_suit_training(exponent: float, vocab: int) -> None:
    spec = spec_for_vocabulary(min(smallest(vocab, tied=True) * 10.0**exponent, MAX_PARAMETERS), vocab)
    assert spec.heads * spec.head_dim == spec.hidden
    assert spec.kv_heads == spec.heads
    assert spec.head_dim in (16, 32, 48, 64, 128)
    assert spec.ffn % 16 == 0
    assert spec.hidden <= spec.ffn <= 4.1 * spec.hidden


@pytest.mark.parametrize(
    ("size", "vocab", "layers", "hidden"),
    [("1M", 2048, 5, 112), ("1M", 4096, 5, 96), ("25M", 8192, 8, 480), ("50M", 32000, 9, 576)],
)
def test_sizes_of_the_study(size: str, vocab: int, layers: int, hidden: int) -> None:
    spec = spec_for_vocabulary(size, vocab)
    assert (spec.layers, spec.hidden) == (layers, hidden)
    assert spec.parameters == pytest.approx(float(size[:-1]) * 1e6, rel=0.01)


def test_a_vocabulary_that_leaves_no_room_is_refused_with_the_smallest_size() -> None:
    assert refusal(lambda: spec_for_vocabulary("500K", 32000)) == (
        "size: with a vocabulary of 32,000 tokens the smallest possible is 1.05M parameters, got 500K"
    )


def test_a_size_between_two_widths_is_refused_with_the_nearest() -> None:
    assert refusal(lambda: spec_for_vocabulary("2M", 32000)) == (
        "size: with a vocabulary of 32,000 tokens the nearest possible are 1.71M and 2.22M parameters, got 2M"
    )


@pytest.mark.parametrize("size", ["99999", "1001T", "seven", 0.0, float("nan"), float("inf")])
def test_what_is_out_of_range_is_refused(size: str | float) -> None:
    assert (refusal(lambda: spec_for_vocabulary(size, 1000)) or "").startswith("size: expected ")


@pytest.mark.parametrize("vocab", [0, -1, 10**9])
def test_an_absurd_vocabulary_is_refused(vocab: int) -> None:
    assert "vocab: expected" in (refusal(lambda: spec_for_vocabulary("10T", vocab)) or "")
