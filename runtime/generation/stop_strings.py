"""Strings that end an answer, found though they come in pieces."""

from collections.abc import Sequence

from bitsim.energy_tables import BitsimError


class StopStrings:
    """Passes text on, up to the first of some strings; holds back what may still become one of them."""

    def __init__(self, strings: Sequence[str]) -> None:
        """Take the strings; an empty one is refused."""
        if not all(strings):
            raise BitsimError("stop: expected a text, got an empty one")
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take more text; return what surely comes before any stop string. After one is `found` nothing comes."""
        if self.found:
            return ""
        text = self._held + text
        places = [place for string in self._strings if (place := text.find(string)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """Return what was held back: no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Return how many characters at the end of the text begin the string."""
    longest = min(len(text), len(string) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(string[:count])), 0)
