"""Strings that end an answer, found though they come in pieces."""

from collections.abc import Sequence

from bitsim.energy_tables import BitsimError


class StopStrings:
    """Passes text on, up to the first of some strings; holds back what may still become one of them."""

    def __init__(self, strings: Sequence[str]) -> None:
        """Take the strings; an empty one is refused."""
        if not all(strings):
            raise BitsimError("stop: expected a text, got an empty one")
        self._searches = [_Search(string) for string in dict.fromkeys(strings)]
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take more text; return what surely comes before any stop string. After one is `found` nothing comes."""
        if self.found:
            return ""
        before = len(self._held)
        places = [before + place for search in self._searches if (place := search.feed(text)) is not None]
        text = self._held + text
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        kept = max((search.begun for search in self._searches), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """Return what was held back: no more text comes."""
        held, self._held = self._held, ""
        return held


class _Search:
    """Looks for one string, each character once, however long the string is.

    D. E. Knuth, J. H. Morris, V. R. Pratt, "Fast pattern matching in strings", SIAM J. Comput. 6, 1977.
    """

    def __init__(self, string: str) -> None:
        self._string = string
        self._shorter = [0]  # of each beginning, the length of the longest shorter one that it ends with
        self.begun = 0  # characters at the end of the text that begin the string
        for character in string[1:]:
            self._shorter.append(self._next(self._shorter[-1], character))

    def feed(self, text: str) -> int | None:
        """Take more text; return where the string begins, counted from the start of `text`, or None."""
        for place, character in enumerate(text):
            self.begun = self._next(self.begun, character)
            if self.begun == len(self._string):
                return place + 1 - self.begun
        return None

    def _next(self, begun: int, character: str) -> int:
        while begun and self._string[begun] != character:
            begun = self._shorter[begun - 1]
        return begun + (self._string[begun] == character)
