"""What a request may say, in OpenAI's words and a few of other servers.

Fields that would change the answer and that no model here can honour are refused; all others that are unknown are
passed over, as other servers do, since clients send many (metadata, store, service_tier ...).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import pydantic_core
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from bitsim.energy_tables.errors import shown

from ...generation.sampling import Sampling
from .errors import ApiError

MOST_ANSWERS = 16  # to one prompt
MOST_PROMPTS = 128  # of one request
MOST_STOPS = 4
_LONGEST_STOP = 1000  # characters: each new token is compared with all of it
_SMALLEST_TOP_P = 1e-9  # keeps the likeliest token alone, as OpenAI's 0 does
_SEEDS = 2**63
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}

# The values that ask for nothing beyond what is there; None is one of them for every field.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}


def _wrong(expected: str, value: object) -> PydanticCustomError:
    got = shown(value, 40).replace("{", "{{").replace("}", "}}")  # the package reads braces as places to fill
    return PydanticCustomError("wrong", f"expected {expected}, got {got}")


def _stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _wrong("a text, or a list of texts, none empty", value)
    if len(stops) > MOST_STOPS:
        raise _wrong(f"at most {MOST_STOPS} texts", f"{len(stops):,}")
    longest = max(map(len, stops), default=0)
    if longest > _LONGEST_STOP:
        raise _wrong(f"at most {_LONGEST_STOP:,} characters", f"{longest:,}")
    return tuple(stops)


def _text(value: Any) -> str:
    """Return the text of a message: a string, or the parts of a list, one a line."""
    if value is None or isinstance(value, str):
        return value or ""
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise _wrong('text, or parts {"type": "text", "text": ...}', kind)
    return "\n".join(part["text"] for part in parts)


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """Return one prompt or several, each a text or the numbers of tokens."""
    if isinstance(value, str) or _are_tokens(value):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(p, str) or _are_tokens(p) for p in value):
        raise _wrong("a text, a list of token numbers, or a list of such", value)
    if len(value) > MOST_PROMPTS:
        raise _wrong(f"at most {MOST_PROMPTS} prompts", f"{len(value):,}")
    return tuple(prompt if isinstance(prompt, str) else tuple(prompt) for prompt in value)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int and 0 <= token < 2**31 for token in value)


def _role(value: Any) -> str:
    if not isinstance(value, str) or value not in _ROLES:
        raise _wrong(f"one of {', '.join(_ROLES)}", value)
    return _ROLES[value]


Seed = Annotated[int, Field(ge=-_SEEDS, lt=_SEEDS), AfterValidator(lambda seed: seed % _SEEDS)]
TopP = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: max(share, _SMALLEST_TOP_P))]
TopK = Annotated[int, Field(ge=-1, lt=2**31), AfterValidator(lambda count: max(count, 0))]  # -1: all, as in vLLM


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Message(_Checked):
    """What somebody said."""

    role: Annotated[str, BeforeValidator(_role)]
    content: Annotated[str, BeforeValidator(_text)]


class StreamOptions(_Checked):
    """What a stream says besides text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # of vLLM: in every event


class Asked(_Checked):
    """The fields of chats and of completions."""

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=100)] | None = None
    seed: Seed | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops)] = ()
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None

    def sampling(self, otherwise: Sampling) -> Sampling:
        """Return how tokens are drawn, with what the request does not say taken from `otherwise`."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(otherwise, **said)

    @property
    def new_tokens(self) -> int | None:
        """The answer's length at most; None for as long as the context lasts."""
        return self.max_tokens


class ChatBody(Asked):
    """Of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def new_tokens(self) -> int | None:
        """The answer's length at most, by the new name or the old one."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionBody(Asked):
    """Of /v1/completions; without a length it is OpenAI's 16 tokens."""

    prompt: Annotated[tuple[str | tuple[int, ...], ...], BeforeValidator(_prompts)]

    @property
    def new_tokens(self) -> int:
        """The answer's length at most."""
        return 16 if self.max_tokens is None else self.max_tokens


Kind = TypeVar("Kind", bound=Asked)


def read(kind: type[Kind], content: bytes) -> Kind:
    """Return the checked body of a request.

    Raises:
        ApiError: it is no JSON, lacks something, or asks for what is not there; 400.
    """
    try:
        value = pydantic_core.from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {shown(error, 200)}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"expected a JSON object, got {shown(value)}", code="invalid_json")
    _refuse_unsupported(value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(error) from error


def _refuse_unsupported(value: Mapping[str, Any]) -> None:
    for name, harmless in _HARMLESS.items():
        asked = value.get(name)
        if asked is not None and asked not in harmless:
            known = " or ".join(map(repr, harmless)) or "nothing"
            message = f"{name}: this server does not support it; expected {known}, got {shown(asked)}"
            raise ApiError(400, message, param=name, code="unsupported_parameter")


def _refusal(error: ValidationError) -> ApiError:
    """Say the first of the things that are wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(map(str, first["loc"]))
    said = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "missing":
        return ApiError(400, f"{param}: {said}", param=param, code="missing_required_parameter")
    got = "" if first["type"] == "wrong" else f", got {shown(first['input'], 40)}"
    return ApiError(400, f"{param}: {said}{got}", param=param, code="invalid_value")
