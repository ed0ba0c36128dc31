"""One request's answers on their way from the engine's thread to the event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial

from ...generation.session import Piece, Request
from ..engine import Engine
from ..requests import Delivery, Failure, Ticket, Usage
from .errors import OURS, ApiError

QUIET_S = 10.0  # a stream without news says that it lives: proxies close what is silent for a minute


class Exchange:
    """Requests given to an engine together, and what came of them.

    Whoever makes one calls `cancel` in the end, whatever happened.

    Attributes:
        tickets: of the requests, in order.
        finish: why each answer ended, by its place.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        """Make an empty one, on the event loop; its answers must be there after so many seconds."""
        self.tickets: list[Ticket] = []
        self.finish: dict[int, str] = {}
        self._engine, self._seconds = engine, seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._came: asyncio.Queue[tuple[int, Delivery]] = asyncio.Queue()

    def submit(self, requests: Sequence[Request], user: str) -> None:
        """Give all to the engine, on any thread; what it raises comes through, and `cancel` takes back the others."""
        for index, request in enumerate(requests):
            self.tickets.append(self._engine.submit(request, partial(self._deliver, index), user=user))

    async def news(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        """Yield what has come, all there is at once, until every answer has ended; an empty list after a long silence.

        Raises:
            ApiError: a request failed, or time is up.
        """
        while len(self.finish) < len(self.tickets):
            come = await self._wait()
            pieces = [(index, self._checked(delivery)) for index, delivery in come]
            self.finish |= {index: piece.finish for index, piece in pieces if piece.finish}
            yield pieces

    @property
    def seconds_left(self) -> float:
        """Time until all answers must be there."""
        return self._deadline - self._loop.time()

    def cancel(self) -> None:
        """Take back what has not ended."""
        for index, ticket in enumerate(self.tickets):
            if index not in self.finish:
                ticket.cancel()

    def usage(self, answers_each: int = 1) -> Usage:
        """Return the tokens used so far; a prompt with several answers counts once."""
        every = [ticket.usage for ticket in self.tickets]
        firsts = every[::answers_each]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in firsts),
            cached_tokens=sum(usage.cached_tokens for usage in firsts),
            completion_tokens=sum(usage.completion_tokens for usage in every),
        )

    def _deliver(self, index: int, delivery: Delivery) -> None:
        """Take a delivery on the engine's thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._came.put_nowait, (index, delivery))

    async def _wait(self) -> list[tuple[int, Delivery]]:
        """Return all that is there, at least one thing unless the silence is long."""
        left = self.seconds_left
        if left <= 0:
            message = f"the answer was not ready within {self._seconds:g} seconds, the limit of this server"
            raise ApiError(504, message, code="timeout", kind=OURS)
        come = []
        if self._came.empty():
            try:
                come.append(await asyncio.wait_for(self._came.get(), min(left, QUIET_S)))
            except TimeoutError:
                return []
        while not self._came.empty():
            come.append(self._came.get_nowait())
        return come

    @staticmethod
    def _checked(delivery: Delivery) -> Piece:
        if isinstance(delivery, Failure):
            status, kind = (503, OURS) if delivery.ours else (400, "invalid_request_error")
            raise ApiError(status, delivery.message, code="failed", kind=kind)
        return delivery
