"""Draws: as transformers' warpers leave the tokens, and the same whether the head was asked for few logits or all."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from fake_language_model import FakeHead
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation import Sampling, sampling
from bitsim.runtime.generation.sampler import Draw, Sampler, choose
from bitsim.runtime.heads.head import Candidates, Float32

VOCAB = 60

settings_drawn = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 40, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.1, 3.0]),
    seed=st.integers(0, 2**63 - 1),
)


def drawn_logits(seed: int, *, tied: bool = False) -> Float32:
    logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32) * 3
    return np.round(logits) if tied else logits


def warped(logits: Float32, seen: Iterable[int], how: Sampling) -> Any:
    """The probabilities that transformers' processors leave, in our order."""
    scores = torch.tensor(logits)[None]
    ids = torch.tensor([list(seen)])
    chain: list[Any] = []
    if how.repetition_penalty > 1:
        chain.append(transformers.RepetitionPenaltyLogitsProcessor(how.repetition_penalty))
    if how.top_k:
        chain.append(transformers.TopKLogitsWarper(how.top_k))
    if how.top_p < 1:
        chain.append(transformers.TopPLogitsWarper(how.top_p))
    if how.min_p:
        chain.append(transformers.MinPLogitsWarper(how.min_p))
    for warper in chain:
        scores = warper(ids, scores)
    return torch.softmax(scores[0].double() / how.temperature, -1).numpy()


def slow_pick(logits: Float32, seen: Iterable[int], how: Sampling, uniform: float) -> int:
    """The definition, over all tokens one by one."""
    penalty = np.float32(how.repetition_penalty)
    values = dict(enumerate(logits))
    for token in set(seen):
        values[token] = values[token] * penalty if values[token] < 0 else values[token] / penalty
    left = sorted(values, key=lambda token: (-values[token], token))
    if how.temperature == 0:
        return left[0]
    left = left[: how.top_k or None]
    relative = [float(np.exp(np.float64(values[token]) - np.float64(values[left[0]]))) for token in left]
    mass, kept = 0.0, []
    for token, weight in zip(left, relative, strict=True):
        if how.top_p == 1 or mass < how.top_p * sum(relative):
            kept.append(token)
        mass += weight
    left = [token for token, weight in zip(kept, relative, strict=False) if weight >= how.min_p]
    if not (how.top_k or how.top_p < 1 or how.min_p or how.repetition_penalty > 1):
        left.sort()
    largest = max(float(values[token]) for token in left)
    shares = [float(np.exp((np.float64(values[token]) - largest) / how.temperature)) for token in left]
    goal, reached = uniform * sum(shares), 0.0
    for token, share in zip(left, shares, strict=True):
        reached += share
        if reached > goal:
            return token
    return left[-1]


@given(st.integers(0, 2**32), settings_drawn, st.lists(st.integers(0, VOCAB - 1), max_size=30), st.booleans())
@settings(max_examples=300)
def test_picks_are_those_of_the_definition_over_all_logits(
    seed: int, how: Sampling, seen: list[int], tied: bool
) -> None:
    logits = drawn_logits(seed, tied=tied)
    sampler = Sampler(how, seen)
    uniforms = np.random.Generator(np.random.PCG64(how.seed))
    head = FakeHead(logits[:, None])
    hidden = np.ones((1, 1), np.float32)
    for _ in range(3):
        (drawn,) = choose(head, hidden, [Draw(sampler)])
        assert isinstance(drawn, list)
        (token,) = drawn
        uniform = 0.0 if how.greedy else uniforms.random()
        assert token == slow_pick(logits, seen, how, uniform)
        seen = [*seen, token]


@given(st.integers(0, 2**32), settings_drawn, st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30))
@settings(max_examples=200)
def test_probabilities_are_those_of_transformers(seed: int, how: Sampling, seen: list[int]) -> None:
    if how.greedy:
        return
    logits = drawn_logits(seed)
    everything = Candidates(np.arange(VOCAB), logits)
    if how.repetition_penalty > 1:
        everything = sampling.penalised(everything, np.array(sorted(set(seen)), np.int64), how.repetition_penalty)
    left = Sampler(how, [])._filtered(sampling.ordered(everything))
    found = np.zeros(VOCAB)
    weights = sampling.weights(left.logits, how.temperature)
    found[left.ids] = weights / weights.sum()
    np.testing.assert_allclose(found, warped(logits, seen, how), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("how", "seen", "asked"),
    [
        (Sampling(), 0, ("top", 1)),
        (Sampling(top_k=40, top_p=0.9, min_p=0.1), 0, ("top", 1)),
        (Sampling(temperature=1, top_k=40), 0, ("top", 40)),
        (Sampling(temperature=1, top_k=4000), 0, ("top", VOCAB)),
        (Sampling(temperature=1, top_k=5, top_p=0.9, min_p=0.1), 0, ("top", 5)),
        (Sampling(repetition_penalty=1.1), 6, ("top", 8)),
        (Sampling(temperature=1, top_k=10, repetition_penalty=1.1), 6, ("top", 16)),
        (Sampling(temperature=1, min_p=0.1), 0, ("within", 2.31)),
        (Sampling(temperature=1, min_p=0.1, top_p=0.9), 0, ("logits", 0)),
        (Sampling(temperature=1, min_p=0.1, repetition_penalty=1.1), 6, ("logits", 0)),
        (Sampling(temperature=1, top_p=0.9), 0, ("logits", 0)),
        (Sampling(temperature=1), 0, ("logits", 0)),
    ],
)
def test_the_head_is_asked_no_more_than_needed(how: Sampling, seen: int, asked: tuple[str, float]) -> None:
    head = FakeHead(drawn_logits(1)[:, None])
    choose(head, np.ones((1, 1), np.float32), [Draw(Sampler(how, range(seen)))])
    ((question, amount, rows),) = head.asked
    assert (question, rows) == (asked[0], 1)
    assert amount == pytest.approx(asked[1], abs=0.01)


def test_equal_questions_reach_the_head_together_and_answers_do_not_depend_on_company() -> None:
    head = FakeHead(np.random.default_rng(0).normal(size=(VOCAB, 4)).astype(np.float32))
    hidden = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    kinds = [Sampling(), Sampling(temperature=1, top_k=5, seed=1), Sampling(temperature=2, seed=2)] * 2
    together = choose(head, hidden, [Draw(Sampler(kind, [])) for kind in kinds])
    assert sorted(head.asked) == [("logits", 0, 2), ("top", 1, 2), ("top", 5, 2)]
    alone = [choose(head, hidden[row : row + 1], [Draw(Sampler(kind, []))])[0] for row, kind in enumerate(kinds)]
    assert together == alone


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(Sampling(temperature=1, seed=3), [])
    found = np.bincount([sampler.pick(Candidates(np.arange(4), logits)) for _ in range(20_000)], minlength=4) / 20_000
    np.testing.assert_allclose(found, [0.5, 0.3, 0.15, 0.05], atol=0.012)


def test_equal_seeds_give_equal_draws_and_no_seed_gives_others() -> None:
    logits = Candidates(np.arange(VOCAB), drawn_logits(5))

    def drawn(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=5, seed=seed), [])
        return [sampler.pick(logits) for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(None) != drawn(None)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("temperature", [-1, float("nan"), float("inf"), "hot", None, True, 101]),
        ("top_k", [-1, 1.5, 40.0, "x", 2**31]),
        ("top_p", [0, -0.1, 1.1, float("nan")]),
        ("min_p", [-0.1, 1.1, float("nan")]),
        ("repetition_penalty", [0.9, 0, float("inf")]),
        ("seed", [-1, 1.5, 2**64, 10**400]),
    ],
)
def test_wrong_settings_are_named(option: str, values: list[Any]) -> None:
    for value in values:
        said = refusal(lambda value=value: Sampling(**{option: value}))  # type: ignore[misc]
        assert said is not None, (option, value)
        assert said.startswith(f"{option}: expected a")


def test_the_lowest_temperature_is_greedy() -> None:
    logits = Candidates(np.arange(VOCAB), drawn_logits(2))
    sampler = Sampler(Sampling(temperature=5e-324, seed=0), [])
    assert {sampler.pick(logits) for _ in range(20)} == {int(logits.logits.argmax())}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_refused(wrong: float) -> None:
    logits = drawn_logits(0)
    logits[3] = wrong
    said = refusal(lambda: Sampler(Sampling(temperature=1), []).pick(Candidates(np.arange(VOCAB), logits)))
    assert said is not None
    assert "no finite numbers" in said
