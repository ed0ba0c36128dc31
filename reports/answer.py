"""A model's answer on its way to a person: shown as it comes, and timed."""

import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

import click

from .model_options import waiting

INTERRUPTED = "interrupted"


def say(text: str) -> None:
    """Write a model's text to standard output at once.

    What the output's encoding lacks becomes a question mark; a terminal gets no control characters, for these could
    change more than the screen's text.
    """
    out: Any = sys.stdout
    if out is None:  # closed by whoever started us
        return
    encoding = out.encoding or "utf-8"
    text = text.encode(encoding, "replace").decode(encoding)
    if out.isatty():
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    click.echo(text, nl=False)


class Answer:
    """Shows an answer while it comes, and knows afterwards how fast it came.

    Attributes:
        text: all of it.
        new_tokens: how many tokens it has.
        finish: why it ended: "stop", "length", "context" or "interrupted".
        seconds_to_first_token: from the question to the first token; None where none came.
    """

    def __init__(self, prompt_tokens: int) -> None:
        """Begin to wait for the answer to a prompt of so many tokens (those that must be read)."""
        self.prompt_tokens = prompt_tokens
        self.text = ""
        self.new_tokens = 0
        self.finish = INTERRUPTED
        self.seconds_to_first_token: float | None = None
        self._start = self._last = time.perf_counter()

    def take(self, pieces: Any, *, aloud: bool) -> None:
        """Take all pieces of a generator, and close it; Ctrl-C ends that, no more."""
        try:
            for piece in _first_awaited(pieces):
                self._last = time.perf_counter()
                if self.seconds_to_first_token is None:
                    self.seconds_to_first_token = self._last - self._start
                self.new_tokens += 1
                self.text += piece.text
                if aloud:
                    say(piece.text)
                self.finish = piece.finish or self.finish
        except KeyboardInterrupt:
            self.finish = INTERRUPTED
        finally:
            pieces.close()
        if aloud and not self.text.endswith("\n"):
            say("\n")

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Tokens of the prompt read in a second; the first token's own time is among it."""
        return self.prompt_tokens / self.seconds_to_first_token if self.seconds_to_first_token else None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens in a second after the first; None with less than two."""
        seconds = self._last - self._start - (self.seconds_to_first_token or 0)
        return (self.new_tokens - 1) / seconds if self.new_tokens > 1 and seconds > 0 else None

    def statistics(self) -> dict[str, Any]:
        """Return what a program wants to know."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "finish": self.finish,
            "seconds_to_first_token": self.seconds_to_first_token,
            "prompt_tokens_per_s": self.prompt_tokens_per_s,
            "tokens_per_s": self.tokens_per_s,
        }

    def line(self) -> str:
        """Return the same for a person."""
        if self.seconds_to_first_token is None:
            return f"{_count(self.prompt_tokens, 'prompt token')}, no answer"
        prompt = f"{_count(self.prompt_tokens, 'prompt token')} at {self.prompt_tokens_per_s:.1f}/s"
        rate = f" at {self.tokens_per_s:.1f}/s" if self.tokens_per_s else ""
        ends = {"length": ", cut at --max-tokens", "context": ", the context is full", INTERRUPTED: ", interrupted"}
        first = f"first after {self.seconds_to_first_token:.2f} s"
        return f"{prompt}, {_count(self.new_tokens, 'new token')}{rate}, {first}{ends.get(self.finish, '')}"


def _first_awaited(pieces: Any) -> Iterator[Any]:
    """Yield all pieces; until the first, which takes longest, a terminal shows that it is on its way."""
    with waiting("reading the prompt"):
        first = next(iter(pieces), None)
    if first is not None:
        yield first
        yield from pieces


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
