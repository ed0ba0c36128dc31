"""Published loss laws, evaluated."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import loss_laws
from bitsim.simulator import SCHEMES, estimate
from bitsim.simulator.loss_laws import (
    equal_parameters,
    law_for,
    loss_nats,
    nats,
    parameters_for_loss,
    predict_loss,
    tokens_for_loss,
)

LAWS = loss_laws()


@pytest.mark.parametrize(
    ("law", "parameters", "tokens", "loss"),
    [
        ("chinchilla", 70e9, 1.4e12, 1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28),
        ("trilm", 3.99e9, 3e11, 1.76 + 185 / 3.99e9**0.26),
        ("kaplan2020", 1e9, 1e10, ((6.4e13 / 1e9) ** (0.076 / 0.103) + 1.8e13 / 1e10) ** 0.103),
        # wang2023bitnet, as drawn: 2062 N^-0.3896 + 3.785 bits per token
        ("bitnet-b1", 6.7e9, 1e10, (2062 * 6.7e9**-0.3896 + 3.785) * math.log(2)),
        # vaidhya2025spectra, as printed: 2.19 + 4.73 / N^0.32 + 5.18 / D^0.81, in millions and billions
        ("spectra-1.1", 1.1e9, 3e11, 2.19 + 4.73 / 1100**0.32 + 5.18 / 300**0.81),
    ],
)
def test_laws_by_hand(law: str, parameters: float, tokens: float, loss: float) -> None:
    assert loss_nats(LAWS[law], parameters, tokens) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("name", LAWS)
@given(parameters=st.floats(1e6, 1e13), tokens=st.floats(1e8, 1e15), factor=st.floats(1, 1e3))
def test_more_parameters_or_tokens_never_raise_the_loss(
    name: str, parameters: float, tokens: float, factor: float
) -> None:
    loss = loss_nats(LAWS[name], parameters, tokens)
    assert 0 < loss_nats(LAWS[name], parameters * factor, tokens) <= loss
    assert 0 < loss_nats(LAWS[name], parameters, tokens * factor) <= loss


@pytest.mark.parametrize("name", LAWS)
@given(parameters=st.floats(1e6, 1e13), tokens=st.floats(1e9, 1e14))
def test_sizes_and_tokens_of_a_loss_turn_the_law_round(name: str, parameters: float, tokens: float) -> None:
    law = LAWS[name]
    loss = loss_nats(law, parameters, tokens)
    assert loss_nats(law, parameters_for_loss(law, loss, tokens), tokens) == pytest.approx(loss, rel=1e-9)
    if law.form == "power":
        assert "expected b and beta" in (refusal(lambda: tokens_for_loss(law, loss, parameters)) or "")
    else:
        assert loss_nats(law, parameters, tokens_for_loss(law, loss, parameters)) == pytest.approx(loss, rel=1e-9)


def test_a_loss_below_the_floor_takes_endless_size_or_data() -> None:
    for name in ("chinchilla", "trilm"):
        assert parameters_for_loss(LAWS[name], 1.5, 1e12) == math.inf
    assert tokens_for_loss(LAWS["chinchilla"], 1.9, 1e9) == math.inf
    floor = (6.4e13 / 1e9) ** 0.076
    assert tokens_for_loss(LAWS["kaplan2020"], floor * 0.999, 1e9) == math.inf
    assert parameters_for_loss(LAWS["kaplan2020"], (1.8e13 / 1e10) ** 0.103 * 0.999, 1e10) == math.inf


def test_kaplans_joint_law_adds_inside_the_power() -> None:
    """A widely copied summary prints a product and a sum of separate powers; the limits tell them apart."""
    law = LAWS["kaplan2020"]
    assert loss_nats(law, 1e9, 1e30) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)
    assert loss_nats(law, 1e40, 1e10) == pytest.approx((1.8e13 / 1e10) ** 0.103, rel=1e-6)


@given(parameters=st.floats(1e8, 1e10))
def test_the_ternary_model_that_equals_an_fp16_model_is_larger(parameters: float) -> None:
    equal = equal_parameters(LAWS["trilm"], LAWS["floatlm"], parameters, 3e11)
    assert equal > parameters
    assert loss_nats(LAWS["trilm"], equal, 3e11) == pytest.approx(loss_nats(LAWS["floatlm"], parameters, 3e11))


def test_no_ternary_model_equals_an_fp16_model_below_its_floor() -> None:
    assert equal_parameters(LAWS["trilm"], LAWS["floatlm"], 1e13, 3e11) == math.inf


def test_bits_are_turned_into_nats() -> None:
    assert nats(1.0) == math.log(2.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_size_or_no_tokens_is_refused(bad: float) -> None:
    law = LAWS["chinchilla"]
    assert (refusal(lambda: loss_nats(law, bad, 1e9)) or "").startswith("parameters: expected a finite number above 0")
    assert (refusal(lambda: loss_nats(law, 1e9, bad)) or "").startswith("tokens: expected a finite number above 0")
    assert refusal(lambda: parameters_for_loss(law, bad, 1e9))
    assert refusal(lambda: tokens_for_loss(law, 2.0, bad))


@pytest.mark.parametrize("name", SCHEMES)
def test_a_schemes_law_is_fitted_on_its_own_kind_of_model(name: str) -> None:
    law = law_for(name)
    if law is not None:
        assert law.scheme == ("fp16" if name in ("fp32", "fp16", "bf16") else name)


@pytest.mark.parametrize("name", ["w8a8", "w4a16", "w2a16", "w4a4", "billm", "xnor"])
def test_schemes_applied_after_training_have_no_law(name: str) -> None:
    assert law_for(name) is None
    assert predict_loss(law_for(name), 1e9, 1e12) is None


def test_a_size_outside_the_fitted_range_is_called_extrapolated() -> None:
    inside, outside = predict_loss(LAWS["trilm"], 1e9, 3e11), predict_loss(LAWS["trilm"], 70e9, 3e11)
    assert inside is not None
    assert outside is not None
    assert not [note for note in inside.notes if "extrapolated" in note]
    assert "fitted from 99.7M to 3.99B parameters: extrapolated" in outside.notes[0]
    assert inside.low < inside.value < inside.high


def test_a_law_of_one_amount_of_data_says_so() -> None:
    loss = predict_loss(LAWS["trilm"], 1e9, 1e12)
    assert loss is not None
    assert "loss law trilm holds for 300B training tokens only" in loss.notes


@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
@pytest.mark.parametrize("tokens", [0, -5.0, math.nan, math.inf])
def test_training_tokens_that_are_no_count_are_refused(scheme: str, tokens: float) -> None:
    assert refusal(lambda: estimate("7B", scheme, tokens=tokens))
