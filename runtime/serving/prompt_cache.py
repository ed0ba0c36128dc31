"""Finished sequences that are kept, since prompts to come may begin as they do."""

from collections import OrderedDict
from dataclasses import dataclass

from ..generation.conversation import common_prefix
from ..generation.language_model import Sequence
from ..heads.head import Ids


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A sequence, and the tokens that it holds."""

    tokens: Ids
    sequence: Sequence


class PromptCache:
    """Keeps up to `most` tokens; the sequence that was least recently used goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._added = 0

    @property
    def tokens(self) -> int:
        """Tokens kept."""
        return sum(len(kept.tokens) for kept in self._kept.values())

    def keep(self, tokens: Ids, sequence: Sequence) -> None:
        """Take a sequence and what it holds; one that begins as another goes on is not kept beside it."""
        shared = {number: common_prefix(kept.tokens, tokens) for number, kept in self._kept.items()}
        longer = next((number for number, count in shared.items() if count == len(tokens)), None)
        if longer is not None:
            self._kept.move_to_end(longer)
            return
        for number, count in shared.items():
            if count == len(self._kept[number].tokens):
                del self._kept[number]
        if not 0 < len(tokens) <= self._most:
            return
        while self.tokens + len(tokens) > self._most:
            self._kept.popitem(last=False)
        self._kept[self._added] = Kept(tokens, sequence)
        self._added += 1

    def longest(self, tokens: Ids) -> tuple[Sequence | None, int]:
        """Return the sequence that begins with the most of these tokens, and how many; (None, 0) without any."""
        found, most = None, 0
        for number, kept in self._kept.items():
            if (count := common_prefix(kept.tokens, tokens)) > most:
                found, most = number, count
        if found is None:
            return None, 0
        self._kept.move_to_end(found)
        return self._kept[found].sequence, most

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
