"""Chats: every answer is that of the whole conversation read anew, but only what is new is read."""

from functools import partial

import numpy as np
import pytest
from fake_language_model import FakeModel, fake_model
from refusals import refusal

from bitsim.runtime.generation import ChatTemplate, Conversation, Sampling, Tokenizer, generate
from bitsim.runtime.generation.speculation import Speculation

HOT = Sampling(temperature=1.5, seed=4)


def said(conversation: Conversation, text: str, **options: object) -> str:
    return "".join(piece.text for piece in conversation.ask(text, max_new_tokens=12, sampling=HOT))


def anew(model: FakeModel, messages: list[dict[str, str]]) -> str:
    prompt = ChatTemplate(model.text).encode(Tokenizer(model.text), messages)
    return "".join(piece.text for piece in generate(model, prompt, max_new_tokens=12, sampling=HOT))


def test_turns_are_as_if_read_anew_and_only_what_is_new_is_read() -> None:
    model = fake_model(context=2000)
    conversation = Conversation(model, system="be brief")
    for turn, text in enumerate(["hello the cat", "and then", "in the end"]):
        messages = [*conversation.messages, {"role": "user", "content": text}]
        model.steps.clear()
        assert said(conversation, text) == anew(model, messages)
        if turn:
            assert model.steps[0][0] < len(text) + 50, "the turns before were kept"
    assert [message["role"] for message in conversation.messages] == ["system", *["user", "assistant"] * 3]
    conversation.clear()
    assert conversation.messages == [{"role": "system", "content": "be brief"}]
    assert said(conversation, "hello the cat") == anew(model, [*conversation.messages[:1], conversation.messages[1]])


def test_what_is_read_is_told() -> None:
    conversation = Conversation(fake_model(context=2000))
    first = conversation.ask("hello", max_new_tokens=3)
    assert first.prompt_tokens == first.new_prompt_tokens
    list(first)
    second = conversation.ask("again", max_new_tokens=3)
    assert 0 < second.new_prompt_tokens < second.prompt_tokens


def test_an_answer_that_is_stopped_stays_as_far_as_it_came() -> None:
    model = fake_model(context=2000)
    conversation = Conversation(model)
    turn = conversation.ask("hello", sampling=HOT)
    text = "".join(next(iter(turn)).text for _ in range(4))
    turn.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": text}
    messages = [*conversation.messages, {"role": "user", "content": "go on"}]
    assert said(conversation, "go on") == anew(model, messages)


@pytest.mark.parametrize("taken", [1, 9, 10, 11, 12, 13, 14, 15, 16, 40])
def test_an_answer_can_be_stopped_among_tokens_that_one_step_gave(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    always = partial(Speculation, always=True)
    monkeypatch.setattr("bitsim.runtime.generation.conversation.Speculation", always)
    model = fake_model(context=2000, eos=())
    model._memory *= 0  # what follows a token is always the same: it goes round
    conversation = Conversation(model)
    turn = conversation.ask("the cat the cat the cat")
    text = "".join(next(iter(turn)).text for _ in range(taken))
    turn.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": text}
    messages = [*conversation.messages, {"role": "user", "content": "go on"}]
    assert said(conversation, "go on") == anew(model, messages)


def test_nothing_stays_of_a_turn_without_an_answer() -> None:
    model = fake_model(context=2000)
    conversation = Conversation(model)
    turn = iter(conversation.ask("hello"))
    step, model.step = model.step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    try:
        next(turn)
    except KeyboardInterrupt:
        model.step = step  # type: ignore[method-assign]
    assert conversation.messages == []
    assert said(conversation, "again") == anew(model, [{"role": "user", "content": "again"}])


def test_a_full_context_is_said_and_the_conversation_stays() -> None:
    conversation = Conversation(fake_model(context=100, eos=()))
    pieces = list(conversation.ask("hello"))
    assert pieces[-1].finish == "context"
    before = conversation.messages
    assert "more than the 100 there is room for" in (refusal(lambda: conversation.ask("hello " * 30)) or "")
    assert conversation.messages == before


def test_the_same_question_again_reads_one_token_at_least() -> None:
    model = fake_model(context=500)
    conversation = Conversation(model)
    list(conversation.ask("hello", max_new_tokens=1))
    conversation.clear()
    turn = conversation.ask("hello", max_new_tokens=1)
    assert turn.new_prompt_tokens == 1
    assert np.isfinite([piece.token for piece in turn]).all()
