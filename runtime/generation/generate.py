"""Answers to one prompt, piece by piece, or to several at once.

Where text repeats, a step takes guessed tokens along and may give several; the answers are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..heads.head import Ids
from .language_model import LanguageModel
from .sampling import Sampling
from .session import Piece, Request, Session
from .speculation import Speculation
from .tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: its text, all its tokens, and why it ended (see `Piece`)."""

    text: str
    tokens: tuple[int, ...]
    finish: str


def generate(
    model: LanguageModel,
    prompt: str | Ids,
    *,
    max_new_tokens: int | None = 256,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
) -> Iterator[Piece]:
    """Return an iterator over the answer's tokens, with their text as soon as it is certain.

    Args:
        model: what answers.
        prompt: text, or tokens as they are.
        max_new_tokens: the answer's length at most; None for as long as the context lasts.
        sampling: how tokens are drawn; greedy without.
        stop: texts that end the answer and are not part of it.
        tokenizer: the model's, if it was read before.

    Raises:
        BitsimError: at once, for a prompt that is too long, or settings that have no meaning.
    """
    request = Request(prompt=prompt, max_new_tokens=max_new_tokens, sampling=sampling or Sampling(), stop=tuple(stop))
    session = Session(model, tokenizer, speculation=Speculation())
    session.add(request)
    return _pieces(session)


def _pieces(session: Session) -> Iterator[Piece]:
    while session.active:
        yield from session.step()


def generate_batch(
    model: LanguageModel, requests: Sequence[Request], *, together: int = 8, tokenizer: Tokenizer | None = None
) -> list[Answer]:
    """Return the answer to each request, the same as if it were alone; `together` of them share each weight pass."""
    session = Session(model, tokenizer, speculation=Speculation())
    pieces: list[list[Piece]] = [[] for _ in requests]
    waiting = list(reversed(requests))
    running = 0
    while waiting or session.active:
        while waiting and running < together:
            session.add(waiting.pop())
            running += 1
        for piece in session.step():
            pieces[piece.request].append(piece)
            running -= piece.finish is not None
    return [_answer(each) for each in pieces]


def _answer(pieces: list[Piece]) -> Answer:
    text = "".join(piece.text for piece in pieces)
    return Answer(text, tuple(piece.token for piece in pieces), pieces[-1].finish or "")
