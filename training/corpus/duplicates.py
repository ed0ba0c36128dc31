"""Paragraphs that a corpus has twice are kept once."""

from hashlib import blake2b

_LEAST = 80  # characters; what is shorter (`Chapter 1`, `[Exeunt.]`) belongs where it stands


class Seen:
    """The paragraphs met so far.

    Attributes:
        removed: how many paragraphs were left out.
        removed_bytes: their size in UTF-8.
    """

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self.removed = 0
        self.removed_bytes = 0

    def without_known(self, text: str) -> str:
        """Return a text without the long paragraphs that were met before, here or in another text."""
        return "\n\n".join(part for part in text.split("\n\n") if not self._is_known(part))

    def _is_known(self, part: str) -> bool:
        if len(part) < _LEAST:
            return False
        content = part.encode()
        key = blake2b(content, digest_size=16).digest()
        if key not in self._known:
            self._known.add(key)
            return False
        self.removed += 1
        self.removed_bytes += len(content)
        return True
