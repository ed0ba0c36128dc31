"""Several answers in progress: each step of the session gives every one of them its next token in one weight pass.

Requests come and go between steps, so a server can batch continuously. An answer does not depend on what else is in
the session.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from bitsim.energy_tables import BitsimError

from ..heads.head import Ids
from .language_model import LanguageModel, Sequence
from .sampler import Sampler, choose
from .sampling import Sampling
from .stop_strings import StopStrings
from .tokenizer import Tokenizer

PREFILL = 512  # tokens of a prompt that one step reads, so that a long one does not hold up the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt and how to go on from it.

    Attributes:
        prompt: text, or tokens as they are.
        max_new_tokens: the answer's length at most; None for as long as the context lasts.
        sampling: how tokens are drawn.
        stop: texts that end the answer and are not part of it; a control token's text ends it too.
    """

    prompt: str | Ids
    max_new_tokens: int | None = 256
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise BitsimError(f"max_new_tokens: expected 1 or more, got {self.max_new_tokens}")


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of one answer.

    Attributes:
        request: the number that `Session.add` gave.
        text: what is certain now: often empty, for a character or a stop string may not be complete.
        token: the token drawn, also the one that ends the answer.
        finish: None while the answer goes on; "stop" (the model or a stop string ended it), "length"
            (`max_new_tokens`) or "context" (the sequence is full).
    """

    request: int
    text: str
    token: int
    finish: str | None = None


class _Answer:
    """One request on its way."""

    def __init__(
        self, number: int, tokens: Ids, request: Request, sequence: Sequence, room: int, tokenizer: Tokenizer
    ) -> None:
        self.number = number
        self.sequence = sequence
        self._room = room
        self.sampler = Sampler(request.sampling, tokens.tolist())
        self._unread = tokens[sequence.length :]
        self._left = request.max_new_tokens
        self._ends = {*tokenizer.rules.eos, *(tokenizer.token(text) for text in request.stop)}
        self._decoder = tokenizer.decoder()
        self._stops = StopStrings(request.stop)

    def next_part(self) -> tuple[Sequence, Ids]:
        """Return the tokens that the next step reads."""
        now, self._unread = np.split(self._unread, [PREFILL])
        return self.sequence, now

    @property
    def reading(self) -> bool:
        """Whether the prompt has not been read to its end."""
        return len(self._unread) > 0

    def advance(self, token: int) -> Piece:
        """Take the token drawn."""
        self._unread = np.array([token])
        self._left = None if self._left is None else self._left - 1
        ended = token in self._ends
        text = "" if ended else self._stops.feed(self._decoder.feed(token))
        finish = self._finish(ended)
        if finish:
            text += self._stops.feed(self._decoder.finish())
            finish = self._finish(ended)  # the last text may have completed a stop string
            text += self._stops.finish()
        return Piece(self.number, text, token, finish)

    def _finish(self, ended: bool) -> str | None:
        if ended or self._stops.found:
            return "stop"
        if self._left == 0:
            return "length"
        return "context" if self.sequence.length >= self._room else None


class Session:
    """Answers in progress on one model."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None = None) -> None:
        """Make an empty session; without a tokenizer the model's own is read."""
        self.model = model
        self.tokenizer = tokenizer or Tokenizer(model.text)
        self._answers: list[_Answer] = []
        self._added = 0

    @property
    def active(self) -> bool:
        """Whether any answer is unfinished."""
        return bool(self._answers)

    def add(self, request: Request, sequence: Sequence | None = None) -> int:
        """Take a request; its first piece comes with the step that reads the last of its prompt.

        Args:
            request: what to answer.
            sequence: one of the model's that has read the first tokens of the prompt, but not the last, and has room
                for the rest and the answer; without it the session makes one.

        Returns:
            The number that this answer's pieces bear: 0 for the first of a session, and so on.

        Raises:
            BitsimError: for a prompt that does not fit in the context or has tokens that the model does not know.
        """
        tokens = prompt_tokens(self.model, self.tokenizer, request.prompt)
        if sequence is None:
            sequence = self.model.sequence(self._capacity(len(tokens), request.max_new_tokens))
        room = min(sequence.capacity, self.model.context)
        if not sequence.length < len(tokens) <= room:
            raise BitsimError(f"the prompt has {len(tokens):,} tokens, the sequence room for {room:,}")
        self._answers.append(_Answer(self._added, tokens, request, sequence, room, self.tokenizer))
        self._added += 1
        return self._added - 1

    def step(self) -> list[Piece]:
        """Read the next tokens of every answer; return a piece of each whose prompt has been read."""
        if not self._answers:
            return []
        hidden = self.model.step([answer.next_part() for answer in self._answers])
        ready = [row for row, answer in enumerate(self._answers) if not answer.reading]
        answers = [self._answers[row] for row in ready]
        tokens = choose(self.model.head, hidden[ready], [answer.sampler for answer in answers])
        pieces = [answer.advance(token) for answer, token in zip(answers, tokens, strict=True)]
        self.drop(piece.request for piece in pieces if piece.finish)
        return pieces

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave answers unfinished; those that are no more are passed over."""
        gone = set(numbers)
        self._answers = [answer for answer in self._answers if answer.number not in gone]

    def _capacity(self, prompt: int, new: int | None) -> int:
        """Return the room to ask for: no more than needed, no more than the context; the last token is not read."""
        return self.model.context if new is None else min(prompt + new - 1, self.model.context)


def prompt_tokens(model: LanguageModel, tokenizer: Tokenizer, prompt: str | Ids) -> Ids:
    """Return the tokens of a prompt: one at least, all known to the model, no more than its context."""
    if isinstance(prompt, str):
        tokens = tokenizer.encode(prompt, bos=True, limit=model.context)
    else:
        tokens = np.asarray(prompt, np.int64)
    if not len(tokens):
        tokens = start_tokens(tokenizer)
    if len(tokens) > model.context:
        raise BitsimError(f"the prompt has {len(tokens):,} tokens, more than the model's context of {model.context:,}")
    return check_tokens(model, tokens)


def start_tokens(tokenizer: Tokenizer) -> Ids:
    """Return what stands before a text: the token that begins one, or else that ends one."""
    begin = (tokenizer.rules.bos, *tokenizer.rules.eos)
    found = next((token for token in begin if token is not None), None)
    if found is None:
        raise BitsimError("the prompt is empty, and the model has no token to begin a text with")
    return np.array([found], np.int64)


def check_tokens(model: LanguageModel, tokens: Ids) -> Ids:
    """Return the tokens if all are in the model's vocabulary."""
    vocab = model.head.vocab
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab:
        wrong = int(tokens.max() if tokens.max() >= vocab else tokens.min())
        raise BitsimError(f"token {wrong} is none of the model's {vocab:,}: the tokenizer belongs to another model")
    return tokens
