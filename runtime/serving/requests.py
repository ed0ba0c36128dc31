"""What goes into the engine and comes out of it, seen from outside: limits, tickets, deliveries and what they cost."""

from collections.abc import Callable
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError

from ..generation.session import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an engine takes on.

    Attributes:
        together: sequences that share a weight pass.
        queue: requests that wait, beyond those.
        prefill: tokens that one step reads at most, of all prompts together, less one for each answer that is being
            written: what a new request may hold up the others by, and they it.
        cache_tokens: tokens of finished sequences that are kept for prompts that begin alike; 0 for none.
        context: most tokens of a sequence, prompt and answer; None for the model's context.
    """

    together: int = 16
    queue: int = 256
    prefill: int = 128
    cache_tokens: int = 16384
    context: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("together", 1), ("queue", 0), ("prefill", 1), ("cache_tokens", 0), ("context", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BitsimError(f"{name}: expected {least} or more, got {value}")


class QueueFull(BitsimError):  # noqa: N818
    """As many requests wait as the limits allow."""


class Closed(BitsimError):  # noqa: N818
    """The engine takes no more requests."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a request that did not finish.

    Attributes:
        message: what happened, in one line.
        ours: True where it was no fault of the request's (damaged model, no memory, the server ends); False where the
            one who asked went away or sent what can't be answered.
    """

    message: str
    ours: bool


Delivery = Piece | Failure
Deliver = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request so far.

    Attributes:
        prompt_tokens: of the prompt.
        cached_tokens: of those, what was not read anew.
        completion_tokens: of the answer.
        drafted: tokens guessed ahead of the model.
        accepted: of those, what the model then drew itself.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted: int = 0
    accepted: int = 0


class Ticket:
    """A request that an engine has taken; its attributes may be read by any thread.

    Attributes:
        prompt_tokens: of the prompt.
        usage: tokens so far.
        queue_s: seconds that it waited before its prompt was begun; None while it waits.
        first_token_s: seconds from its arrival to the first token; None before.
        cancelled: whether somebody asked for its end.
    """

    def __init__(self, prompt_tokens: int, wake: Callable[[], None]) -> None:
        """Take the prompt's length, and what is called when the ticket is cancelled."""
        self.usage = Usage(prompt_tokens)
        self.queue_s: float | None = None
        self.first_token_s: float | None = None
        self.cancelled = False
        self._wake = wake

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.usage.prompt_tokens

    def cancel(self) -> None:
        """Ask for the end: the sequence leaves before the next step, and a Failure (not `ours`) is the last delivery.

        After the last piece or a failure this does nothing.
        """
        self.cancelled = True
        self._wake()
