"""Tokens of a long text, without the memory that encoding it at once would take: some 150 times the text."""

import numpy as np

from ..heads.head import Ids
from .tokenizer import Tokenizer

PIECE = 1_000_000  # characters encoded at once
_AROUND = 200  # characters on each side that must be encoded alike with and without a cut
_TRIES = 20  # ends of lines to look at


def encode_long(tokenizer: Tokenizer, text: str) -> Ids:
    """Return the tokens of a text, the first one as the model's rules say, control tokens read as text.

    It is cut after ends of lines where a cut changes no token. Some tokenizers begin every text with a space of their
    own; those get the text at once.
    """
    pieces: list[Ids] = []
    start = 0
    while start < len(text) or not pieces:
        end = _cut(tokenizer, text, start + PIECE)
        pieces.append(tokenizer.encode(text[start:end], bos=start == 0, control=False))
        start = end
    return np.concatenate(pieces)


def _cut(tokenizer: Tokenizer, text: str, place: int) -> int:
    """Return a good place for a cut at `place` or later; the end of the text where there is none soon."""
    for _ in range(_TRIES):
        place = text.find("\n", place) + 1
        if place == 0:
            break
        before, after = text[max(0, place - _AROUND) : place], text[place : place + _AROUND]
        together, *apart = (tokenizer.encode(part, control=False) for part in (before + after, before, after))
        if np.array_equal(together, np.concatenate(apart)):
            return place
    return len(text)
