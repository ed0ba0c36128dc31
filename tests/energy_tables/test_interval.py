"""Interval keeps low <= mid <= high."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.energy_tables import CORNERS, Interval

NUMBERS = st.floats(0.0, 1e30)
INTERVALS = st.lists(NUMBERS, min_size=3, max_size=3).map(lambda values: Interval(*sorted(values)))


@pytest.mark.parametrize(
    "values", [(2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (3.0, 2.0, 1.0), (1.0, math.nan, 2.0), (math.nan,) * 3]
)
def test_disorder_and_nan_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected low <= mid <= high"):
        Interval(*values)


def test_an_exact_value_has_no_range() -> None:
    exact = Interval.exact(2.0)
    assert list(exact) == [2.0, 2.0, 2.0]
    assert exact.is_exact
    assert not Interval(1.0, 2.0, 3.0).is_exact


def test_corners_are_read_by_name() -> None:
    interval = Interval(1.0, 2.0, 3.0)
    assert [interval.at(corner) for corner in CORNERS] == list(interval) == [1.0, 2.0, 3.0]


@given(NUMBERS, NUMBERS, NUMBERS)
def test_spanning_keeps_mid_and_covers_all_three(low: float, mid: float, high: float) -> None:
    spanning = Interval.spanning(low, mid, high)
    assert spanning.mid == mid
    assert (spanning.low, spanning.high) == (min(low, mid, high), max(low, mid, high))


@given(INTERVALS, INTERVALS, st.floats(0.0, 1e30))
def test_sums_and_multiples_go_corner_by_corner(one: Interval, two: Interval, factor: float) -> None:
    assert list(one + two) == [a + b for a, b in zip(one, two, strict=True)]
    assert list(one.scaled(factor)) == [value * factor for value in one]
