"""What is known of a request when it is over: for the log, and for the metrics."""

import time
from dataclasses import dataclass, field

from .exchange import Exchange


@dataclass(slots=True)
class Access:
    """One request.

    Attributes:
        client: address.
        method, path: what was asked for.
        status: of the response; 499 where the client hung up before it got one.
        seconds: until the last byte was sent.
        exchange: its answers, where it got that far.
        answers_each: answers to each prompt.
        error: what went wrong, where something did; also within a stream, whose status is 200.
        hung_up: whether the client left before its answer was complete.
    """

    client: str
    method: str
    path: str
    status: int = 0
    seconds: float = 0.0
    exchange: Exchange | None = None
    answers_each: int = 1
    error: str | None = None
    hung_up: bool = False
    _began: float = field(default_factory=time.perf_counter)

    def end(self) -> None:
        """Note that it is over."""
        self.seconds = time.perf_counter() - self._began

    @property
    def first_token_s(self) -> float | None:
        """Seconds from its arrival at the engine to the first token of any answer; None where none came."""
        tickets = self.exchange.tickets if self.exchange else []
        return min((ticket.first_token_s for ticket in tickets if ticket.first_token_s is not None), default=None)

    @property
    def seconds_per_token(self) -> float | None:
        """Seconds between two tokens of an answer, of several answers the mean; None with less than two tokens."""
        if self.exchange is None or self.first_token_s is None:
            return None
        tokens = self.exchange.usage().completion_tokens / len(self.exchange.tickets)
        return (self.seconds - self.first_token_s) / (tokens - 1) if tokens > 1 else None

    @property
    def finish(self) -> str | None:
        """Why the answers ended, such as "stop" or "length,stop"."""
        if self.exchange is None:
            return None
        return ",".join(sorted(set(self.exchange.finish.values()))) or None
