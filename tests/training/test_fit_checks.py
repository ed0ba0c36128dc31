"""Profiles, and what a law says of runs it was not fitted to."""

import math

import numpy as np
import pytest
import slow_fit
from refusals import refusal

from bitsim.training.fit import fit_law
from bitsim.training.fit_checks import leave_one_out, predict_largest, profile_interval
from bitsim.training.huber import Array
from bitsim.training.measured import Measured

SIZES = np.geomspace(3e5, 5e6, 8)


def points(noise: float = 0.003, seed: int = 0) -> Measured:
    random = np.random.default_rng(seed)
    return Measured.of(SIZES, (1.5 + 60 / SIZES**0.3) * np.exp(noise * random.standard_normal(len(SIZES))))


@pytest.mark.parametrize("name", ["a", "alpha", "e"])
def test_a_profile_ends_where_the_sum_of_squares_has_risen_by_f(name: str) -> None:
    fit = fit_law(points(), "power", delta=math.inf, resamples=0)
    interval = profile_interval(fit, name)
    least = float(np.sum(fit.residuals**2))
    f = 4.0604  # of 1 and 5 degrees of freedom, 90 %
    start = fit.unknowns[[fit.index(key) for key in ("a", "alpha", "e")]]
    place = ("a", "alpha", "e").index(name)
    assert interval.mid == pytest.approx(fit.coefficient(name).mid, rel=1e-4)
    for end in (interval.low, interval.high):
        held = end if name == "alpha" else math.log(end)
        others = _with_one_held(start, place, held)
        assert others == pytest.approx(least * (1 + f / 5), rel=0.01)


def _with_one_held(start: Array, place: int, held: float) -> float:
    from scipy.optimize import least_squares

    def residuals(others: Array) -> Array:
        return slow_fit.residuals(np.insert(others, place, held), SIZES, None, points().values)

    found = least_squares(residuals, np.delete(start, place), x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return float(np.sum(found.fun**2))


def test_a_profile_agrees_with_the_bootstrap() -> None:
    fit = fit_law(points(), "power", delta=math.inf, bootstrap="noise")
    for name in ("a", "alpha", "e"):
        profile, boot = profile_interval(fit, name), fit.coefficient(name)
        assert profile.low == pytest.approx(boot.low, rel=0.1)
        assert profile.high == pytest.approx(boot.high, rel=0.1)


def test_a_profile_without_an_end_says_so() -> None:
    sizes = np.geomspace(1e6, 1.5e6, 5)
    values = (1.5 + 60 / sizes**0.3) * np.exp(0.02 * np.random.default_rng(0).standard_normal(5))
    fit = fit_law(Measured.of(sizes, values), "power", resamples=0)
    assert profile_interval(fit, "e").low == 0
    assert "the sizes span 0.18 powers of ten" in fit.warnings[0]


def test_leaving_one_out_is_fitting_the_others() -> None:
    fit = fit_law(points(), "power", resamples=0)
    left_out = leave_one_out(fit)
    assert len(left_out) == len(SIZES)
    for row, found in enumerate(left_out):
        others = fit_law(points().chosen(np.arange(len(SIZES)) != row), "power", resamples=0)
        assert found.parameters == SIZES[row]
        assert found.predicted.mid == pytest.approx(others.predict(SIZES[row]).value.mid, rel=1e-4)
        assert found.error == found.predicted.mid / found.measured - 1
        assert abs(found.error) < 0.03


def test_the_largest_size_is_predicted_from_the_others() -> None:
    both = Measured.of(
        np.tile(SIZES, 2),
        np.concatenate([points().values, points(seed=1).values * 1.1]),
        None,
        ["fp16"] * 8 + ["b1.58"] * 8,
    )
    fit, largest = predict_largest(both, "power", shared=("alpha",), resamples=200)
    assert len(fit.points) == 14
    assert [(run.scheme, run.parameters) for run in largest] == [("fp16", SIZES[-1]), ("b1.58", SIZES[-1])]
    for run in largest:
        assert abs(run.error) < 0.03
        assert run.predicted.low < run.predicted.mid < run.predicted.high


def test_too_few_points_to_check_are_refused() -> None:
    three = fit_law(Measured.of(SIZES[:3], points().values[:3]), "power")
    assert "expected at least 3 different sizes" in (refusal(lambda: leave_one_out(three)) or "")
    assert "expected more than 3 points" in (refusal(lambda: profile_interval(three, "alpha")) or "")
    assert "got 2" in (refusal(lambda: predict_largest(three.points, "power")) or "")
