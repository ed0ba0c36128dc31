"""From a checked body to an answer."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bitsim.energy_tables import BitsimError

from ...generation import session
from ...generation.tokenizer import TooLong
from ...heads.head import Ids
from ..requests import Closed, QueueFull
from .access import Access
from .errors import BUSY, GONE, OURS, ApiError
from .exchange import Exchange
from .forms import Chat, Completion, Envelope, Form
from .schema import Asked, ChatBody, CompletionBody, StreamOptions
from .service import Service
from .stream import EventStream

_RETRY_AFTER = {"Retry-After": "1"}  # seconds: a place in the queue is soon free
_PREPARING = 2  # prompts that are made into tokens at the same time


class Answering:
    """Answers what is asked of a service."""

    def __init__(self, service: Service) -> None:
        """Take the service."""
        self._service = service
        self._threads = anyio.CapacityLimiter(_PREPARING)

    async def chat(self, request: Request, body: ChatBody) -> Response:
        """Answer a conversation."""
        return await self._answer(request, body, Chat(), lambda: [self._conversation(body)])

    async def completion(self, request: Request, body: CompletionBody) -> Response:
        """Go on from prompts."""
        return await self._answer(request, body, Completion(), lambda: [self._prompt(prompt) for prompt in body.prompt])

    async def _answer(self, request: Request, body: Asked, form: Form, prompts: Callable[[], list[Ids]]) -> Response:
        settings, access = self._service.settings, access_of(request)
        name = self._name(body)
        access.answers_each = body.n or 1
        access.exchange = exchange = Exchange(self._service.engine, settings.timeout_s)
        envelope = Envelope(form, form.prefix + secrets.token_hex(12), int(time.time()), name)
        try:
            user = body.user or access.client
            await anyio.to_thread.run_sync(self._submit, exchange, body, prompts, user, limiter=self._threads)
            if body.stream:
                return EventStream(envelope, access, body.stream_options or StreamOptions())
            answer = await _unless_hung_up(request, _whole(exchange, envelope, access.answers_each))
        except BaseException:
            exchange.cancel()
            raise
        return JSONResponse(answer)

    def _name(self, body: Asked) -> str:
        names = self._service.settings.names
        if body.model is not None and body.model not in names:
            message = f"model: '{body.model[:100]}' is not served here; expected '{names[0]}'"
            raise ApiError(404, message, param="model", code="model_not_found")
        return body.model or names[0]

    def _submit(self, exchange: Exchange, body: Asked, prompts: Callable[[], list[Ids]], user: str) -> None:
        """Make the prompts into tokens and give them to the engine, on a worker thread."""
        sampling = body.sampling(self._service.settings.sampling)
        requests = [
            session.Request(
                prompt=prompt,
                max_new_tokens=body.new_tokens,
                sampling=sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + place) % 2**63),
                stop=body.stop,
            )
            for prompt in prompts()
            for place in range(body.n or 1)
        ]
        try:
            exchange.submit(requests, user)
        except QueueFull as error:
            raise ApiError(429, str(error), code="rate_limit_exceeded", kind=BUSY, headers=_RETRY_AFTER) from error
        except Closed as error:
            raise ApiError(503, str(error), code="closing", kind=OURS, headers=_RETRY_AFTER) from error
        except BitsimError as error:
            raise ApiError(400, str(error), code="invalid_value") from error

    def _conversation(self, body: ChatBody) -> Ids:
        template, engine = self._service.template, self._service.engine
        if template is None:
            message = "the model has no chat template: it continues text, see /v1/completions"
            raise ApiError(400, message, param="messages", code="no_chat_template")
        messages = [message.model_dump() for message in body.messages]
        try:
            return template.encode(engine.tokenizer, messages, limit=engine.context)
        except BitsimError as error:
            raise _not_encoded(error, "messages") from error

    def _prompt(self, prompt: str | tuple[int, ...]) -> Ids:
        service = self._service
        try:
            given = prompt if isinstance(prompt, str) else np.array(prompt, np.int64)
            return session.prompt_tokens(service.model, service.engine.tokenizer, given, service.engine.context)
        except BitsimError as error:
            raise _not_encoded(error, "prompt") from error


def access_of(request: Request) -> Access:
    """Return what is noted about a request."""
    access = request.state.access
    assert isinstance(access, Access)
    return access


def _not_encoded(error: BitsimError, param: str) -> ApiError:
    """Return the refusal; programs that shorten their history look for the code of a prompt that is too long."""
    code = "context_length_exceeded" if isinstance(error, TooLong) else "invalid_value"
    return ApiError(400, f"{param}: {error}", param=param, code=code)


async def _whole(exchange: Exchange, envelope: Envelope, answers_each: int) -> dict[str, Any]:
    texts = [""] * len(exchange.tickets)
    async for pieces in exchange.news():
        for index, piece in pieces:
            texts[index] += piece.text
    choices = [envelope.form.choice(index, text, exchange.finish[index]) for index, text in enumerate(texts)]
    return envelope.answer(choices, exchange.usage(answers_each))


async def _unless_hung_up(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Return what comes of the work, which ends when the client hangs up."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(GONE, "the client hung up")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
