"""Guesses are what followed the last earlier occurrence, as a search through the whole text finds it."""

from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.generation.lookup import AGREEMENTS, CHANCES, ENDING, Lookup


def slow_guesses(text: list[int], count: int) -> list[int]:
    """Look for the last tokens at every earlier place; what goes beyond the end repeats itself."""
    for place in range(len(text) - 1, ENDING - 1, -1):
        if text[place - ENDING : place] == text[len(text) - ENDING :]:
            grown = list(text)
            for _ in range(count):
                grown.append(grown[len(grown) - (len(text) - place)])
            return grown[len(text) :]
    return []


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), max_size=30), st.integers(1, 20))
def test_guesses_are_those_of_a_search_through_the_text(prompt: list[int], answer: list[int], count: int) -> None:
    lookup = Lookup(prompt)
    for done in range(len(answer) + 1):
        found = lookup.guesses(count) if lookup.chances(count) else []
        assert found == slow_guesses(prompt + answer[:done], count)
        if done < len(answer):
            lookup.add(answer[done])


@given(st.lists(st.integers(0, 1), min_size=3, max_size=40))
def test_chances_never_rise_and_are_chances(text: list[int]) -> None:
    lookup = Lookup(text[:3])
    for token in text[3:]:
        lookup.add(token)
    chances = lookup.chances(15)
    assert len(chances) in (0, 15)
    assert all(0 <= later <= earlier <= 1 for earlier, later in zip([1.0, *chances], chances, strict=False))


def test_chances_follow_what_was_seen() -> None:
    """In a text that repeats itself they rise, where what followed before does not follow again they fall."""
    repeating = Lookup([1, 2, 3, 4, 5] * 3)
    before = repeating.chances(1)[0]
    for token in [1, 2, 3, 4, 5] * 8:
        repeating.add(token)
    assert repeating.chances(1)[0] > max(before, 0.95)
    fooled = Lookup([1, 2, 3])
    for other in range(10, 40):
        for token in (other, 1, 2, 3):
            fooled.add(token)
    assert fooled.chances(1)[0] < CHANCES[0] / 4


def test_the_more_tokens_agree_the_surer() -> None:
    text = list(range(100, 100 + AGREEMENTS[-1] + 5))
    lookup = Lookup(text)
    sure = []
    for token in text[: AGREEMENTS[-1]]:
        lookup.add(token)
        sure += lookup.chances(1)
    assert sure[0] == CHANCES[0]
    assert sure[-1] > CHANCES[-1]
