"""spec_for_size: close to the size asked for, and never smaller in any way for a larger size."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import cite
from bitsim.simulator import ModelSpec, spec_for_size
from bitsim.simulator.sizes import MAX_PARAMETERS, MIN_PARAMETERS

EXPONENTS = st.floats(5.0, 15.0)
SIZES = EXPONENTS.map(lambda exponent: min(max(10.0**exponent, MIN_PARAMETERS), MAX_PARAMETERS))


def measures(spec: ModelSpec) -> dict[str, int]:
    return {
        "parameters": spec.parameters,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "heads": spec.heads,
        "linear weights": spec.parameters_linear,
        "vocab x hidden": spec.vocab * spec.hidden,
    }


@given(SIZES)
@example(MIN_PARAMETERS)
@example(MAX_PARAMETERS)
def test_a_size_is_met_within_one_percent(size: float) -> None:
    assert spec_for_size(size).parameters == pytest.approx(size, rel=0.01)


@given(SIZES, st.floats(1.0, 1.2) | st.floats(1.0, 1e10))
def test_a_larger_size_is_never_smaller_in_anything(size: float, factor: float) -> None:
    small, large = measures(spec_for_size(size)), measures(spec_for_size(min(size * factor, MAX_PARAMETERS)))
    assert {name: (small[name], large[name]) for name in small if large[name] < small[name]} == {}


def test_a_fine_grid_of_sizes_only_grows() -> None:
    found = [measures(spec_for_size(10 ** (5 + step / 400))) for step in range(4001)]
    falls = [(name, a[name], b[name]) for a, b in pairwise(found) for name in a if b[name] < a[name]]
    assert falls == []


@given(SIZES)
def test_heads_fill_the_hidden_width_and_the_ffn_is_wider(size: float) -> None:
    spec = spec_for_size(size)
    assert spec.heads * spec.head_dim == spec.hidden
    assert spec.hidden < spec.ffn <= 4.1 * spec.hidden


@pytest.mark.parametrize(
    ("size", "layers", "hidden"), [("778M", 24, 1536), ("7B", 33, 4224), ("13B", 40, 5120), ("65B", 80, 8192)]
)
def test_sizes_of_published_models_get_nearly_their_shape(size: str, layers: int, hidden: int) -> None:
    spec = spec_for_size(size)
    assert spec.layers == pytest.approx(layers, abs=1)
    assert spec.hidden == pytest.approx(hidden, rel=0.04)


def test_a_size_may_be_text_or_number() -> None:
    assert spec_for_size("7B") == spec_for_size(7e9)


@pytest.mark.parametrize("size", ["99999", "1001T", "0", "-7B", "seven", 0.0, -1.0, 1e16, float("nan"), float("inf")])
def test_what_is_out_of_range_is_refused(size: str | float) -> None:
    assert (refusal(lambda: spec_for_size(size)) or "").startswith("size: expected ")


def test_the_shapes_behind_the_rule_are_cited() -> None:
    assert len(cite(spec_for_size("7B").sources)) == 3
