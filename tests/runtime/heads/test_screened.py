"""The screened head against the full one, bit for bit; the full head against numpy."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.checkpoint import Dense
from bitsim.runtime.heads import quarter_choice
from bitsim.runtime.heads.exact import ExactHead
from bitsim.runtime.heads.head import Candidates
from bitsim.runtime.heads.int8 import Int8Head
from bitsim.runtime.heads.screen import Screen
from bitsim.runtime.heads.screen_build import build_screen
from bitsim.runtime.heads.screened import ScreenedHead
from bitsim.runtime.threads import Team

Float32 = npt.NDArray[np.float32]

SHAPES = [(1, 1), (2, 3), (5, 1), (63, 2), (70, 9), (300, 17), (1000, 48), (5003, 77), (9000, 130)]
ASKED = [1, 40, 200]
MARGINS = [0.0, 0.5, 3.0, 20.0]


@pytest.fixture(scope="module", params=[1, 2, 3])
def team(request: pytest.FixtureRequest) -> Iterator[Team]:
    with Team(request.param) as team:
        yield team


@pytest.fixture(scope="module")
def alone() -> Iterator[Team]:
    with Team(1) as team:
        yield team


def dense(weights: npt.NDArray[Any], brain: bool = False) -> Dense:
    if brain:
        return Dense((weights.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), True)
    return Dense(weights.astype(np.float16).view(np.uint16))


def uneven(random: np.random.Generator, rows: int, columns: int, decay: float = 4.0) -> Float32:
    """Normal numbers around a mean, of very different sizes in different directions."""
    sizes = np.exp(-decay * random.random(columns))
    turned = (random.normal(size=(rows, columns)) * sizes) @ np.linalg.qr(random.normal(size=(columns, columns)))[0]
    return np.asarray(turned + random.normal(size=columns), np.float32)


def same(screened: list[Candidates], exact: list[Candidates]) -> None:
    assert len(screened) == len(exact)
    for mine, right in zip(screened, exact, strict=True):
        assert mine.ids.dtype == np.int64
        assert np.array_equal(mine.ids, right.ids)
        assert np.array_equal(mine.logits.view(np.uint32), right.logits.view(np.uint32))


def agree(weights: Dense, hidden: Float32, team: Team, calibration: Float32 | None = None, **options: Any) -> Any:
    """Compare all answers; return the screened head."""
    exact, screened = (
        ExactHead(weights, team),
        ScreenedHead(weights, build_screen(weights, calibration), team, **options),
    )
    for count in ASKED:
        same(screened.top(hidden, count), exact.top(hidden, count))
    for margin in MARGINS:
        same(screened.within(hidden, margin), exact.within(hidden, margin))
    assert np.array_equal(screened.logits(hidden), exact.logits(hidden))
    return screened


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes(team: Team, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    weights, hidden = uneven(random, *shape), uneven(random, 3, shape[1])
    agree(dense(weights), hidden, team)
    agree(dense(weights, brain=True), hidden, team, uneven(random, 50, shape[1]))


@pytest.mark.parametrize("name", [kernel.name for kernel in quarter_choice.available()])
def test_every_kernel(alone: Team, name: str) -> None:
    random = np.random.default_rng(3)
    kernel = next(kernel for kernel in quarter_choice.available() if kernel.name == name)
    head = agree(dense(uneven(random, 6000, 90)), uneven(random, 5, 90), alone, kernel=kernel)
    assert head.counts.fallbacks < head.counts.answers


@pytest.mark.parametrize("sequences", [1, 2, 7, 15, 16, 17, 40])
def test_any_number_of_sequences(team: Team, sequences: int) -> None:
    random = np.random.default_rng(sequences)
    weights = dense(random.normal(size=(20_000, 64)))
    head = agree(weights, random.normal(size=(sequences, 64)).astype(np.float32), team)
    assert head.counts.answers == 7 * sequences
    assert head.counts.all_logits == sequences
    head = ScreenedHead(weights, build_screen(weights), team)
    assert head.top(np.empty((0, 64), np.float32), 1) == []


def test_few_rows_are_looked_at_again_and_counted(team: Team) -> None:
    random = np.random.default_rng(0)
    weights = dense(random.normal(size=(20_000, 256)))
    hidden = weights.as_float32()[[5, 17]] + random.normal(size=(2, 256)).astype(np.float32)
    head = ScreenedHead(weights, build_screen(weights), team)
    assert [int(answer.ids[0]) for answer in head.top(hidden, 1)] == [5, 17]
    assert head.counts.fallbacks == 0
    assert 2 * 64 <= head.counts.rows < 2 * 200
    assert head.bytes_read == head.screen_bytes + head.counts.rows * 512
    assert head.screen_bytes < 0.2 * weights.bits.nbytes


def test_ties_go_to_the_lowest_ids(team: Team) -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(6000, 40)).astype(np.float32)
    weights[random.integers(0, 6000, 500)] = weights[77]
    weights[4000:4100] = 3 * weights[77]
    hidden = weights[[77, 77]] * np.array([[2], [-1]], np.float32)
    head = agree(dense(weights), hidden, team)
    assert head.top(hidden, 3)[0].ids.tolist() == [4000, 4001, 4002]


def test_huge_rows_zero_rows_and_states_of_zeros(team: Team) -> None:
    random = np.random.default_rng(2)
    weights = uneven(random, 8000, 100)
    weights[random.integers(0, 8000, 30)] *= 1000
    weights[random.integers(0, 8000, 300)] = 0
    hidden = uneven(random, 4, 100)
    hidden[0] = 0
    hidden[1] *= 1000
    hidden[2] = random.normal(size=100) * 1e-6
    agree(dense(weights), hidden, team)
    agree(dense(weights), hidden, team, uneven(random, 20, 100))
    agree(dense(np.zeros((300, 20))), hidden[:, :20], team)
    agree(dense(np.ones((5000, 20))), hidden[:, :20], team)


def test_the_full_head_answers_where_the_screen_can_not(alone: Team) -> None:
    random = np.random.default_rng(4)
    weights = dense(random.normal(size=(20_000, 64)))
    hidden = random.normal(size=(3, 64)).astype(np.float32)
    hidden[1] = 0  # all rows are equally good
    exact, head = ExactHead(weights, alone), ScreenedHead(weights, build_screen(weights), alone)
    same(head.top(hidden, 1), exact.top(hidden, 1))
    assert head.counts.fallbacks == 1
    same(head.top(hidden, 6000), exact.top(hidden, 6000))
    assert head.counts.fallbacks == 4
    assert head.counts.answers == 6
    with pytest.raises(ValueError, match="expected 1 or more"):
        head.top(hidden, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_states_that_are_not_finite_or_too_large(alone: Team, bad: float) -> None:
    random = np.random.default_rng(5)
    weights = dense(random.normal(size=(9000, 32)))
    hidden = random.normal(size=(2, 32)).astype(np.float32)
    hidden[1, 3] = bad
    exact, head = ExactHead(weights, alone), ScreenedHead(weights, build_screen(weights), alone)
    with np.errstate(invalid="ignore"):
        same(head.top(hidden, 5), exact.top(hidden, 5))
        same(head.within(hidden, 1.0), exact.within(hidden, 1.0))
    assert head.counts.fallbacks == 2


def test_a_damaged_screen_is_noticed(alone: Team) -> None:
    random = np.random.default_rng(6)
    weights = dense(random.normal(size=(9000, 128)))
    screen = build_screen(weights)
    arrays = screen.arrays() | {"scales": np.roll(screen.scales * np.float32(3), 1)}
    head = ScreenedHead(weights, Screen.from_arrays(arrays, 9000, 128), alone)
    hidden = random.normal(size=(4, 128)).astype(np.float32)
    same(head.top(hidden, 3), ExactHead(weights, alone).top(hidden, 3))
    assert head.counts.fallbacks == 4


def test_deviations_are_normal(alone: Team) -> None:
    # Of 2 million normal numbers the largest is about 5.1; the bound says that exp(-c^2 / 2) of them are beyond c.
    random = np.random.default_rng(7)
    weights, hidden = dense(uneven(random, 20_000, 192)), uneven(random, 100, 192)
    screen = build_screen(weights, uneven(random, 300, 192))
    head = ScreenedHead(weights, screen, alone)
    exact, errors = ExactHead(weights, alone).logits(hidden), []
    for state, logits in zip(hidden, exact, strict=True):
        head.top(state[None], 1)
        memory = head._memory
        residuals = (screen.errors[:20_000] & np.uint32(0xFFFF0000)).view(np.float32) * memory.facts[0, 0]
        errors.append((logits - memory.estimates[0, :20_000]) / residuals)
    z = np.concatenate(errors)
    assert z.mean() == pytest.approx(0, abs=0.05)
    assert z.std() == pytest.approx(1, abs=0.02)
    assert np.abs(z).max() < 6
    for c in (2, 3, 4):
        assert (z > c).mean() < np.exp(-(c**2) / 2)
        assert (np.abs(z) > c).mean() == pytest.approx(math.erfc(c / math.sqrt(2)), rel=0.3, abs=2e-5)


def test_arrays_come_back(alone: Team) -> None:
    random = np.random.default_rng(8)
    weights = dense(random.normal(size=(300, 20)))
    arrays = build_screen(weights, seed=3).arrays()
    for array in arrays.values():
        array.setflags(write=False)  # as mapped from a file
    head = ScreenedHead(weights, Screen.from_arrays(arrays, 300, 20), alone)
    hidden = random.normal(size=(2, 20)).astype(np.float32)
    same(head.top(hidden, 2), ExactHead(weights, alone).top(hidden, 2))
    with pytest.raises(BitsimError, match="'codes' is missing"):
        Screen.from_arrays({name: array for name, array in arrays.items() if name != "codes"}, 300, 20)
    with pytest.raises(BitsimError, match=r"screen of the head, rotation: expected .* \(21, 32\)"):
        Screen.from_arrays(arrays, 300, 21)


def test_the_same_seed_gives_the_same_screen() -> None:
    weights = dense(np.random.default_rng(9).normal(size=(100, 20)))
    first, second, other = (build_screen(weights, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(array, second.arrays()[name]) for name, array in first.arrays().items())
    assert not np.array_equal(first.codes, other.codes)


def test_wrong_numbers_are_refused() -> None:
    weights = dense(np.random.default_rng(10).normal(size=(100, 20)))
    with pytest.raises(BitsimError, match=r"hidden states: expected \(states, 20\), got \(5, 21\)"):
        build_screen(weights, np.zeros((5, 21), np.float32))
    with pytest.raises(BitsimError, match="hidden states: expected finite numbers"):
        build_screen(weights, np.full((5, 20), np.nan, np.float32))
    with pytest.raises(BitsimError, match="weights of the head: expected finite numbers"):
        build_screen(dense(np.full((5, 20), np.inf)))
    with pytest.raises(BitsimError, match="expected rows and columns, got 0 x 20"):
        build_screen(dense(np.zeros((0, 20))))


def test_progress_goes_from_nothing_to_all() -> None:
    shares: list[float] = []
    build_screen(dense(np.random.default_rng(11).normal(size=(9000, 20))), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize("brain", [False, True])
def test_the_full_head_against_numpy(team: Team, brain: bool) -> None:
    random = np.random.default_rng(12)
    for rows, columns, sequences in ((1, 1, 1), (70, 19, 2), (300, 64, 5), (1000, 100, 17)):
        weights = dense(random.normal(size=(rows, columns)), brain)
        hidden = random.normal(size=(sequences, columns)).astype(np.float32)
        head = ExactHead(weights, team)
        logits = head.logits(hidden)
        assert logits == pytest.approx(hidden.astype(float) @ weights.as_float32().T.astype(float), abs=1e-4)
        for answer, right in zip(head.top(hidden, 7), logits, strict=True):
            assert answer.ids.tolist() == np.lexsort((np.arange(rows), -right))[:7].tolist()
            assert np.array_equal(answer.logits, right[answer.ids])
        for answer, right in zip(head.within(hidden, 1.5), logits, strict=True):
            assert set(answer.ids.tolist()) == set(np.flatnonzero(right >= right.max() - np.float32(1.5)).tolist())
            assert (np.diff(answer.logits) <= 0).all()


def test_the_head_at_eight_bits(team: Team) -> None:
    random = np.random.default_rng(13)
    for rows, columns, sequences in ((1, 1, 1), (70, 19, 3), (300, 64, 5), (1003, 100, 17)):
        weights = random.normal(size=(rows, columns)).astype(np.float16)
        weights[0] = 0
        hidden = random.normal(size=(sequences, columns)).astype(np.float32)
        head, full = Int8Head(dense(weights), team), weights.astype(np.float32)
        logits = head.logits(hidden)
        bound = np.abs(full).max(axis=1) / 254 * np.abs(hidden).sum(axis=1)[:, None]
        assert (np.abs(logits - hidden @ full.T) <= bound * 1.001 + 1e-4).all()
        assert np.array_equal(np.concatenate([head.logits(state[None]) for state in hidden]), logits)
        for answer, right in zip(head.top(hidden, 3), logits, strict=True):
            assert np.array_equal(answer.logits, np.sort(right)[::-1][:3])
        assert all(len(answer.ids) >= 1 for answer in head.within(hidden, 0.0))
