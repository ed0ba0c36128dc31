"""Chats with OpenAI's own client: the answers are those of `generate`, whole or as streams, with what they cost."""

import re
from pathlib import Path
from typing import Any

import pytest
from fake_language_model import fake_model

from bitsim.runtime.generation import ChatTemplate, Sampling, Tokenizer, generate

from .conftest import Serve, Served

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the cat \N{GRINNING FACE}"}]


def tokens_of(messages: list[dict[str, str]] = ASKED) -> Any:
    model = fake_model()
    return ChatTemplate(model.text).encode(Tokenizer(model.text), messages)


def alone(messages: list[dict[str, str]] = ASKED, count: int | None = 20, **options: Any) -> str:
    pieces = generate(fake_model(), tokens_of(messages), max_new_tokens=count, **options)
    return "".join(piece.text for piece in pieces)


def chat(served: Served, messages: Any = ASKED, **options: Any) -> Any:
    create: Any = served.client.chat.completions.create
    return create(messages=messages, **{"model": "tiny", "max_tokens": 20, "temperature": 0} | options)


def streamed(served: Served, **options: Any) -> list[Any]:
    return list(chat(served, stream=True, **options))


def test_an_answer_is_that_of_the_model_alone(served: Served) -> None:
    answer = chat(served)
    (choice,) = answer.choices
    assert choice.message.content == alone()
    assert (choice.message.role, choice.finish_reason, choice.index) == ("assistant", "length", 0)
    assert (answer.object, answer.model) == ("chat.completion", "tiny")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(tokens_of()), 20)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_says_the_same(served: Served) -> None:
    chunks = streamed(served)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == alone()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {
        (chunks[0].id, "chat.completion.chunk", "tiny")
    }
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_when_asked(served: Served) -> None:
    *chunks, last = streamed(served, stream_options={"include_usage": True})
    assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], len(tokens_of()), 20)
    assert all(chunk.usage is None for chunk in chunks)
    often = streamed(served, stream_options={"continuous_usage_stats": True})
    so_far = [chunk.usage.completion_tokens for chunk in often]
    assert so_far == sorted(so_far)
    assert so_far[-1] == 20


def test_a_prompt_seen_before_is_not_read_again(serve: Serve) -> None:
    served = serve()
    first, second = chat(served), chat(served)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == len(tokens_of()) - 1
    assert second.choices[0].message.content == first.choices[0].message.content


def test_without_a_length_the_answer_goes_on_until_the_context_is_full(serve: Serve) -> None:
    served = serve(fake_model(eos=()), context=96)
    answer = chat(served, max_tokens=None)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens == 97  # the last token is not read
    assert chat(served, max_tokens=10**9).choices == answer.choices


def test_the_new_name_of_the_length_goes_first(served: Served) -> None:
    answer = chat(served, max_tokens=20, max_completion_tokens=3)
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_the_answer(served: Served, stream: bool) -> None:
    text = alone()
    stop = text[6:9]
    for asked in (stop, ["\1never", stop], [stop, "a", "b", "c"][:2]):
        if stream:
            chunks = streamed(served, stop=asked)
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            finish = chunks[-1].choices[0].finish_reason
        else:
            choice = chat(served, stop=asked).choices[0]
            said, finish = choice.message.content, choice.finish_reason
        assert said == alone(stop=[asked] if isinstance(asked, str) else asked)
        assert finish == "stop"
    assert chat(served, stop=None).choices[0].message.content == text


def test_equal_seeds_give_equal_answers_and_all_settings_count(served: Served) -> None:
    drawn: dict[str, Any] = {"temperature": 1.5, "top_p": 0.9}
    more: dict[str, Any] = {"top_k": 30, "min_p": 0.01, "repetition_penalty": 1.3}
    answer = chat(served, seed=3, extra_body=more, **drawn).choices[0].message.content
    assert answer == alone(sampling=Sampling(**drawn, **more, seed=3))
    assert answer != chat(served, seed=4, extra_body=more, **drawn).choices[0].message.content
    unseeded = {chat(served, temperature=2.0).choices[0].message.content for _ in range(3)}
    assert len(unseeded) > 1


def test_what_a_request_leaves_open_is_as_the_server_was_started(serve: Serve) -> None:
    sampling = Sampling(temperature=1.2, top_k=20, min_p=0.02, seed=7)
    served = serve(sampling=sampling)
    answer = chat(served, temperature=None).choices[0].message.content
    assert answer == alone(sampling=sampling)
    other = Sampling(temperature=0.9, top_k=20, min_p=0.02, seed=7)
    assert chat(served, temperature=0.9).choices[0].message.content == alone(sampling=other)


def test_the_ends_of_the_ranges(served: Served) -> None:
    likeliest = alone()
    assert chat(served, temperature=1, top_p=0).choices[0].message.content == likeliest
    assert chat(served, temperature=1, extra_body={"top_k": 1}).choices[0].message.content == likeliest
    all_tokens = chat(served, temperature=1, seed=-1, extra_body={"top_k": -1}).choices[0].message.content
    assert all_tokens == alone(sampling=Sampling(temperature=1, seed=2**63 - 1))


def test_several_answers_to_one_prompt(served: Served) -> None:
    answer = chat(served, n=3, temperature=1.5, seed=5)
    texts = [alone(sampling=Sampling(temperature=1.5, seed=seed)) for seed in (5, 6, 7)]
    assert [choice.message.content for choice in answer.choices] == texts
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokens_of()), 60)
    said = ["", "", ""]
    for chunk in streamed(served, n=3, temperature=1.5, seed=5):
        said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert said == texts


def test_content_may_come_in_parts(served: Served) -> None:
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "cat"}]
    answer = chat(served, [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the\ncat"}]
    assert answer.choices[0].message.content == alone(plain)


def test_harmless_and_unknown_fields_are_passed_over(served: Served) -> None:
    harmless: dict[str, Any] = {
        "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": False, "logit_bias": {}, "tools": [],
        "response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": True,
        "tool_choice": "none", "modalities": ["text"], "top_p": None, "n": None, "stop": None,
        "stream": None, "whatever": [1],
    }  # fmt: skip
    body = {"messages": ASKED, "max_tokens": 20, "temperature": 0, **harmless}
    answer = served.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == alone()
    assert answer["model"] == "tiny"


def test_a_model_without_a_chat_format_says_so(serve: Serve) -> None:
    served = serve(fake_model(chat_template=None))
    error = served.post("/v1/chat/completions", json={"messages": ASKED}).json()["error"]
    assert error["code"] == "no_chat_template"
    assert served.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_models_are_listed(served: Served) -> None:
    models = served.client.models
    assert [model.id for model in models.list()] == ["tiny", "alias"]
    card = models.retrieve("alias")
    assert (card.owned_by, card.model_dump()["max_model_len"]) == ("bitsim", 256)
    assert chat(served, model="alias").model == "alias"


def test_the_example_in_the_documentation_runs(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[4] / "reports" / "docs" / "howto" / "serve-many-users.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    served = serve(fake_model(eos=()), names=("model",), sampling=Sampling(seed=1), context=96)
    exec(code.replace("http://127.0.0.1:8080", served.url), {})
    assert capsys.readouterr().out
