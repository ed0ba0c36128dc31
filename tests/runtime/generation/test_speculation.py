"""How many guesses are taken along: as many as make tokens come quickest, tried against all numbers there are."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.generation.speculation import ADVANTAGE, STALE, Speculation, seconds_of


def with_costs(costs: dict[int, float]) -> Speculation:
    made = Speculation()
    for _ in range(3):
        for tokens, seconds in costs.items():
            made.note(tokens, seconds)
    return made


def falling(factors: list[float]) -> list[float]:
    chance, found = 1.0, []
    for factor in factors:
        chance *= factor
        found.append(chance)
    return found


all_chances = st.lists(st.lists(st.floats(0.1, 1), max_size=3).map(falling), min_size=1, max_size=3)


@given(all_chances, st.lists(st.floats(0.1, 1.2), min_size=12, max_size=12))
def test_no_other_numbers_promise_more_tokens_a_second(chances: list[list[float]], slopes: list[float]) -> None:
    costs = {1: 1.0}
    for tokens, slope in enumerate(slopes, 2):
        costs[tokens] = costs[tokens - 1] + slope

    def rate(counts: list[int]) -> float:
        tokens = len(chances) + sum(counts)
        right = sum(sum(each[:count]) for each, count in zip(chances, counts, strict=True))
        return (len(chances) + right) / costs[tokens]

    counts = with_costs(costs).counts(chances)
    best = max(rate(list(some)) for some in product(*(range(len(each) + 1) for each in chances)))
    if any(counts):
        assert rate(counts) == pytest.approx(best)
        assert rate(counts) > ADVANTAGE * rate([0] * len(chances))
    else:
        assert best <= ADVANTAGE * rate(counts) + 1e-9


def test_a_step_whose_cost_is_unknown_is_done_without_guesses() -> None:
    speculation = Speculation()
    sure = [[1.0, 1.0]]
    for _ in range(2):
        assert speculation.counts(sure) == [0]
        speculation.note(1, 1.0)
    assert speculation.counts(sure) == [2]
    assert speculation.counts([[1.0], [1.0]]) == [0, 0]


def test_the_first_step_of_a_size_does_not_count_and_what_disturbs_does_not_either() -> None:
    speculation = with_costs({1: 1.0, 2: 1.2})
    speculation.note(1, 50.0)
    assert speculation.counts([[0.9]]) == [1]
    compiling = with_costs({1: 1.0})
    compiling.note(2, 1000.0)
    assert compiling.counts([[0.9]]) == [1]


def test_what_does_not_pay_is_left_and_tried_again_much_later() -> None:
    speculation = with_costs({1: 1.0, 2: 5.0})
    assert speculation.counts([[0.99]]) == [0]
    for _ in range(STALE):
        speculation.note(1, 1.0)
    assert speculation.counts([[0.99]]) == [1]


def test_between_and_beyond_what_is_known() -> None:
    assert seconds_of({1: 1.0}, 3) == pytest.approx(2.0)
    assert seconds_of({1: 1.0, 5: 3.0}, 3) == pytest.approx(2.0)
    assert seconds_of({1: 1.0, 3: 1.5, 5: 3.0}, 9) == pytest.approx(5.0)


def test_always_takes_all_there_are() -> None:
    assert Speculation(always=True).counts([[0.1, 0.01], [], [0.5]]) == [2, 0, 1]
