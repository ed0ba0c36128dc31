import pytest

from bitsim.energy_tables import BitsimError, loss_laws
from bitsim.simulator import estimate, spec_for_size
from bitsim.simulator.loss_laws import loss_nats
from bitsim.simulator.scheme_law import expected_loss, scheme_laws

SEVEN = spec_for_size("7B")


def test_the_twins_losses_compare() -> None:
    """What the ternary model loses is what TriLM's and FloatLM's laws say, carried over to one law of tokens."""
    full, ternary = (expected_loss(scheme, SEVEN, 2e12) for scheme in ("fp16", "b1.58"))
    assert full is not None
    assert ternary is not None
    law = loss_laws()["chinchilla-besiroglu"]
    assert full.value == loss_nats(law, SEVEN.parameters, 2e12)
    assert full.low < full.value < ternary.value < ternary.high
    equal = scheme_laws(("b1.58",))["b1.58"].equal_size(SEVEN.parameters)
    assert ternary.value == loss_nats(law, equal, 2e12)
    assert loss_nats(loss_laws()["floatlm"], equal, 3e11) == pytest.approx(
        loss_nats(loss_laws()["trilm"], SEVEN.parameters, 3e11)
    )
    assert ternary.law == "chinchilla-besiroglu by trilm/floatlm"


def test_sixteen_bits_train_alike() -> None:
    assert (
        expected_loss("bf16", SEVEN, 1e12) == expected_loss("fp32", SEVEN, 1e12) == expected_loss("fp16", SEVEN, 1e12)
    )


def test_other_schemes_follow_their_own_law_or_none() -> None:
    binary = expected_loss("b1", SEVEN, 1e12)
    assert binary is not None
    assert binary.law == "bitnet-b1"
    assert expected_loss("w4a16", SEVEN, 1e12) is None


def test_kaplan_counts_parameters_without_embedding() -> None:
    found = expected_loss("fp16", SEVEN, 1e12, {"fp16": "kaplan2020"})
    assert found is not None
    assert found.value == loss_nats(loss_laws()["kaplan2020"], SEVEN.parameters_linear, 1e12)


def test_a_law_of_sizes_alone_says_nothing_of_tokens() -> None:
    with pytest.raises(BitsimError, match=r"^loss law trilm: expected a law that knows tokens"):
        expected_loss("b1.58", SEVEN, 1e12, {"b1.58": "trilm"})


def test_estimate_has_the_loss() -> None:
    assert estimate("7B", "b1.58", tokens=2e12).loss == expected_loss("b1.58", SEVEN, 2e12)
    given = estimate("7B", "fp16", tokens=2e12, laws={"fp16": "chinchilla"}).loss
    assert given is not None
    assert given.law == "chinchilla"
    assert estimate("7B", "fp16").loss is None
