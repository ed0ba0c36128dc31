"""ModelSpec counts parameters as published, and refuses what is no Transformer."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from refusals import refusal
from shapes import tiny_specs

from bitsim.energy_tables import cite, model_rows
from bitsim.simulator import ModelSpec
from bitsim.simulator.model_spec import LIMITS

ROWS = model_rows()
LLAMA = ModelSpec.from_row(ROWS["llama-2-7b"])
COUNTED = [name for name, row in ROWS.items() if row.parameters is not None]


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_printed(name: str) -> None:
    assert ModelSpec.from_row(ROWS[name]).parameters == ROWS[name].parameters


@pytest.mark.parametrize("name", [name for name in ROWS if name not in COUNTED])
def test_parameters_of_the_others_are_within_15_percent_of_their_name(name: str) -> None:
    text = name.rsplit("-", maxsplit=1)[-1]
    nominal = float(text[:-1]) * {"M": 1e6, "B": 1e9}[text[-1]]
    assert ModelSpec.from_row(ROWS[name]).parameters == pytest.approx(nominal, rel=0.15)


def test_llama_2_7b_counted_by_hand() -> None:
    attention, ffn = 4 * 4096 * 4096, 3 * 4096 * 11008
    assert LLAMA.parameters_linear == 32 * (attention + ffn)
    assert LLAMA.parameters_embedding == 2 * 32000 * 4096
    assert LLAMA.parameters_other == 32 * 2 * 4096 + 4096
    assert LLAMA.parameters_active == 32 * (attention + ffn) + 32000 * 4096


def test_a_mixture_of_experts_counted_by_hand() -> None:
    spec = ModelSpec.from_row(ROWS["mixtral-8x7b"])
    attention, expert = 4096 * (4096 + 2 * 1024) + 4096 * 4096, 3 * 4096 * 14336
    assert spec.parameters_linear == 32 * (attention + 8 * expert)
    assert spec.parameters_active == 32 * (attention + 2 * expert) + 32000 * 4096
    assert spec.parameters_other == 32 * (2 * 4096 + 8 * 4096) + 4096


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"tied_head": True}, -32000 * 4096),
        ({"gated_ffn": False}, -32 * 4096 * 11008),
        ({"sub_norms": True}, 32 * (4096 + 11008)),
        ({"post_norms": True}, 32 * 2 * 4096),
        ({"qk_norm": True}, 32 * 2 * 128),
        ({"qkv_bias": True}, 32 * 3 * 4096),
        ({"output_bias": True}, 32 * 4096),
        ({"kv_heads": 8}, -32 * 2 * 4096 * 24 * 128),
    ],
)
def test_each_option_adds_its_weights(change: dict[str, Any], more: int) -> None:
    assert replace(LLAMA, **change).parameters - LLAMA.parameters == more


@given(tiny_specs())
def test_parameters_are_the_sum_of_their_parts(spec: ModelSpec) -> None:
    assert spec.parameters == spec.parameters_linear + spec.parameters_embedding + spec.parameters_other
    assert spec.parameters_linear == spec.layers * sum(m.inputs * m.outputs * m.copies for m in spec.linears())
    assert spec.parameters_active <= spec.parameters_linear + spec.vocab * spec.hidden


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.parametrize("wrong", [0, -1, "limit"])
def test_a_field_beyond_reason_is_refused_by_name(field: str, wrong: int | str) -> None:
    value = LIMITS[field] + 1 if wrong == "limit" else wrong
    change: dict[str, Any] = {field: value}
    message = refusal(lambda: replace(LLAMA, **change))
    assert message == f"llama-2-7b: {field}: expected a whole number from 1 to {LIMITS[field]:,}, got {value}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 5}, "llama-2-7b: kv_heads: expected a divisor of heads (32), got 5"),
        ({"experts": 2, "experts_per_token": 3}, "llama-2-7b: experts_per_token: expected at most experts (2), got 3"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(change: dict[str, Any], message: str) -> None:
    assert refusal(lambda: replace(LLAMA, **change)) == message


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf")])
def test_a_field_that_is_no_whole_number_is_refused(value: Any) -> None:
    assert "layers: expected a whole number" in (refusal(lambda: replace(LLAMA, layers=value)) or "")


def test_a_preset_cites_its_row() -> None:
    assert LLAMA.sources == ROWS["llama-2-7b"].provenance.sources
    assert cite(LLAMA.sources)
