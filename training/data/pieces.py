"""Long texts cut into pieces: a tokenizer needs some hundred times the memory of what it is given at once."""

import re
from collections.abc import Iterator

PIECE = 100_000  # characters
_LOOK = 1000  # characters in which a word's end is looked for
_WORD_END = re.compile(r"\w(?= \w)")


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of at most `PIECE` characters; a short one, an empty one too, as it is.

    A cut is made before the space between two words where there is one: no byte-level tokenizer joins what is on its
    two sides, so the tokens stay those of the whole text. Elsewhere a cut may change the tokens beside it.
    """
    start = 0
    while len(text) - start > PIECE:
        end = _cut(text, start + PIECE)
        yield text[start:end]
        start = end
    yield text[start:]


def paragraph_end(text: str, most: int) -> int:
    """Return a place for a cut, `most` or a little before: a paragraph's end, else a line's or a word's."""
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, most - most // 10, most)
        if found >= 0:
            return found + len(mark)
    return most


def _cut(text: str, most: int) -> int:
    ends = [found.end() for found in _WORD_END.finditer(text, most - _LOOK, most)]
    return ends[-1] if ends else most
