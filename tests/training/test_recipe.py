import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.energy_tables import BitsimError
from bitsim.training.recipe import SCHEDULES, Recipe, compute_batch, compute_rate, kaplan_rate, recipe_for


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(2, 5000), st.integers(0, 400))
def test_rate_rises_to_its_peak_and_falls(schedule: str, steps: int, warmup: int) -> None:
    recipe = Recipe(name="x", peak=1e-3, second=7e-4, schedule=schedule, warmup=min(warmup, steps // 2))
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    top = max(range(steps), key=rates.__getitem__)
    assert all(0 < rate <= 1e-3 for rate in rates)
    assert rates[top] == 1e-3
    assert top <= max(recipe.warmup, 1)
    assert all(later <= earlier for earlier, later in zip(rates[top:], rates[top + 1 :], strict=False))


def test_cosine_and_line_end_at_a_tenth() -> None:
    for schedule in ("cosine", "linear"):
        assert Recipe(name="x", peak=1.0, schedule=schedule, warmup=0).rate_at(1000, 1000) == pytest.approx(0.1)


def test_two_stages_drop_at_half_and_end_at_zero() -> None:
    recipe = Recipe(name="x", peak=1.5e-3, second=1.0e-3, schedule="two-stage", warmup=0)
    assert recipe.rate_at(499, 1000) == pytest.approx(1.5e-3 * 0.501)
    assert recipe.rate_at(500, 1000) == pytest.approx(1.0e-3 * 0.5)
    assert recipe.rate_at(1000, 1000) == 0
    assert [recipe.decay_at(step, 1000) for step in (0, 499, 500, 999)] == [0.1, 0.1, 0, 0]


def test_other_schedules_keep_weight_decay() -> None:
    assert Recipe(name="x", peak=1e-3).decay_at(999, 1000) == 0.1


def test_quantisation_fades_in() -> None:
    recipe = Recipe(name="x", peak=1e-3, strength_steps=4)
    assert [recipe.strength_at(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert Recipe(name="x", peak=1e-3).strength_at(0) == 1


@pytest.mark.parametrize("name", ["study", "bitnet"])
def test_trained_weights_learn_at_a_lower_rate(name: str) -> None:
    fresh, trained = (recipe_for(name, 1e6, 1e7, 512, trained=trained) for trained in (False, True))
    share = trained.peak / fresh.peak
    assert 0 < share < 0.5
    assert replace(trained, peak=fresh.peak, second=fresh.second) == fresh
    if fresh.second is not None:
        assert trained.second == pytest.approx(fresh.second * share)
    assert recipe_for(name, 1e6, 1e7, 512, trained=True, peak=1e-3).peak == 1e-3


def test_kaplan_rate_is_that_of_the_paper() -> None:
    # 2001.08361, equation D.1, at 1e6 and 1e9 parameters by hand
    assert kaplan_rate(1e6) == pytest.approx(0.003239 - 0.0001395 * 13.8155, rel=1e-4)
    assert kaplan_rate(1e9) == pytest.approx(0.003239 - 0.0001395 * 20.7233, rel=1e-4)
    assert kaplan_rate(1e14) == kaplan_rate(1e10) > 0


def test_bitnet_recipe_is_that_of_the_tips_at_their_size() -> None:
    recipe = recipe_for("bitnet", 679.5e6, 100e9, 2048)
    assert recipe.peak == pytest.approx(1.5e-3)
    assert recipe.second == pytest.approx(1e-3)
    assert recipe.warmup == 375
    assert recipe.batch_tokens == 2**20
    assert recipe.schedule == "two-stage"


def test_changes_win() -> None:
    recipe = recipe_for("bitnet", 1e6, 1e7, 512, peak=3e-3, batch_tokens=4096, weight_decay=None)
    assert recipe.second == pytest.approx(2e-3)
    assert recipe.batch_tokens == 4096
    assert recipe.weight_decay == 0.1


@given(st.floats(1e3, 1e13), st.sampled_from([8, 100, 512, 4096]))
def test_default_batch_is_whole_sequences_near_a_quarter_of_the_papers(tokens: float, context: int) -> None:
    sequences, rest = divmod(recipe_for("study", 1e6, tokens, context).batch_tokens, context)
    assert rest == 0
    wanted = min(max(compute_batch(6e6 * tokens) / 4, 2**10), 2**22) / context
    assert sequences == 1 if wanted < 1 else abs(sequences - wanted) <= max(0.5, wanted / 8 + 1e-9)
    assert sequences < 8 or sequences % 2 ** (sequences.bit_length() - 3) == 0  # devices can share them


def test_an_own_batch_is_cut_to_whole_sequences() -> None:
    assert recipe_for("study", 1e6, 1e7, 512, batch_tokens=5000).batch_tokens == 9 * 512
    assert recipe_for("study", 1e6, 1e7, 512, batch_tokens=100).batch_tokens == 512


def test_rate_and_batch_are_those_of_the_paper() -> None:
    # 2401.02954, equation 1, by hand at 1e19 FLOP: 1e19^0.125 = 10^2.375, 1e19^0.3271 = 10^6.2149
    assert compute_rate(1e19) == pytest.approx(0.3118 / 237.137, rel=1e-5)
    assert compute_batch(1e19) == pytest.approx(0.2920 * 1_640_210, rel=1e-4)
    recipe = recipe_for("study", 1e9, 1e19 / 6e9, 2048)
    assert recipe.peak == pytest.approx(0.5 * 0.3118 / 237.137, rel=1e-5)
    assert recipe.batch_tokens == 56 * 2048  # 0.25 x 478,941 tokens are 58.5 sequences


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"peak": 0.0}, "learning rate: expected more than 0"),
        ({"peak": math.nan}, "learning rate: expected"),
        ({"schedule": "cosin"}, "did you mean"),
        ({"weight_decay": 2.0}, "weight decay: expected 0 to 1"),
    ],
)
def test_absurd_recipes_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BitsimError, match=complaint):
        recipe_for("study", 1e6, 1e7, 512, **changes)


def test_unknown_recipe() -> None:
    with pytest.raises(BitsimError, match="expected one of study, bitnet, got 'stdy'"):
        recipe_for("stdy", 1e6, 1e7, 512)
