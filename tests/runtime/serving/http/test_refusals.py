"""What can't be answered is refused in OpenAI's form: the right status, the field that is wrong, one clear line."""

import json
import time
from typing import Any

import openai
import pytest
from fake_language_model import fake_model
from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.serving.http.errors import ApiError
from bitsim.runtime.serving.http.schema import ChatBody, CompletionBody, read

from .conftest import Serve, Served, slow

USER = {"role": "user", "content": "a"}
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def error_of(response: Any) -> dict[str, Any]:
    """Return the error of a response, checked to be one plain line without anything of the inside."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"].strip()
    assert "Traceback" not in error["message"]
    return error


WRONG_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "at least 1 item"),
    ({"messages": "hello"}, "messages", "list"),
    ({"messages": [3]}, "messages.0", "Message"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
    ({"messages": [{"content": "a"}]}, "messages.0.role", "required"),
    ({"messages": [{"role": "king", "content": "a"}]}, "messages.0.role", "expected one of developer, system, user"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "expected one of"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content", "expected text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages.0.content",
        'parts {"type": "text", "text": ...}, got image_url',
    ),
    ({"model": "gpt-4o"}, "model", "'gpt-4o' is not served here; expected 'tiny'"),
    ({"model": 3}, "model", "valid string"),
    ({"temperature": 3}, "temperature", "less than or equal to 2"),
    ({"temperature": "hot"}, "temperature", "valid number"),
    ({"temperature": True}, "temperature", "valid number"),
    ({"top_p": -0.1}, "top_p", "greater than or equal to 0"),
    ({"top_k": 1.5}, "top_k", "valid integer"),
    ({"top_k": -2}, "top_k", "greater than or equal to -1"),
    ({"min_p": 2}, "min_p", "less than or equal to 1"),
    ({"repetition_penalty": 0.5}, "repetition_penalty", "greater than or equal to 1"),
    ({"seed": 2**64}, "seed", "less than"),
    ({"seed": "x"}, "seed", "valid integer"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": "5"}, "max_tokens", "valid integer"),
    ({"max_completion_tokens": -1}, "max_completion_tokens", "greater than or equal to 1"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 17}, "n", "less than or equal to 16"),
    ({"stop": ["a"] * 5}, "stop", "at most 4 texts, got 5"),
    ({"stop": ""}, "stop", "none empty"),
    ({"stop": [3]}, "stop", "expected a text"),
    ({"stop": "a" * 100_000}, "stop", "at most 1,000 characters, got 100,000"),
    ({"stream": "yes"}, "stream", "boolean"),
    ({"stream_options": 3}, "stream_options", "StreamOptions"),
    ({"user": "a" * 2000}, "user", "at most 1000 characters"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "does not support it; expected 0, got 0.5"),
    ({"presence_penalty": -1}, "presence_penalty", "does not support it"),
    ({"logprobs": True}, "logprobs", "does not support it; expected False, got True"),
    ({"top_logprobs": 3}, "top_logprobs", "does not support it"),
    ({"logit_bias": {"3": 1}}, "logit_bias", "does not support it"),
    ({"tools": [{"type": "function"}]}, "tools", "does not support it"),
    ({"functions": [{}]}, "functions", "does not support it"),
    ({"response_format": {"type": "json_object"}}, "response_format", "does not support it"),
    ({"modalities": ["audio"]}, "modalities", "does not support it"),
]


@pytest.mark.parametrize(("wrong", "param", "said"), WRONG_FIELDS, ids=lambda value: str(value)[:30])
def test_wrong_fields_are_named(served: Served, wrong: dict[str, Any], param: str, said: str) -> None:
    response = served.post(CHAT, json={"messages": [USER], "max_tokens": 1, **wrong})
    error = error_of(response)
    assert response.status_code == (404 if error["code"] == "model_not_found" else 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]


@pytest.mark.parametrize("prompt", [3, [], [[]], [1.5], ["a", 3], [-1], {}, [True], ["a"] * 129, None])
def test_wrong_prompts(served: Served, prompt: Any) -> None:
    assert error_of(served.post(COMPLETION, json={"prompt": prompt}))["param"] == "prompt"


def test_tokens_that_the_model_does_not_know(served: Served) -> None:
    error = error_of(served.post(COMPLETION, json={"prompt": [5, 100_000]}))
    assert (error["param"], error["code"]) == ("prompt", "invalid_value")
    assert "token 100000 is none of the model's" in error["message"]


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_prompt_too_long_has_the_code_that_programs_look_for(served: Served, path: str) -> None:
    for text in ("b" * 300, "b" * 1_000_000):
        body = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
        response = served.post(path, json=body)
        error = error_of(response)
        assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
        assert "256" in error["message"]


MALFORMED = [
    b"", b"{", b"nothing", b"[1]", b'"a"', b"\xff\xfe", b'{"messages": [NaN]}', b'{"a": "\\ud800"}', b"{" * 100_000,
    b"[" * 1_000_000, b'{"a": 1} x',
]  # fmt: skip


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: content[:20])
def test_malformed_json(served: Served, content: bytes) -> None:
    response = served.post(COMPLETION, content=content)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner)
    ),
    max_leaves=6,
)
FIELDS = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, "tools", "logprobs", "other"})


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5), st.sampled_from([ChatBody, CompletionBody]))
def test_any_object_is_read_or_refused_with_the_field_named(value: dict[str, Any], kind: Any) -> None:
    try:
        body = read(kind, json.dumps(value).encode())
    except ApiError as error:
        refused: ApiError | None = error
    else:
        refused = None
        assert body.new_tokens is None or body.new_tokens >= 1
    assert refused is None or (refused.status == 400 and refused.param and refused.message.startswith(refused.param))


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_as_no_json_or_read(content: bytes) -> None:
    with pytest.raises(ApiError):  # nothing so short is a request
        read(ChatBody, content)


def test_paths_and_methods_that_are_not_there(served: Served) -> None:
    for response, status in (
        (served.get("/v1/nothing"), 404),
        (served.get(CHAT), 405),
        (served.post("/v1/models"), 405),
        (served.get("/v1/models/gpt-4o"), 404),
        (served.get("/../../etc/passwd"), 404),
    ):
        assert response.status_code == status
        error_of(response)


def test_the_client_of_openai_raises_what_it_should(serve: Serve) -> None:
    served = serve(api_key="sesame")
    with pytest.raises(openai.AuthenticationError) as refused:
        served.client.models.list()
    assert refused.value.code == "invalid_api_key"
    known = served.client.with_options(api_key="sesame")
    assert known.models.list().data
    with pytest.raises(openai.NotFoundError):
        known.chat.completions.create(model="other", messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.BadRequestError) as wrong:
        known.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}], logprobs=True)
    assert wrong.value.param == "logprobs"


def test_a_large_body_is_refused_before_it_is_read(serve: Serve) -> None:
    served = serve(max_body=1000)
    with served.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["code"] == "request_too_large"
    response = served.post(COMPLETION, content=b"x" * 10_000_000)
    assert response.status_code == 413
    assert "1,000 bytes" in error_of(response)["message"]


def test_a_large_body_without_a_length_is_refused_as_it_comes(serve: Serve) -> None:
    served = serve(max_body=1000)
    response = served.post(COMPLETION, content=(b"x" * 600 for _ in range(3)))
    assert response.status_code == 413
    error_of(response)


def test_a_body_that_does_not_come_is_not_waited_for_long(serve: Serve) -> None:
    served = serve(body_timeout_s=0.1)
    with served.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_mistake_of_ours_says_nothing_of_the_inside(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    monkeypatch.setattr(served.engine, "submit", lambda *_, **__: 1 / 0)
    response = served.post(COMPLETION, json={"prompt": "a"})
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    served.wait_until(lambda: "ZeroDivisionError" in caplog.text)  # the log has it
    assert "ZeroDivisionError" in (served.accesses[-1].error or "")


def test_a_model_that_breaks_is_said(serve: Serve) -> None:
    model = fake_model()
    served = serve(model)

    def broken(*_: Any) -> Any:
        raise MemoryError("no more")

    model.step = broken  # type: ignore[assignment, method-assign]
    response = served.post(COMPLETION, json={"prompt": "a"})
    assert response.status_code == 503
    assert error_of(response)["type"] == "server_error"
    with pytest.raises(openai.APIError, match="no more"):
        list(served.client.completions.create(model="tiny", prompt="a", stream=True))


def test_time_is_limited(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=()), 0.02), timeout_s=0.3)
    start = time.monotonic()
    response = served.post(COMPLETION, json={"prompt": "a", "max_tokens": 250})
    assert time.monotonic() - start < 5
    assert response.status_code == 504
    assert "0.3 seconds" in error_of(response)["message"]
    stream = iter(served.client.completions.create(model="tiny", prompt="a", max_tokens=250, stream=True))
    assert next(stream).choices[0].text
    with pytest.raises(openai.APIError, match=r"0\.3 seconds"):
        list(stream)
    served.wait_until(served.idle)
    assert served.engine.counters.finished == {"cancelled": 2}
