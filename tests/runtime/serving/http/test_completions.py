"""Completions: text that goes on from one prompt or several, given as text or as tokens."""

from typing import Any

import pytest
from fake_language_model import fake_model

from bitsim.runtime.generation import Tokenizer, generate

from .conftest import Served


def alone(prompt: Any, count: int = 16) -> str:
    return "".join(piece.text for piece in generate(fake_model(), prompt, max_new_tokens=count))


def complete(served: Served, prompt: Any, **options: Any) -> Any:
    return served.client.completions.create(model="tiny", prompt=prompt, **({"temperature": 0} | options))


def test_a_text_goes_on_for_16_tokens_unless_told_otherwise(served: Served) -> None:
    answer = complete(served, "the cat")
    assert (answer.object, answer.choices[0].text) == ("text_completion", alone("the cat"))
    assert answer.usage.completion_tokens <= 16
    assert complete(served, "the cat", max_tokens=5).choices[0].text == alone("the cat", 5)


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_of_either_kind(served: Served, stream: bool) -> None:
    tokens = Tokenizer(fake_model().text).encode("a dog").tolist()
    texts = [alone("the cat"), alone("a dog")]
    for prompts, expected in ((["the cat", "a dog"], texts), ([tokens, tokens], texts[1:] * 2), (tokens, texts[1:])):
        said = [""] * len(expected)
        if stream:
            for chunk in complete(served, prompts, stream=True):
                said[chunk.choices[0].index] += chunk.choices[0].text
        else:
            said = [choice.text for choice in complete(served, prompts).choices]
        assert said == expected


def test_an_empty_prompt_begins_a_text(served: Served) -> None:
    assert complete(served, "").choices[0].text == alone("")


def test_prompts_with_several_answers_count_once_each(served: Served) -> None:
    answer = complete(served, ["the cat", "a dog"], n=2, max_tokens=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    once = complete(served, ["the cat", "a dog"], max_tokens=2)
    assert answer.usage.prompt_tokens == once.usage.prompt_tokens
