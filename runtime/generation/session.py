"""Several answers in progress: each step of the session gives every one of them its next token in one weight pass.

Requests come and go between steps, so a server can batch continuously. An answer does not depend on what else is in
the session.
"""

import time
from collections.abc import Iterable
from collections.abc import Sequence as Several
from dataclasses import dataclass, field

import numpy as np

from bitsim.energy_tables import BitsimError

from ..heads.head import Ids
from .language_model import LanguageModel, Sequence
from .lookup import Lookup
from .sampler import Draw, Sampler, choose
from .sampling import Sampling
from .speculation import MOST, Speculation
from .stop_strings import StopStrings
from .tokenizer import Tokenizer, TooLong

PREFILL = 512  # tokens of one step, so that long prompts do not hold up the others


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step did for one answer.

    Attributes:
        request: its number.
        pieces: a token or more, or none if the answer can't go on.
        drafted: guesses that the step took along.
        accepted: those of them that were right.
        error: why the answer can't go on.
    """

    request: int
    pieces: list[Piece]
    drafted: int = 0
    accepted: int = 0
    error: BitsimError | None = None

    @property
    def ended(self) -> bool:
        """Whether this was the answer's last step."""
        return self.error is not None or self.pieces[-1].finish is not None


class _Answer:
    """One request on its way."""

    def __init__(
        self, number: int, tokens: Ids, request: Request, sequence: Sequence, room: int, tokenizer: Tokenizer
    ) -> None:
        self.number = number
        self.sequence = sequence
        self.sampler = Sampler(request.sampling, tokens.tolist())
        self.lookup: Lookup | None = None
        self._room = room
        self._tokens: list[int] = tokens.tolist()
        self._prompt = len(tokens)
        self._left = request.max_new_tokens
        self._ends = {*tokenizer.rules.eos, *(tokenizer.token(text) for text in request.stop)}
        self._decoder = tokenizer.decoder()
        self._stops = StopStrings(request.stop)

    @property
    def unread(self) -> int:
        """Tokens that the sequence does not hold yet."""
        return len(self._tokens) - self.sequence.length

    @property
    def reading(self) -> bool:
        """Whether no token has been drawn yet."""
        return len(self._tokens) == self._prompt

    def next_tokens(self, most: int) -> list[int]:
        """Return the next tokens to read."""
        start = self.sequence.length
        return self._tokens[start : start + most]

    def chances(self) -> list[float]:
        """Return how likely guesses at the next tokens are right: no more than there is room and use for."""
        if self.lookup is None:
            self.lookup = Lookup(self._tokens)
        most = min(MOST, self._room - len(self._tokens), MOST if self._left is None else self._left - 1)
        return self.lookup.chances(most)

    def guesses(self, count: int) -> list[int]:
        """Return guesses at the next tokens."""
        return self.lookup.guesses(count) if self.lookup and count else []

    def advance(self, drawn: list[int] | BitsimError, guesses: list[int]) -> Outcome:
        """Take the tokens drawn, up to one that ends the answer, and forget guesses that were not among them."""
        if isinstance(drawn, BitsimError):
            return Outcome(self.number, [], len(guesses), error=drawn)
        self.sequence.truncate(self.sequence.length - len(guesses) + len(drawn) - 1)
        pieces: list[Piece] = []
        for token in drawn:
            pieces.append(self._take(token))
            if pieces[-1].finish:
                break
        return Outcome(self.number, pieces, len(guesses), len(drawn) - 1)

    def _take(self, token: int) -> Piece:
        """Take one token."""
        self._tokens.append(token)
        if self.lookup:
            self.lookup.add(token)
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
        return "context" if len(self._tokens) > self._room else None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one answer brings to a step: tokens to read, and guesses at those after them."""

    answer: _Answer
    tokens: list[int]
    guesses: list[int]
    wanted: int  # states that tokens are drawn from: none while there is more of the prompt to read


class Session:
    """Answers in progress on one model."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        *,
        prefill: int = PREFILL,
        speculation: Speculation | None = None,
    ) -> None:
        """Make an empty session.

        Args:
            model: what answers.
            tokenizer: the model's; read here without.
            prefill: tokens of prompts that one step reads, all together; those of answers in progress count too.
            speculation: says how many guessed tokens a step takes along; none without. Answers do not depend on it.
        """
        self.model = model
        self.tokenizer = tokenizer or Tokenizer(model.text)
        self._answers: list[_Answer] = []
        self._added = 0
        self._prefill, self._speculation = prefill, speculation

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
            sequence = self.model.sequence(room_for(self.model.context, len(tokens), request.max_new_tokens))
        room = min(sequence.capacity, self.model.context)
        if not sequence.length < len(tokens) <= room:
            raise BitsimError(f"the prompt has {len(tokens):,} tokens, the sequence room for {room:,}")
        self._answers.append(_Answer(self._added, tokens, request, sequence, room, self.tokenizer))
        self._added += 1
        return self._added - 1

    def step(self) -> list[Piece]:
        """Read the next tokens of every answer; return the pieces of those whose prompt has been read.

        Raises:
            BitsimError: an answer can't go on: the model computes what are no numbers.
        """
        pieces: list[Piece] = []
        for outcome in self.advance():
            if outcome.error:
                raise outcome.error
            pieces += outcome.pieces
        return pieces

    def advance(self) -> list[Outcome]:
        """Do a step; what can't go on leaves the session, the others do not notice."""
        if not self._answers:
            return []
        start = time.perf_counter()
        parts = self._parts()
        read = [(part.answer.sequence, np.array(part.tokens + part.guesses)) for part in parts]
        hidden = self.model.step(read, [part.wanted for part in parts])
        drawing = [part for part in parts if part.wanted]
        drawn = choose(self.model.head, hidden, [Draw(part.answer.sampler, part.guesses) for part in drawing])
        if self._speculation and not any(part.answer.reading for part in parts):
            self._speculation.note(len(hidden), time.perf_counter() - start)
        outcomes = [part.answer.advance(tokens, part.guesses) for part, tokens in zip(drawing, drawn, strict=True)]
        self.drop(outcome.request for outcome in outcomes if outcome.ended)
        return outcomes

    def _parts(self) -> list[_Part]:
        """Return what the next step reads: of every answer in progress, and of prompts as much as fits."""
        reading = [answer for answer in self._answers if answer.reading]
        writing = [answer for answer in self._answers if not answer.reading]
        guesses = self._guesses(writing) if not reading else [[] for _ in writing]
        parts = [
            _Part(answer, answer.next_tokens(1), guess, len(guess) + 1)
            for answer, guess in zip(writing, guesses, strict=True)
        ]
        unread = [answer.unread for answer in reading]
        for answer, count in zip(reading, shares(unread, max(1, self._prefill - len(writing))), strict=True):
            if count:
                parts.append(_Part(answer, answer.next_tokens(count), [], int(count == answer.unread)))
        return parts

    def _guesses(self, writing: list[_Answer]) -> list[list[int]]:
        if self._speculation is None:
            return [[] for _ in writing]
        counts = self._speculation.counts([answer.chances() for answer in writing])
        return [answer.guesses(count) for answer, count in zip(writing, counts, strict=True)]

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave answers unfinished; those that are no more are passed over."""
        gone = set(numbers)
        self._answers = [answer for answer in self._answers if answer.number not in gone]


def room_for(context: int, prompt: int, new: int | None) -> int:
    """Return the room to ask for: no more than needed, no more than the context; the last token is not read."""
    return context if new is None else min(prompt + new - 1, context)


def shares(unread: Several[int], budget: int) -> list[int]:
    """Return how many tokens of each prompt a step reads, of so many left, the oldest first.

    Half of the budget goes to the oldest, so that each gets done, and the rest to the shortest, so that none waits long
    that could be done soon.
    """
    given = [0] * len(unread)
    order = [(0, -(-budget // 2)), *((at, budget) for at in sorted(range(len(unread)), key=unread.__getitem__))]
    for at, most in order if unread else []:
        given[at] += min(unread[at] - given[at], most, budget - sum(given))
    return given


def prompt_tokens(model: LanguageModel, tokenizer: Tokenizer, prompt: str | Ids, context: int | None = None) -> Ids:
    """Return the tokens of a prompt: one at least, all known to the model, no more than its context or a lower one."""
    limit = model.context if context is None else min(context, model.context)
    if isinstance(prompt, str):
        tokens = tokenizer.encode(prompt, bos=True, limit=limit)
    else:
        tokens = np.asarray(prompt, np.int64)
    if not len(tokens):
        tokens = start_tokens(tokenizer)
    if len(tokens) > limit:
        raise TooLong(f"the prompt has {len(tokens):,} tokens, more than the model's context of {limit:,}")
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
