"""Laws fitted to points that a known law made."""

import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import slow_fit
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.simulator.compute_optimal import optimal_split
from bitsim.simulator.loss_laws import loss_nats
from bitsim.training.fit import fit_law
from bitsim.training.fitted import FORMS, Fit
from bitsim.training.huber import Array
from bitsim.training.measured import Measured

E, A, ALPHA, B, BETA = 1.8172, 482.01, 0.3478, 2085.43, 0.3658
SIZES = np.geomspace(3e5, 5e6, 6)


def power(sizes: Array, e: float = 1.5, a: float = 60.0, alpha: float = 0.3) -> Array:
    return np.asarray(e + a / sizes**alpha)


def made(runs: int, noise: float, seed: int) -> Measured:
    """Runs spread as Hoffmann's, with the loss that Besiroglu's constants give them."""
    random = np.random.default_rng(seed)
    sizes = 10 ** random.uniform(7.6, 10.2, runs)
    tokens = 10 ** random.uniform(18, 22, runs) / (6 * sizes)
    loss = E + A / sizes**ALPHA + B / tokens**BETA
    return Measured.of(sizes, loss * np.exp(noise * random.standard_normal(runs)), tokens)


def two_schemes(noise: float = 0.0, seed: int = 0) -> Measured:
    random = np.random.default_rng(seed)
    loss = np.concatenate([power(SIZES), power(SIZES, e=1.6, a=75.0)])
    kinds = ["fp16"] * len(SIZES) + ["b1.58"] * len(SIZES)
    return Measured.of(np.tile(SIZES, 2), loss * np.exp(noise * random.standard_normal(len(loss))), None, kinds)


def test_a_coefficient_beyond_any_number_is_infinite() -> None:
    fit = fit_law(made(20, 0.01, 1), resamples=10)
    assert fit.resampled is not None
    assert replace(fit, resampled=np.full_like(fit.resampled, 800.0)).coefficient("a").high == math.inf


def test_the_constants_of_noiseless_points_come_back() -> None:
    fit = fit_law(made(60, 0.0, 1), resamples=0)
    for name, value in {"e": E, "a": A, "alpha": ALPHA, "b": B, "beta": BETA}.items():
        assert fit.coefficient(name).mid == pytest.approx(value, rel=1e-4)
    assert fit.objective < 1e-10
    assert fit.coefficient("alpha").high == math.inf
    assert fit.warnings == ()


@pytest.mark.parametrize("delta", [1e-3, math.inf])
def test_bootstrap_equals_its_slow_twin(delta: float) -> None:
    points = made(40, 0.01, 2)
    fit = fit_law(points, delta=delta, bootstrap="points", resamples=5, seed=3)
    assert fit.resampled is not None
    assert points.tokens is not None
    order = [fit.index(name) for name in ("a", "alpha", "e", "b", "beta")]
    weights = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=5)
    for row, counts in zip(fit.resampled, weights, strict=True):
        drawn = np.repeat(np.arange(40), counts)
        at = points.parameters[drawn], points.tokens[drawn], points.values[drawn]
        slow = slow_fit.fit(*at, delta, fit.unknowns[order])
        fast_height = slow_fit.huber(slow_fit.residuals(row[order], *at), delta)
        slow_height = slow_fit.huber(slow_fit.residuals(slow, *at), delta)
        assert fast_height <= slow_height * (1 + 1e-6)
        assert fast_height == pytest.approx(slow_height, rel=0.01)  # the twin is not far behind
        if math.isinf(delta):
            np.testing.assert_allclose(row[order], slow, rtol=1e-4)


def test_245_points_and_4000_resamples_take_less_than_a_minute() -> None:
    points = made(245, 0.01, 4)
    began = time.perf_counter()
    fit = fit_law(points)
    assert time.perf_counter() - began < 60
    assert fit.resampled is not None
    assert fit.resampled.shape == (4000, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("bootstrap", "runs"), [("points", 30), ("noise", 6)])
def test_nine_in_ten_intervals_hold_the_truth(bootstrap: str, runs: int) -> None:
    sizes = np.geomspace(3e5, 5e6, runs)
    truth = {"e": 1.5, "a": 60.0, "alpha": 0.3}
    held: dict[str, int] = dict.fromkeys((*truth, "prediction"), 0)
    for seed in range(200):
        noise = np.exp(0.005 * np.random.default_rng(seed).standard_normal(runs))
        fit = fit_law(Measured.of(sizes, power(sizes) * noise), "power", bootstrap=bootstrap, resamples=120, seed=seed)
        for name, value in truth.items():
            interval = fit.coefficient(name)
            held[name] += interval.low <= value <= interval.high
        ahead = fit.predict(5e7).value
        held["prediction"] += ahead.low <= power(np.array([5e7]))[0] <= ahead.high
    assert all(170 <= count <= 190 for count in held.values()), held


def test_intervals_of_a_law_that_lost_its_floor_still_know_of_one() -> None:
    """Noise can hide the floor of the best fit; a resample that had to begin there could not find it again."""
    sizes = np.geomspace(3e5, 5e6, 8)
    hidden = 0
    for seed in range(20):
        noise = np.exp(0.05 * np.random.default_rng(seed).standard_normal(8))
        fit = fit_law(Measured.of(sizes, power(sizes) * noise), "power", bootstrap="noise", resamples=100, seed=seed)
        if "the points show no floor of fp16: e came out as 0" in fit.warnings:
            hidden += 1
            assert fit.coefficient("e").low < 1e-3
            assert fit.coefficient("e").high > 1.5  # the truth
    assert hidden >= 3


def test_schemes_share_what_they_are_told_to() -> None:
    free, shared = (fit_law(two_schemes(0.002), "power", shared=names, resamples=200) for names in ((), ("alpha",)))
    assert len(free.names) == 6
    assert len(shared.names) == 5
    assert shared.coefficient("alpha", "fp16") == shared.coefficient("alpha", "b1.58")
    assert free.coefficient("alpha", "fp16") != free.coefficient("alpha", "b1.58")

    def width(fit: Fit) -> float:
        interval = fit.coefficient("alpha", "fp16")
        return interval.high - interval.low

    assert width(shared) < width(free)
    assert "expected one of fp16, b1.58, got 'None'" in (refusal(lambda: free.coefficient("alpha")) or "")


@pytest.mark.parametrize("shared", [(), ("alpha",), ("a",), ("e", "alpha")])
def test_laws_with_something_in_common_come_back(shared: tuple[str, ...]) -> None:
    common = {"e": 1.5, "a": 60.0, "alpha": 0.3}
    other = {"e": 1.6, "a": 75.0, "alpha": 0.35} | {name: common[name] for name in shared}
    loss = np.concatenate([power(SIZES, **common), power(SIZES, **other)])
    points = Measured.of(np.tile(SIZES, 2), loss, None, ["fp16"] * len(SIZES) + ["b1.58"] * len(SIZES))
    fit = fit_law(points, "power", shared=shared, resamples=0)
    for scheme, values in (("fp16", common), ("b1.58", other)):
        for name, value in values.items():
            assert fit.coefficient(name, scheme).mid == pytest.approx(value, rel=1e-4)


def test_the_ternary_model_that_equals_an_fp16_model() -> None:
    fit = fit_law(two_schemes(0.002), "power", shared=("alpha",), resamples=200)
    equal = fit.equal_parameters(5e6, of="b1.58", like="fp16")
    assert equal.low < equal.mid < equal.high
    assert fit.predict(equal.mid, scheme="b1.58").value.mid == pytest.approx(fit.predict(5e6, scheme="fp16").value.mid)
    assert fit.equal_parameters(5e6, of="fp16", like="fp16").mid == pytest.approx(5e6)
    assert fit.equal_parameters(1e20, of="b1.58", like="fp16").mid == math.inf


def test_a_law_goes_to_the_simulator_and_its_numbers_come_with_intervals() -> None:
    fit = fit_law(made(60, 0.005, 5), resamples=200)
    law = fit.law()
    assert loss_nats(law, 7e10, 1.4e12) == pytest.approx(fit.predict(7e10, 1.4e12).value.mid)
    best = fit.interval(lambda law: optimal_split(law, 5.76e23).parameters)
    assert best.low < best.mid == pytest.approx(optimal_split(law, 5.76e23).parameters)
    assert best.mid < best.high < 4 * best.low


def test_predictions_say_how_far_they_reach() -> None:
    fit = fit_law(made(60, 0.005, 6), resamples=100)
    inside, outside = fit.predict(1e9, 1e10), fit.predict(1e13, 1e10)
    assert inside.decades_of_size == 0
    assert inside.note.startswith("within the ")
    assert outside.decades_of_size == pytest.approx(13 - math.log10(fit.points.parameters.max()))
    assert "powers of ten outside the" in outside.note
    assert fit.predict(1e9, 1e20).decades_of_tokens > 5
    widths = [(at.high - at.low) / at.mid for at in (fit.predict(size, 1e11).value for size in (1e10, 1e12, 1e14))]
    assert all(near < far for near, far in pairwise(widths))
    assert refusal(lambda: fit.predict(1e9)) == "tokens: a law of sizes and tokens needs them"
    assert refusal(lambda: fit.predict(-1.0, 1e9)) == "parameters: expected finite numbers above 0, got -1"


def test_a_metric_that_rises_with_size_is_fitted_as_well() -> None:
    points = Measured.of(SIZES, 2e5 + 1.75 * SIZES, metric="memory_bytes")
    fit = fit_law(points, "power", resamples=0)
    assert fit.coefficient("alpha").mid == pytest.approx(-1, rel=1e-6)
    assert fit.coefficient("a").mid == pytest.approx(1.75, rel=1e-5)
    assert fit.coefficient("e").mid == pytest.approx(2e5, rel=1e-4)
    straight = fit_law(Measured.of(SIZES, 3e-9 * SIZES, metric="energy_j"), "power", resamples=0)
    assert "the points show no floor of fp16: e came out as 0" in straight.warnings
    pure = fit_law(Measured.of(SIZES, 3e-9 * SIZES, metric="energy_j"), "pure-power", resamples=0)
    assert pure.coefficient("a").mid == pytest.approx(3e-9)


def test_a_loss_that_rises_with_size_is_told() -> None:
    rising = Measured.of(SIZES, 0.5 * SIZES**0.1)
    told = "alpha of fp16 came out below 0: in these runs more parameters do not lower the loss"
    assert told in fit_law(rising, "pure-power", resamples=0).warnings
    falling = Measured.of(SIZES, 5 * SIZES**-0.1)
    assert not any("came out below 0" in warning for warning in fit_law(falling, "pure-power", resamples=0).warnings)


@settings(max_examples=15, deadline=None)
@given(units=st.floats(1e-9, 1e9), size=st.floats(1e-3, 1e6), seed=st.integers(0, 5))
def test_units_change_nothing_but_the_numbers(units: float, size: float, seed: int) -> None:
    noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(SIZES)))
    one = fit_law(Measured.of(SIZES, power(SIZES) * noise), "power", resamples=0)
    other = fit_law(Measured.of(SIZES * size, power(SIZES) * noise * units), "power", resamples=0)
    assert other.coefficient("alpha").mid == pytest.approx(one.coefficient("alpha").mid, rel=1e-4, abs=1e-5)
    assert other.predict(1e7 * size).value.mid == pytest.approx(units * one.predict(1e7).value.mid, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(SIZES))))
def test_the_order_of_the_points_is_no_matter(order: list[int]) -> None:
    values = power(SIZES) * np.exp(0.01 * np.random.default_rng(1).standard_normal(len(SIZES)))
    one = fit_law(Measured.of(SIZES, values), "power", resamples=0)
    other = fit_law(Measured.of(SIZES[order], values[order]), "power", resamples=0)
    assert other.objective == pytest.approx(one.objective, rel=1e-6)


def test_an_outlier_moves_a_robust_fit_less() -> None:
    sizes = np.geomspace(1e6, 1e9, 20)
    values = power(sizes)
    values[7] *= 1.2
    robust, plain = (
        fit_law(Measured.of(sizes, values), "power", delta=delta, resamples=0) for delta in (1e-3, math.inf)
    )
    assert abs(robust.coefficient("alpha").mid - 0.3) < 0.05 * abs(plain.coefficient("alpha").mid - 0.3)


def test_three_sizes_for_three_unknowns_are_fitted_with_a_loud_warning() -> None:
    fit = fit_law(Measured.of(SIZES[:3], power(SIZES[:3])), "power")
    assert fit.resampled is None
    assert fit.warnings[0].startswith("3 sizes of fp16 for 3 unknowns: the law goes through them whatever they are")
    assert fit.warnings[-1] == "no interval: 3 points leave nothing over for 3 unknowns"
    assert fit.predict(1e8).value.high == math.inf
    assert math.isnan(fit.noise)
    seeds = fit_law(Measured.of(np.tile(SIZES[:3], 2), np.tile(power(SIZES[:3]), 2) * 1.001), "power", resamples=50)
    assert "3 sizes of fp16 for 3 unknowns" in seeds.warnings[0]


def test_tokens_that_a_form_does_not_know_are_warned_of() -> None:
    fit = fit_law(Measured.of(SIZES, power(SIZES), 20 * SIZES), "power", resamples=0)
    assert fit.warnings[0].startswith("form power knows no tokens, and the runs have 6.00M to 100M")


@pytest.mark.parametrize(
    ("points", "form", "message"),
    [
        (Measured.of([1e6, 2e6], [3, 2]), "power", "at least 3 different sizes of fp16, for the unknowns e, a, alpha"),
        (Measured.of([1e6, 1e6, 2e6], [3, 2, 3]), "power", "got 2"),
        (Measured.of([1e6], [3]), "pure-power", "at least 2 different sizes"),
        (Measured.of(SIZES, power(SIZES)), "chinchilla", "expected the training tokens of each run"),
        (Measured.of(SIZES, power(SIZES), [1e9] * 6), "chinchilla", "at least 3 different numbers of tokens"),
        (Measured.of(SIZES, power(SIZES), 20 * SIZES), "chinchilla", "can't be told apart"),
        (Measured.of([1e6, 2e6, 3e6, 1e6], [3, 2, 1, 3], [1e9, 2e9, 4e9, 1e9]), "chinchilla", "5 different runs"),
        (Measured.of(SIZES, power(SIZES)), "kaplan", "form: expected one of pure-power, power, chinchilla"),
        (Measured.of(SIZES, power(SIZES), schemes=["fp16"] * 5 + ["b1"]), "power", "different sizes of b1,"),
    ],
)
def test_points_that_cannot_hold_the_unknowns_are_refused(points: Measured, form: str, message: str) -> None:
    assert message in (refusal(lambda: fit_law(points, form)) or "")


@pytest.mark.parametrize(
    "options", [{"shared": ("gamma",)}, {"bootstrap": "boots"}, {"level": 1.0}, {"level": math.nan}], ids=str
)
def test_options_are_checked(options: dict[str, object]) -> None:
    assert refusal(lambda: fit_law(two_schemes(), "power", **options))  # type: ignore[arg-type]


def test_a_coefficient_that_a_form_lacks_is_refused() -> None:
    fit = fit_law(Measured.of(SIZES, power(SIZES)), "power", resamples=0)
    assert set(FORMS) == {"pure-power", "power", "chinchilla"}
    assert refusal(lambda: fit.coefficient("beta")) == "coefficient: expected one of e, a, alpha, got 'beta'"
