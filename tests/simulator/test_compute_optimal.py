"""The closed forms of compute-optimal training against a search, and what follows from them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import LossLaw, loss_laws
from bitsim.simulator.compute_optimal import (
    cheapest_split,
    optimal_split,
    optimal_tokens,
    overtraining,
    smaller_for_same_loss,
)
from bitsim.simulator.loss_laws import loss_nats

LAWS = [law for law in loss_laws().values() if law.form == "chinchilla"]
LAW = loss_laws()["chinchilla-besiroglu"]


def searched(law: LossLaw, flops: float) -> float:
    """The best size by halving an interval of log sizes."""
    low, high = math.log(1e3), math.log(1e18)
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        losses = [loss_nats(law, math.exp(at), flops / 6 / math.exp(at)) for at in (left, right)]
        low, high = (low, right) if losses[0] < losses[1] else (left, high)
    return math.exp(low)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.law)
@given(flops=st.floats(1e18, 1e27))
def test_the_best_split_is_where_a_search_finds_it(law: LossLaw, flops: float) -> None:
    split = optimal_split(law, flops)
    assert split.parameters == pytest.approx(searched(law, flops), rel=1e-3)  # the loss is flat there
    assert 6 * split.parameters * split.tokens == pytest.approx(flops)
    assert split.loss == loss_nats(law, split.parameters, split.tokens)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.law)
@given(flops=st.floats(1e18, 1e27))
def test_the_ways_to_ask_for_the_optimum_agree(law: LossLaw, flops: float) -> None:
    split = optimal_split(law, flops)
    assert optimal_tokens(law, split.parameters) == pytest.approx(split.tokens, rel=1e-9)
    cheapest = cheapest_split(law, split.loss)
    assert cheapest.flops == pytest.approx(flops, rel=1e-6)
    assert cheapest.parameters == pytest.approx(split.parameters, rel=1e-6)


@given(parameters=st.floats(1e8, 1e12), factor=st.floats(0.1, 1e3))
def test_training_off_the_optimum_costs(parameters: float, factor: float) -> None:
    tokens = optimal_tokens(LAW, parameters) * factor
    found = overtraining(LAW, parameters, tokens)
    assert found.factor == pytest.approx(factor)
    assert found.same_flops.flops == pytest.approx(found.run.flops)
    assert found.same_loss.loss == pytest.approx(found.run.loss)
    assert found.same_flops.loss <= found.run.loss * (1 + 1e-12)
    assert found.extra_flops >= 1 - 1e-9
    if factor > 1.01:
        assert 0 < found.parameters_saved < 1


@given(flops=st.floats(1e20, 1e26), smaller=st.floats(0.5, 1.0))
def test_a_smaller_model_reaches_the_same_loss_with_more_tokens(flops: float, smaller: float) -> None:
    best = optimal_split(LAW, flops)
    found = smaller_for_same_loss(LAW, best, best.parameters * smaller)
    assert found.loss == pytest.approx(best.loss)
    assert found.tokens >= best.tokens * (1 - 1e-9)
    assert found.flops >= best.flops * (1 - 1e-9)


def test_what_cannot_be_reached_is_refused() -> None:
    best = optimal_split(LAW, 1e24)
    message = refusal(lambda: smaller_for_same_loss(LAW, best, best.parameters / 100))
    assert "never reach a loss of" in (message or "")
    assert "expected a loss above 1.817 nats" in (refusal(lambda: cheapest_split(LAW, 1.8)) or "")


@pytest.mark.parametrize("name", ["trilm", "kaplan2020"])
def test_laws_of_other_forms_are_refused(name: str) -> None:
    law = loss_laws()[name]
    for call in (optimal_split, optimal_tokens, cheapest_split):
        assert "form chinchilla" in (refusal(lambda call=call: call(law, 3.0)) or "")  # type: ignore[misc]
    assert "form chinchilla" in (refusal(lambda: overtraining(law, 1e9, 1e9)) or "")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_budget_is_refused(bad: float) -> None:
    assert (refusal(lambda: optimal_split(LAW, bad)) or "").startswith("flops: expected a finite number above 0")
    assert refusal(lambda: optimal_tokens(LAW, bad))
    assert refusal(lambda: overtraining(LAW, bad, 1e9))
    assert refusal(lambda: overtraining(LAW, 1e9, bad))
