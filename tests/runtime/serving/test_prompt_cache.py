"""What is kept for prompts to come: the longest shared beginning, and never more tokens than allowed."""

import numpy as np
from fake_language_model import FakeSequence
from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.serving.prompt_cache import PromptCache

texts = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def sequence() -> FakeSequence:
    return FakeSequence(16, 1)


def shared(one: list[int], other: list[int]) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), min(len(one), len(other))
    )


@given(st.lists(texts, max_size=10), texts)
def test_with_room_for_all_the_longest_is_found(kept: list[list[int]], prompt: list[int]) -> None:
    cache = PromptCache(1000)
    sequences = {}
    for text in kept:
        made = sequence()
        sequences[id(made)] = text
        cache.keep(np.array(text), made)
    found, count = cache.longest(np.array(prompt))
    assert count == max((shared(text, prompt) for text in kept), default=0)
    if count:
        assert shared(sequences[id(found)], prompt) == count
    else:
        assert found is None


@given(st.lists(texts, max_size=20), st.integers(0, 20))
def test_no_more_than_allowed_and_the_last_is_there(kept: list[list[int]], most: int) -> None:
    cache = PromptCache(most)
    for text in kept:
        cache.keep(np.array(text), sequence())
        assert cache.tokens <= most
        if len(text) <= most:
            assert cache.longest(np.array(text))[1] == len(text)
    cache.clear()
    assert cache.tokens == 0


def test_what_was_least_recently_used_goes_first() -> None:
    cache = PromptCache(6)
    for first in (1, 2, 3):
        cache.keep(np.array([first, 0]), sequence())
    assert cache.longest(np.array([1, 0]))[1] == 2
    cache.keep(np.array([4, 0]), sequence())
    assert [cache.longest(np.array([first]))[1] for first in (1, 2, 3, 4)] == [1, 0, 1, 1]


def test_a_beginning_is_not_kept_beside_what_goes_on_from_it() -> None:
    cache = PromptCache(100)
    long, short = sequence(), sequence()
    cache.keep(np.array([1, 2]), short)
    cache.keep(np.array([1, 2, 3]), long)
    assert cache.tokens == 3
    cache.keep(np.array([1]), short)
    assert cache.tokens == 3
    assert cache.longest(np.array([1, 2]))[0] is long
