"""Plans against closed forms, a slow grid, and what must hold for any prices."""

import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import LossLaw, load_hardware, loss_laws
from bitsim.simulator import estimate, make_workload, spec_for_size
from bitsim.simulator.compute_optimal import cheapest_split, optimal_split
from bitsim.simulator.lifetime import serving_price, training_price
from bitsim.simulator.loss_laws import equal_parameters, loss_nats
from bitsim.simulator.plan import (
    DEFAULT_WORKLOAD,
    Budget,
    Costs,
    Limits,
    Run,
    Service,
    best_run,
    cheapest_run,
    lowest,
    plan,
)
from bitsim.simulator.scheme_law import SchemeLaw, scheme_laws
from bitsim.simulator.sizes import MIN_PARAMETERS
from bitsim.simulator.training_cost import training_cost

LAWS = loss_laws()
CHINCHILLAS = [law for law in LAWS.values() if law.form == "chinchilla"]
FP16, TERNARY = scheme_laws(("fp16", "b1.58")).values()
SPECTRA = SchemeLaw("b1.58", LAWS["spectra-1.1"])
KAPLAN = SchemeLaw("fp16", LAWS["kaplan2020"])
ALL = (FP16, TERNARY, SPECTRA, KAPLAN)
FREE = Costs(1.0, lambda parameters: 2.0 * parameters)


def flops(amount: float) -> Budget:
    return Budget("flops", amount)


def serving(served: float, exponent: float = 1.0) -> Costs:
    """FLOPs of training, and 2 (N / 1e9)^exponent GFLOP for a served token."""
    return Costs(1.0, lambda parameters: 2e9 * (parameters / 1e9) ** exponent, served)


def slowly(law: SchemeLaw, costs: Costs, budget: float, sizes: int = 40_001) -> Run:
    """Every size of a fine grid, none left out."""
    best: Run | None = None
    for step in range(sizes):
        parameters = 1e5 * 10 ** (10 * step / (sizes - 1))
        tokens = (budget - costs.serving(parameters)) / costs.training(parameters, 1.0)
        if tokens >= 1:
            loss = law.loss(parameters, tokens)
            if best is None or loss < best.loss:
                best = Run(parameters, tokens, loss, costs.training(parameters, tokens), costs.serving(parameters))
    assert best is not None
    return best


@pytest.mark.parametrize("law", CHINCHILLAS, ids=lambda law: law.law)
@given(amount=st.floats(1e18, 1e27))
@settings(max_examples=25)
def test_without_serving_it_is_the_closed_form(law: LossLaw, amount: float) -> None:
    split = optimal_split(law, amount)
    assume(split.parameters > MIN_PARAMETERS)
    found = best_run(SchemeLaw("fp16", law), FREE, flops(amount))
    assert found.parameters == pytest.approx(split.parameters, rel=1e-3)
    assert found.tokens == pytest.approx(split.tokens, rel=1e-3)
    assert found.loss == pytest.approx(split.loss, rel=1e-9)
    assert found.total == pytest.approx(amount)
    cheapest = cheapest_run(SchemeLaw("fp16", law), FREE, split.loss)
    assert cheapest is not None
    assert cheapest.total == pytest.approx(cheapest_split(law, split.loss).flops, rel=1e-6)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.name)
@pytest.mark.parametrize(("amount", "served"), [(1e21, 0.0), (1e21, 1e11), (1e23, 1e12), (1e24, 1e14)])
def test_no_size_of_a_fine_grid_is_better(law: SchemeLaw, amount: float, served: float) -> None:
    found, slow = best_run(law, serving(served), flops(amount)), slowly(law, serving(served), amount)
    assert found.loss <= slow.loss * (1 + 1e-12)
    assert found.loss == pytest.approx(slow.loss, rel=1e-6)
    assert found.parameters == pytest.approx(slow.parameters, rel=0.01)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.name)
@given(amount=st.floats(1e20, 1e25), more=st.floats(1.0, 1e3), served=st.floats(0, 1e12))
@settings(max_examples=25)
def test_a_larger_budget_never_raises_the_loss(law: SchemeLaw, amount: float, more: float, served: float) -> None:
    little, much = (best_run(law, serving(served), flops(budget)) for budget in (amount, amount * more))
    assert much.loss <= little.loss * (1 + 1e-12)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.name)
@given(
    amount=st.floats(1e20, 1e25), served=st.floats(1e6, 1e12), more=st.floats(1.0, 1e2), exponent=st.floats(0.0, 1.5)
)
@settings(max_examples=25)
def test_more_served_tokens_never_make_the_model_larger_or_better(
    law: SchemeLaw, amount: float, served: float, more: float, exponent: float
) -> None:
    few, many = serving(served, exponent), serving(served * more, exponent)
    if refusal(lambda: best_run(law, many, flops(amount))) is not None:
        return
    before, after = best_run(law, few, flops(amount)), best_run(law, many, flops(amount))
    assert after.parameters <= before.parameters * (1 + 1e-5)
    assert after.loss >= before.loss * (1 - 1e-12)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.name)
@given(amount=st.floats(1e20, 1e25), served=st.floats(0, 1e12))
@settings(max_examples=25)
def test_the_cheapest_run_of_the_best_loss_costs_the_budget(law: SchemeLaw, amount: float, served: float) -> None:
    best = best_run(law, serving(served), flops(amount))
    cheapest = cheapest_run(law, serving(served), best.loss)
    assert cheapest is not None
    assert cheapest.total == pytest.approx(amount, rel=1e-5)
    assert cheapest.loss == pytest.approx(best.loss, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda at: (at - 1.2345) ** 2, 1.2345),
        (lambda at: at, -3.0),
        (lambda at: -at, 7.0),
        (lambda at: math.inf if at > 2 else -at, 2.0),
        (lambda at: abs(at) - 3 * (abs(at - 5.4321) < 0.5) * (0.5 - abs(at - 5.4321)), 0.0),  # a second, shallow dip
    ],
)
def test_lowest(value: Callable[[float], float], where: float) -> None:
    assert lowest(value, -3.0, 7.0) == pytest.approx(where, abs=1e-6)


def test_a_ternary_size_is_worth_the_fp16_size_of_the_twin_laws() -> None:
    for size in (1e8, 1e9, 1e11):
        assert TERNARY.equal_size(size) == equal_parameters(LAWS["floatlm"], LAWS["trilm"], size, 3e11)
        assert TERNARY.equal_size(size) < size
        assert TERNARY.loss(size, 1e12) == loss_nats(LAWS["chinchilla-besiroglu"], TERNARY.equal_size(size), 1e12)
        assert TERNARY.tokens_for(TERNARY.loss(size, 1e12), size) == pytest.approx(1e12)
    loss = TERNARY.predict(1e9, 1e11)
    assert loss.low < TERNARY.loss(1e9, 1e11) == loss.value < loss.high
    assert loss.high - loss.low > FP16.predict(TERNARY.equal_size(1e9), 1e11).high - loss.value + 0.03


def test_laws_of_one_fit_are_taken_as_they_are() -> None:
    both = {
        scheme: LAWS["chinchilla-besiroglu"]._replace(law="own", scheme=scheme, e_nats=e, tokens=None)
        for scheme, e in (("fp16", 1.8), ("b1.58", 1.9))
    }
    found = plan(flops(1e21), laws=both)
    full, ternary = found.schemes
    assert full.run.parameters == pytest.approx(ternary.run.parameters, rel=1e-4)
    assert ternary.run.loss - full.run.loss == pytest.approx(0.1)
    assert not [note for note in found.notes if "do not compare" in note or "equal" in note]


def test_a_law_of_each_scheme_on_its_own_data_comes_with_a_warning() -> None:
    found = plan(flops(1e21), laws={"b1.58": "spectra-1.1"})
    assert [note for note in found.notes if "different data" in note and "spectra-1.1" in note]
    assert found.schemes[1].loss.law == "spectra-1.1"


def test_training_is_priced_as_a_training_run() -> None:
    spec = spec_for_size(7e9)
    for scheme in ("fp16", "b1.58"):
        price, cost = training_price(scheme, load_hardware("h100-sxm")), training_cost(spec, 2e12, scheme, "h100-sxm")
        assert list(price.joules.scaled(cost.flops)) == pytest.approx(list(cost.energy_j))
        assert cost.usd is not None
        assert price.usd is not None
        assert list(price.usd.scaled(cost.flops)) == pytest.approx(list(cost.usd))
        assert list(price.device_s.scaled(cost.flops)) == pytest.approx(list(cost.device_s))
        assert price.devices_at(spec.parameters) == cost.devices


@pytest.mark.parametrize("hardware", ["a100-80gb", "raspberry-pi-5"])
@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
def test_serving_is_priced_as_an_estimate_with_server_and_building(hardware: str, scheme: str) -> None:
    price = serving_price(scheme, load_hardware(hardware), DEFAULT_WORKLOAD)
    for size in (1e8, 2e9, 3.3e10):
        result = estimate(spec_for_size(size), scheme, hardware, batch=16, devices=1)
        watts = 280.0 if hardware == "a100-80gb" else 0.0  # datacentre.csv
        joules = (result.energy_j["total"].mid + watts * result.latency_s.mid) * 1.2 / (16 * 128)
        assert price.joules_at(size).mid == pytest.approx(joules, rel=0.05)  # straight between sizes of a grid
        usd = price.usd_at(size)
        rent = load_hardware(hardware).value("price_usd_per_hour").mid
        assert usd is not None
        assert usd.mid == pytest.approx(rent * result.latency_s.mid / 3600 / (16 * 128), rel=0.05)
    assert price.flops_at(1e9) == 2e9 * 5


@pytest.mark.parametrize("hardware", ["a100-80gb", "h100-sxm", "m2", "raspberry-pi-5", "ternary-asic"])
@pytest.mark.parametrize("batch", [1, 16, 256])
def test_a_served_token_never_costs_less_of_a_larger_model(hardware: str, batch: int) -> None:
    for scheme in ("fp16", "b1.58"):
        price = serving_price(scheme, load_hardware(hardware), make_workload(batch))
        joules = [interval.mid for interval in price.joules]
        assert joules == sorted(joules)


def test_a_plan_spends_its_budget_on_training_and_serving() -> None:
    found = plan(Budget("energy", 3.6e12), service=Service(1e12))
    for each in found.schemes:
        assert each.binds == ("budget",)
        assert each.training_j.mid == pytest.approx(each.run.training)
        assert each.serving_j.mid == pytest.approx(each.run.serving)
        assert each.training_j.mid + each.serving_j.mid == pytest.approx(3.6e12)
        assert each.size_moved < 1
        assert 0 < each.saved < 1
        assert each.train_first.loss == pytest.approx(each.run.loss)
        assert each.train_first.training < each.run.training
    assert found.best is min(found.schemes, key=lambda each: each.run.loss)
    same = found.schemes[0].same_loss
    assert same is not None
    assert same.total == pytest.approx(3.6e12, rel=1e-5)


def test_what_serves_and_how_much_decides_which_scheme_is_best() -> None:
    """A GPU's batch shares the reading of weights, so FP16's lower loss wins; one user of a small computer pays it."""
    small = ("raspberry-pi-5", make_workload(1))
    services = {"served by GPUs": Service(1e12), "little": Service(1e10, *small), "much": Service(1e12, *small)}
    best = {name: plan(Budget("energy", 3.6e12), service=service).best.scheme for name, service in services.items()}
    assert best == {"served by GPUs": "fp16", "little": "fp16", "much": "b1.58"}


def test_money_counts_the_rent() -> None:
    found = plan(Budget("money", 5000.0), service=Service(1e9, "raspberry-pi-5", make_workload(1)))
    for each in found.schemes:
        assert each.training_usd is not None
        assert each.serving_usd is not None
        assert each.training_usd.mid + each.serving_usd.mid == pytest.approx(5000.0)


def test_devices_change_the_time_and_nothing_else() -> None:
    one, many = (plan(flops(1e21), ("fp16",), devices=devices).schemes[0] for devices in (1, 64))
    assert one.run == many.run
    assert one.wall_s.mid == pytest.approx(64 * many.wall_s.mid)


def test_limits_bind() -> None:
    tokens = plan(flops(1e21), ("fp16",), limits=Limits(tokens=1e10)).schemes[0]
    assert tokens.binds == ("budget", "tokens")
    assert tokens.run.tokens == pytest.approx(1e10, rel=1e-3)
    size = plan(flops(1e21), ("fp16",), limits=Limits(parameters=1e8)).schemes[0]
    assert size.binds == ("budget", "size")
    assert size.run.parameters == pytest.approx(1e8)
    both = plan(flops(1e21), ("fp16",), limits=Limits(1e10, 1e8)).schemes[0]
    assert both.binds == ("tokens", "size")
    assert both.run.total == pytest.approx(6e18)


def test_what_is_served_on_too_small_machines_and_for_long_is_said() -> None:
    found = plan(flops(1e23), service=Service(1e12, "raspberry-pi-5", make_workload(1)))
    notes = "\n".join(found.notes)
    assert "devices of raspberry-pi-5 that hold the model and the batch: fp16 " in notes
    assert "tokens per parameter: fp16 " in notes
    assert "batch 1, 512 tokens read and 128 generated" in notes


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Budget("time", 1.0), "budget: expected one of flops, energy, money, got 'time'"),
        (lambda: Budget("flops", 0.0), "flops: expected a finite number above 0, got 0"),
        (lambda: Budget("energy", math.nan), "energy: expected a finite number above 0"),
        (lambda: Limits(tokens=0.5), "training tokens: expected 1 to"),
        (lambda: Limits(parameters=1e5), "largest size: expected more than 100K"),
        (lambda: Limits(parameters=math.nan), "largest size: expected more than 100K"),
        (lambda: Service(-1.0), "served tokens: expected a finite number of at least 0"),
        (lambda: Service(math.inf), "served tokens: expected a finite number of at least 0"),
        (lambda: plan(flops(1e21), ()), "schemes: expected at least one"),
        (lambda: plan(flops(1e21), devices=0), "devices: expected 1 to"),
        (lambda: plan(flops(1e21), ("b1",)), "scheme b1: expected a loss law of its own; known are fp16 and b1.58"),
        (lambda: plan(flops(1e21), ("b1",), laws={"b1": "spectra-1.1"}), "training: expected the scheme fp16 or b1.58"),
        (lambda: plan(flops(1e21), laws={"fp16": "chinchila"}), "unknown loss law 'chinchila'"),
        (lambda: plan(flops(1e21), laws={"fp16": "floatlm"}), "loss law floatlm: expected a law that knows tokens"),
        (lambda: plan(flops(1e21), hardware="h1000"), "unknown hardware 'h1000'"),
        (lambda: plan(flops(1e10)), "flops: 1e+10 FLOP: expected a budget whose best size is at least 100K"),
        (lambda: plan(flops(1e50)), "flops: 1e+50 FLOP: expected a budget whose best size is at most 1000T"),
        (lambda: plan(Budget("energy", 3.6e6), service=Service(1e15)), "energy: 3.6e+06 J with 1,000T tokens served"),
        (
            lambda: plan(flops(1e21), service=Service(1e9, workload=make_workload(1, 512, 0))),
            "new tokens: expected at least 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], said: str) -> None:
    assert (refusal(call) or "accepted").startswith(said)
