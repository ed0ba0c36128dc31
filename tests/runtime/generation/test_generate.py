"""Answers: as a plain loop gives them, alone or in company, ended by the model, by a text, by length or context."""

import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from fake_language_model import FakeModel, fake_model
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation import Piece, Request, Sampling, Session, Tokenizer, generate, generate_batch
from bitsim.runtime.generation.session import PREFILL
from bitsim.runtime.generation.speculation import Speculation
from bitsim.runtime.heads.head import Ids


def slow_greedy(model: FakeModel, tokens: Ids, count: int) -> list[int]:
    """Read everything anew for each token."""
    made: list[int] = []
    while len(made) < count and not (made and made[-1] in model.text.eos):
        sequence = model.sequence()
        state = model.hidden_states(sequence, np.append(tokens, made).astype(np.int64))[-1:]
        made.append(int(model.head._logits(state).argmax()))
    return made


def test_greedy_is_the_plain_loop() -> None:
    model = fake_model()
    prompt = Tokenizer(model.text).encode("in the beginning")
    pieces = list(generate(model, "in the beginning", max_new_tokens=40))
    assert [piece.token for piece in pieces] == slow_greedy(model, prompt, 40)
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish in ("length", "stop")
    assert "".join(piece.text for piece in pieces) == Tokenizer(model.text).decode([piece.token for piece in pieces])


def test_guesses_save_steps_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake_model(context=2000, eos=())
    model._memory *= 0  # what follows a token is always the same: it goes round
    session = Session(model)
    session.add(Request(prompt="the cat the cat", max_new_tokens=200))
    plain = []
    while session.active:
        plain += session.step()
    model.steps.clear()
    always = partial(Speculation, always=True)
    monkeypatch.setattr(sys.modules[generate.__module__], "Speculation", always)
    assert list(generate(model, "the cat the cat", max_new_tokens=200)) == plain
    assert len(model.steps) < 100, "fewer steps than tokens"


requests = st.builds(
    Request,
    prompt=st.text(alphabet="the cat\n", max_size=20),
    max_new_tokens=st.integers(1, 30),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.7, 3.0]),
        top_k=st.sampled_from([0, 5]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        seed=st.integers(0, 100),
    ),
    stop=st.sampled_from([(), ("e",), ("t", "he"), ("<|begin|>",)]),
)


@given(st.lists(requests, max_size=5), st.integers(1, 4))
@settings(max_examples=60)
def test_together_is_as_alone(asked: list[Request], together: int) -> None:
    model = fake_model(context=40)
    answers = generate_batch(model, asked, together=together)
    assert max(map(len, model.steps), default=0) <= together
    for request, answer in zip(asked, answers, strict=True):
        pieces = list(
            generate(
                model,
                request.prompt,
                max_new_tokens=request.max_new_tokens,
                sampling=request.sampling,
                stop=request.stop,
            )
        )
        assert answer.tokens == tuple(piece.token for piece in pieces)
        assert answer.text == "".join(piece.text for piece in pieces)
        assert answer.finish == pieces[-1].finish
        assert not any(stop in answer.text for stop in request.stop)


def test_one_pass_serves_all_and_requests_join_and_leave() -> None:
    model = fake_model()
    session = Session(model)
    session.add(Request(prompt="a", max_new_tokens=2))
    session.add(Request(prompt="the the", max_new_tokens=4))
    session.step()
    late = session.add(Request(prompt="cat", max_new_tokens=3))
    session.step()
    session.step()
    session.drop([late])
    session.step()
    assert not session.active
    assert session.step() == []
    prompt = len(session.tokenizer.encode("the the"))
    assert model.steps == [[1, prompt], [1, 1, 3], [1, 1], [1]]


def test_a_long_prompt_is_read_in_parts_that_do_not_hold_up_others() -> None:
    model = fake_model(context=5000)
    session = Session(model)
    first = session.add(Request(prompt="a", max_new_tokens=3))
    second = session.add(Request(prompt="b" * (2 * PREFILL + 5), max_new_tokens=1))
    numbers = [[piece.request for piece in session.step()] for _ in range(3)]
    assert model.steps == [[1, PREFILL - 1], [1, PREFILL - 1], [1, 7]]
    assert numbers == [[first], [first], [first, second]]


def saying(text: str) -> tuple[FakeModel, list[Piece]]:
    """A model, and what it says after a prompt, as far as needed for tests of its end."""
    model = fake_model(seed=3)
    return model, list(generate(model, text, max_new_tokens=60))


def test_a_stop_string_ends_the_answer_before_it() -> None:
    model, pieces = saying("the")
    text = "".join(piece.text for piece in pieces)
    stop = text[7:10]
    found = list(generate(model, "the", max_new_tokens=60, stop=["\0never", stop]))
    assert "".join(piece.text for piece in found) == text[: text.index(stop)]
    assert found[-1].finish == "stop"
    assert len(found) < len(pieces)


def test_the_models_own_end_ends_the_answer_and_is_no_text() -> None:
    model, pieces = saying("the")
    end = pieces[5].token
    ending = fake_model(seed=3, eos=(end,))
    found = list(generate(ending, "the", max_new_tokens=60))
    assert [piece.token for piece in found] == [piece.token for piece in pieces[: len(found)]]
    assert found[-1].token == end
    assert found[-1].finish == "stop"
    assert "".join(piece.text for piece in found) == Tokenizer(model.text).decode([p.token for p in found[:-1]])


def test_context_and_length() -> None:
    model = fake_model(context=20, eos=())
    prompt = np.arange(15)
    assert [len(list(generate(model, prompt, max_new_tokens=count))) for count in (1, 5, 6, 7, None)] == [1, 5, 6, 6, 6]
    finishes = [list(generate(model, prompt, max_new_tokens=count))[-1].finish for count in (6, 7, None)]
    assert finishes == ["length", "context", "context"]
    assert len(list(generate(model, np.arange(20), max_new_tokens=5))) == 1


def test_an_empty_prompt_begins_as_texts_begin() -> None:
    model = fake_model()
    assert next(generate(model, "")).token == next(generate(model, np.array([model.text.bos]))).token
    assert "no token to begin" in (refusal(lambda: generate(fake_model(bos=None, eos=()), "")) or "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": "a" * 500}, "the text has 500 tokens, more than the 256 there is room for"),
        ({"prompt": np.zeros(300, np.int64)}, "the prompt has 300 tokens, more than the model's context of 256"),
        (
            {"prompt": np.array([5, 4000])},
            "token 4000 is none of the model's 266: the tokenizer belongs to another model",
        ),
        ({"prompt": np.array([-1, 4])}, "token -1 is none of the model's 266: the tokenizer belongs to another model"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens: expected 1 or more, got 0"),
        ({"prompt": "a", "stop": [""]}, "stop: expected a text, got an empty one"),
        ({"prompt": "\ud800"}, "expected text in UTF-8, got bytes that are none"),
    ],
)
def test_refusals_come_at_once(arguments: dict[str, Any], said: str) -> None:
    model = fake_model()
    assert refusal(lambda: generate(model, **arguments)) == said
    assert not model.steps
