"""Sardana et al. 2024 (arXiv:2401.00448): Chinchilla's law with the compute of inference counted."""

import pytest

from bitsim.energy_tables import loss_laws
from bitsim.simulator.compute_optimal import optimal_tokens
from bitsim.simulator.plan import Costs, cheapest_run
from bitsim.simulator.scheme_law import SchemeLaw

LAW = loss_laws()["chinchilla"]._replace(alpha=0.336, beta=0.283)  # the digits of the exponents that the paper takes


def test_figure_1_a_7b_instead_of_a_13b_for_2t_served_tokens() -> None:
    """It saves 17 % or 1.7e22 FLOPs."""
    law = SchemeLaw("fp16", LAW)
    costs = Costs(1.0, lambda parameters: 2.0 * parameters, served=2e12)
    tokens = optimal_tokens(LAW, 13e9)
    as_if_none = costs.training(13e9, tokens) + costs.serving(13e9)
    found = cheapest_run(law, costs, law.loss(13e9, tokens))
    assert found is not None
    assert found.parameters == pytest.approx(7e9, rel=0.01)
    assert as_if_none - found.total == pytest.approx(1.7e22, rel=0.01)
    assert round(1 - found.total / as_if_none, 2) == 0.17
