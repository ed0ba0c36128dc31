"""Guesses at what a text goes on with: what followed when its last tokens stood in it before.

Prompt lookup decoding (A. Saxena, 2023; the same as LLMA, arXiv 2304.04487, with the text itself as reference). Each
guess is also a measurement: whether the next token is the one foretold is counted for every token, drafted or not.
"""

from collections.abc import Iterable

ENDING = 3  # tokens that must agree
# Chances by how many tokens agree (up to so many), before anything is known, and how many draws that counts as.
AGREEMENTS = (3, 5, 8, 16)
CHANCES = (0.3, 0.5, 0.7, 0.9)
BELIEF = 2.0
MEMORY = 0.9  # weight of what was seen one draw earlier


class Lookup:
    """One text as it grows."""

    def __init__(self, tokens: Iterable[int]) -> None:
        """Take the text so far."""
        self._tokens = list(tokens)
        self._places: dict[tuple[int, ...], int] = {}  # an ending, and what follows its last occurrence
        self._right, self._seen = [0.0] * len(AGREEMENTS), [0.0] * len(AGREEMENTS)
        for end in range(ENDING, len(self._tokens)):
            self._places[tuple(self._tokens[end - ENDING : end])] = end
        self._follow = self._agreed = 0  # place that guesses begin at (0: none), tokens before it that agree
        self._look()

    def add(self, token: int) -> None:
        """Take the next token."""
        if self._follow:
            kind = _kind(self._agreed)
            self._right[kind] = self._right[kind] * MEMORY + (token == self._tokens[self._follow])
            self._seen[kind] = self._seen[kind] * MEMORY + 1
        self._tokens.append(token)
        self._look()

    def chances(self, most: int) -> list[float]:
        """Return how likely each of the next `most` guesses is right, all before it being right; empty without any."""
        chances: list[float] = []
        chance = 1.0
        for ahead in range(most if self._follow else 0):
            chance *= self._chance(_kind(self._agreed + ahead))
            chances.append(chance)
        return chances

    def guesses(self, count: int) -> list[int]:
        """Return the next tokens as foretold; what goes beyond the end of the text repeats itself."""
        period = len(self._tokens) - self._follow
        return [self._tokens[self._follow + ahead % period] for ahead in range(count)]

    def _look(self) -> None:
        """Find where the last tokens stood before, and keep where they stand now."""
        end = len(self._tokens)
        ending = tuple(self._tokens[-ENDING:])
        self._follow = self._places.get(ending, 0) if end >= ENDING else 0
        self._places[ending] = end
        self._agreed = 0
        while self._agreed < min(self._follow, AGREEMENTS[-1]) and self._agrees(end):
            self._agreed += 1

    def _agrees(self, end: int) -> bool:
        return self._tokens[self._follow - self._agreed - 1] == self._tokens[end - self._agreed - 1]

    def _chance(self, kind: int) -> float:
        return (self._right[kind] + CHANCES[kind] * BELIEF) / (self._seen[kind] + BELIEF)


def _kind(agreed: int) -> int:
    """Return which of the `AGREEMENTS` this is."""
    return next((kind for kind, most in enumerate(AGREEMENTS) if agreed <= most), len(AGREEMENTS) - 1)
