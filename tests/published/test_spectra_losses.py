"""TriLM and FloatLM (arXiv:2407.12327) and BitNet (arXiv:2310.11453): losses as printed and as drawn."""

import math

import pytest

from bitsim.energy_tables import loss_laws
from bitsim.simulator.loss_laws import loss_nats, nats

LAWS = loss_laws()


@pytest.mark.parametrize(
    ("parameters", "ternary", "full"),
    [
        (9.974e7, 3.300, 2.993),
        (1.9e8, 3.062, 2.789),
        (3.924e8, 2.838, 2.597),
        (5.692e8, 2.739, 2.511),
        (8.34e8, 2.646, 2.432),
        (1.149e9, 2.576, 2.371),
        (1.515e9, 2.519, 2.322),
        (2.461e9, 2.429, 2.245),
        (3.989e9, 2.350, 2.177),
    ],
)
def test_equation_1_at_the_sizes_of_table_3(parameters: float, ternary: float, full: float) -> None:
    assert loss_nats(LAWS["trilm"], parameters, 3e11) == pytest.approx(ternary, abs=6e-4)
    assert loss_nats(LAWS["floatlm"], parameters, 3e11) == pytest.approx(full, abs=6e-4)


@pytest.mark.parametrize(
    ("percent", "parameters"), [(6, 329.92e9), (7, 15.65e9), (8, 2.14e9), (9, 0.44e9), (10, 0.11e9)]
)
def test_figure_10_how_near_the_ternary_loss_comes(percent: float, parameters: float) -> None:
    ratio = loss_nats(LAWS["trilm"], parameters, 3e11) / loss_nats(LAWS["floatlm"], parameters, 3e11)
    assert ratio == pytest.approx(1 + percent / 100, abs=0.004)  # the coefficients have three digits


@pytest.mark.parametrize(
    ("law", "parameters", "bits"),
    [
        ("bitnet-b1", 1.3e9, 4.346),
        ("bitnet-b1", 2.7e9, 4.227),
        ("bitnet-b1", 6.7e9, 4.093),
        ("bitnet-fp16", 125e6, 4.724),
        ("bitnet-fp16", 350e6, 4.364),
        ("bitnet-fp16", 760e6, 4.21),
        ("bitnet-fp16", 1.3e9, 4.147),
        ("bitnet-fp16", 2.7e9, 4.019),
        ("bitnet-fp16", 6.7e9, 3.925),
    ],
)
def test_bitnet_figure_3_is_drawn_in_bits(law: str, parameters: float, bits: float) -> None:
    assert loss_nats(LAWS[law], parameters, 1.024e10) == pytest.approx(nats(bits), abs=0.03)


@pytest.mark.parametrize(("perplexity", "bits"), [(15.19, 3.925), (17.07, 4.093)])
def test_bitnet_table_3_perplexities_show_that_they_are_bits(perplexity: float, bits: float) -> None:
    assert nats(bits) == pytest.approx(math.log(perplexity), abs=5e-4)
