"""Kaplan et al. 2020 (arXiv:2001.08361): what the paper derives from its constants comes out of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import law_constants, loss_laws
from bitsim.simulator import kaplan
from bitsim.simulator.loss_laws import loss_nats

PF_DAYS = st.floats(1e-6, 1e6).map(lambda days: days * kaplan.PF_DAY)


def test_doubling_the_size_lowers_the_loss_to_0_95() -> None:
    """Section 1.2."""
    assert round(kaplan.loss_of_size(2e9) / kaplan.loss_of_size(1e9), 2) == 0.95


def test_equations_b7_and_6_5() -> None:
    """B.7 prints 0.052; 6.4 prints 0.054, from which 6.5 has N ~ C^0.71, near the 0.73 that was fitted."""
    assert kaplan.compute_alpha() == pytest.approx(0.0525, abs=1e-4)
    assert kaplan.compute_alpha() / 0.077 == pytest.approx(0.71, abs=0.04)


def test_equation_b5_train_to_a_tenth_above_convergence() -> None:
    best = kaplan.optimum(kaplan.PF_DAY)
    converged = kaplan.loss_of_steps(best.parameters, 1e30)
    assert best.loss / converged == pytest.approx(1 + 0.077 / 0.76, rel=1e-6)
    assert best.loss / converged == pytest.approx(1.1, abs=0.005)


@given(PF_DAYS)
def test_the_frontier_is_where_a_search_finds_it(flops: float) -> None:
    """Equations B.6 to B.10 against L(N, S_min) and C_min = 6 N B S_min."""
    best = kaplan.optimum(flops)
    assert kaplan.loss_of_steps(best.parameters, best.min_steps) == pytest.approx(best.loss, rel=1e-9)
    assert 6 * best.parameters * kaplan.critical_batch(best.loss) * best.min_steps == pytest.approx(flops)
    assert kaplan.flops_for_loss(best.parameters, best.loss) == pytest.approx(flops, rel=1e-6)
    for factor in (0.9, 1.1):
        assert kaplan.flops_for_loss(best.parameters * factor, best.loss) > flops


@given(PF_DAYS)
def test_equation_b16_sizes_from_0_6_to_2_2_cost_a_fifth_more(flops: float) -> None:
    best = kaplan.optimum(flops)
    for factor in (0.6, 2.2):
        extra = kaplan.flops_for_loss(best.parameters * factor, best.loss) / flops
        assert extra == pytest.approx(1.2, abs=0.04)
    steps = kaplan.flops_for_loss(best.parameters * 2.2, best.loss) / flops / 2.2
    assert steps == pytest.approx(1 - 0.45, abs=0.01)  # "45% fewer steps", Equation B.17


def test_equations_b12_to_b14_against_training_to_convergence() -> None:
    """2.7 times the parameters, 0.13 of the steps and 0.35 of the compute of a run that ends 2 % above convergence."""
    best = kaplan.optimum(kaplan.PF_DAY)
    converged = best.loss / 1.02
    smaller = 6.5e13 / converged ** (1 / 0.077)
    assert best.parameters / smaller == pytest.approx(2.7, abs=0.05)
    ratio = kaplan.PF_DAY / kaplan.flops_for_loss(smaller, best.loss)
    assert ratio == pytest.approx(0.35, abs=0.01)
    assert ratio / 2.7 == pytest.approx(0.13, abs=0.005)


def test_table_6() -> None:
    fitted = kaplan.fitted_optimum(kaplan.PF_DAY)
    assert (fitted.parameters, fitted.batch_tokens, fitted.min_steps) == (1.3e9, 2.0e6, 5.4e3)
    assert fitted.tokens == pytest.approx(2e10, rel=0.1)  # D_e, one epoch at the critical batch
    assert kaplan.critical_batch(fitted.loss) == pytest.approx(2.0e6, rel=0.01)
    constants = {name: row.value for name, row in law_constants("kaplan2020").items()}
    assert 1 - constants["optimum_parameters_exponent"] == pytest.approx(constants["optimum_tokens_exponent"])
    # What L(N, S_min) says is near what was fitted: the batch to a tenth, the size to a factor of 2.3.
    derived = kaplan.optimum(kaplan.PF_DAY)
    assert derived.batch_tokens == pytest.approx(fitted.batch_tokens, rel=0.1)
    assert derived.loss == pytest.approx(fitted.loss, rel=0.02)
    assert fitted.parameters / 2.3 < derived.parameters < fitted.parameters


def test_hoffmann_2022_d4_reads_the_optimum_at_1e21() -> None:
    """Hoffmann et al. 2022, section D.4: "the optimal model size should be 4.68 billion parameters"."""
    at_critical_batch = kaplan.fitted_optimum(1e21 / 2)
    assert round(at_critical_batch.parameters / 1e9, 2) == 4.68


def test_equation_6_8_where_the_laws_contradict_each_other() -> None:
    """Near 1e4 PF-days, 1e12 parameters and 1.7 nats the least data for C_min no longer allows L(C_min)."""
    days = 1.0
    while True:
        best = kaplan.fitted_optimum(days * kaplan.PF_DAY)
        if kaplan.loss_of_data(best.tokens) > best.loss:
            break
        days *= 1.01
    assert math.log10(days) == pytest.approx(4, abs=0.5)
    assert math.log10(best.parameters) == pytest.approx(12, abs=0.5)
    assert best.loss == pytest.approx(1.7, abs=0.1)


@given(st.floats(1e3, 1e6), st.floats(1e4, 1e8), st.floats(1.8, 5.0))
def test_equations_5_1_to_5_5(steps: float, batch: float, loss: float) -> None:
    least, critical = kaplan.min_steps(steps, batch, loss), kaplan.critical_batch(loss)
    assert (steps / least - 1) * (steps * batch / (least * critical) - 1) == pytest.approx(1)
    flops = 6 * 1e9 * batch * steps
    assert kaplan.min_flops(flops, batch, loss) == pytest.approx(6 * 1e9 * critical * least)
    assert kaplan.min_steps(steps, critical, loss) == pytest.approx(steps / 2)


def test_the_joint_law_is_near_the_single_ones() -> None:
    """Equation 1.5 was fitted apart from 1.1 and 1.2 and differs by a few percent from them."""
    law = loss_laws()["kaplan2020"]
    assert loss_nats(law, 1e9, 1e20) == pytest.approx(kaplan.loss_of_size(1e9), rel=0.03)
    assert loss_nats(law, 1e20, 1e10) == pytest.approx(kaplan.loss_of_data(1e10), rel=0.05)


def test_numbers_that_are_none_are_refused() -> None:
    for call in (
        kaplan.optimum,
        kaplan.fitted_optimum,
        kaplan.loss_of_size,
        kaplan.loss_of_data,
        kaplan.critical_batch,
    ):
        assert "expected a finite number above 0" in (refusal(lambda call=call: call(-1.0)) or "")  # type: ignore[misc]
    assert kaplan.flops_for_loss(1e9, 2.0) == math.inf
