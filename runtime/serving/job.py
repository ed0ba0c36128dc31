"""A request inside of the engine."""

import time
from dataclasses import replace

import numpy as np

from ..generation.language_model import Sequence
from ..generation.session import Outcome, Request
from ..heads.head import Ids
from .counters import Counters
from .requests import Deliver, Delivery, Ticket


class Job:
    """One request on its way, with what its sequence has been told."""

    def __init__(self, ticket: Ticket, request: Request, prompt: Ids, deliver: Deliver) -> None:
        self.ticket = ticket
        self.request = replace(request, prompt=prompt)
        self.prompt = prompt
        self.sequence: Sequence | None = None
        self._new: list[int] = []
        self._deliver = deliver
        self._arrived = time.monotonic()

    @property
    def read(self) -> Ids:
        """The tokens that the sequence holds: the last drawn is not read yet."""
        assert self.sequence is not None
        return np.append(self.prompt, self._new).astype(np.int64)[: self.sequence.length]

    def begin(self, counters: Counters) -> None:
        """Note that it waits no longer."""
        self.ticket.queue_s = time.monotonic() - self._arrived
        counters.queue_s += self.ticket.queue_s
        counters.prompt_tokens += len(self.prompt)

    def advance(self, outcome: Outcome, counters: Counters) -> None:
        """Note what a step did."""
        if outcome.pieces and self.ticket.first_token_s is None:
            self.ticket.first_token_s = time.monotonic() - self._arrived
            counters.first_token_s += self.ticket.first_token_s
            counters.first_tokens += 1
        self._new += [piece.token for piece in outcome.pieces]
        usage = self.ticket.usage
        self.ticket.usage = replace(
            usage,
            completion_tokens=len(self._new),
            drafted=usage.drafted + outcome.drafted,
            accepted=usage.accepted + outcome.accepted,
        )
        counters.new_tokens += len(outcome.pieces)
        counters.drafted += outcome.drafted
        counters.accepted += outcome.accepted

    def deliver(self, delivery: Delivery) -> None:
        """Hand over a piece or the end; one who can't take it is as good as gone."""
        try:
            self._deliver(delivery)
        except Exception:
            self.ticket.cancelled = True
