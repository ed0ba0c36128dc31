"""The two forms of answers: of a chat, and of a completion."""

from dataclasses import dataclass
from typing import Any, Protocol

from ..requests import Usage

REASONS = {"stop": "stop", "length": "length", "context": "length"}  # of a piece, in OpenAI's words


class Form(Protocol):
    """How the choices of an answer are written."""

    prefix: str
    whole: str
    part: str

    def choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        """Return a finished answer."""
        ...

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return what a stream begins with, if anything."""
        ...

    def change(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """Return a further piece of a stream."""
        ...


class Chat:
    """An assistant's message."""

    prefix, whole, part = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        """Return a finished answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": REASONS[finish]}

    def opening(self, index: int) -> dict[str, Any]:
        """Return who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def change(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """Return a further piece of a stream."""
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish and REASONS[finish]}


class Completion:
    """Text that goes on from a prompt."""

    prefix, whole, part = "cmpl-", "text_completion", "text_completion"

    def choice(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """Return a finished answer, or a piece of one."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish and REASONS[finish]}

    def opening(self, index: int) -> None:
        """Return nothing: text begins with its first piece."""

    def change(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """Return a further piece of a stream."""
        return self.choice(index, text, finish)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all objects of one answer share."""

    form: Form
    id: str
    created: int
    model: str

    def answer(self, choices: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
        """Return the whole answer."""
        return {**self._head(self.form.whole), "choices": choices, "usage": usage_of(usage)}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return an object of a stream."""
        return {**self._head(self.form.part), "choices": choices, **more}

    def _head(self, what: str) -> dict[str, Any]:
        return {"id": self.id, "object": what, "created": self.created, "model": self.model}


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the tokens used, as OpenAI writes them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
