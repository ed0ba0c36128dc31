"""An answer as server-sent events, while it is written."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...generation.session import Piece
from .access import Access
from .errors import ApiError
from .forms import Envelope, usage_of
from .schema import StreamOptions

_ALIVE = b": still here\n\n"  # a comment, which clients pass over
_LATER_S = 30.0  # beyond the answer's own limit, for a client that reads slowly or not at all
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx: pass on at once


class EventStream(StreamingResponse):
    """The response; when it is over, however it ended, so is the exchange."""

    def __init__(self, envelope: Envelope, access: Access, options: StreamOptions) -> None:
        """Take the answers of an access that have been submitted."""
        assert access.exchange is not None
        self._exchange, self._access = access.exchange, access
        self._envelope, self._options = envelope, options
        super().__init__(self._events(), media_type="text/event-stream", headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        exchange, access = self._exchange, self._access
        try:
            async with asyncio.timeout(exchange.seconds_left + _LATER_S):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            access.error = "the client did not take its answer"
        finally:
            access.hung_up = access.error is None and len(exchange.finish) < len(exchange.tickets)
            exchange.cancel()

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield the events; an error is the last of them, without the usual end."""
        form, exchange = self._envelope.form, self._exchange
        try:
            for index in range(len(exchange.tickets)):
                if (opening := form.opening(index)) is not None:
                    yield self._event(opening)
            async for pieces in exchange.news():
                for change in _changes(pieces):
                    yield self._event(form.change(*change))
                if not pieces:
                    yield _ALIVE
            if self._options.include_usage:
                yield _encoded(self._envelope.chunk([], usage=self._usage()))
            yield b"data: [DONE]\n\n"
        except ApiError as error:
            self._access.error = error.message
            yield _encoded(error.content())

    def _event(self, choice: dict[str, Any]) -> bytes:
        more: dict[str, Any] = {}
        if self._options.continuous_usage_stats:
            more = {"usage": self._usage()}
        elif self._options.include_usage:
            more = {"usage": None}
        return _encoded(self._envelope.chunk([choice], **more))

    def _usage(self) -> dict[str, Any]:
        return usage_of(self._exchange.usage(self._access.answers_each))


def _changes(pieces: list[tuple[int, Piece]]) -> list[tuple[int, str, str | None]]:
    """Return what came at once, an answer's texts put together, as (answer, text, reason of its end)."""
    texts: dict[int, str] = {}
    ends: dict[int, str | None] = {}
    for index, piece in pieces:
        texts[index] = texts.get(index, "") + piece.text
        ends[index] = piece.finish
    return [(index, text, ends[index]) for index, text in texts.items() if text or ends[index]]


def _encoded(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
