"""The evaluation harness's three kinds of requests, against plain sums; and the harness itself where there is one."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fake_language_model import FakeModel, fake_model
from refusals import refusal

from bitsim.runtime.generation import Tokenizer, generate, harness, perplexity
from bitsim.runtime.heads.head import Ids


@dataclass(frozen=True)
class Instance:
    args: tuple[Any, ...]


def after_the_beginning(model: FakeModel, text: str) -> Ids:
    return np.array([model.text.bos, *Tokenizer(model.text).encode(text)], np.int64)


def slow_continuation(model: FakeModel, context: str, continuation: str) -> tuple[float, bool]:
    tokens = Tokenizer(model.text).encode(context + continuation)
    first = len(Tokenizer(model.text).encode(context))
    total, greedy = 0.0, True
    for place in range(first, len(tokens)):
        logits = model.head._logits(model.hidden_states(model.sequence(), tokens[:place])[-1:])[0].astype(np.float64)
        total += float(logits[tokens[place]] - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
        greedy &= bool(logits.argmax() == tokens[place])
    return total, greedy


def test_continuations_are_scored_and_what_they_share_is_read_once() -> None:
    model = fake_model(scale=1.0)
    pairs = [("the cat sat on the", " mat"), ("the cat sat on the", " moon and"), ("another", " one")]
    asked = [Instance(pair) for pair in pairs]
    found = harness.HarnessModel(model).loglikelihood(asked)
    for (log, greedy), pair in zip(found, pairs, strict=True):
        expected, expected_greedy = slow_continuation(model, *pair)
        assert log == pytest.approx(expected, rel=1e-5)
        assert greedy == expected_greedy
    assert len(model.steps) == 2, "the second context was read already"


def test_the_greedy_answer_is_known_as_such() -> None:
    model = fake_model()
    answer = "".join(piece.text for piece in generate(model, "the cat", max_new_tokens=1))
    ((_, greedy), (_, other)) = harness.HarnessModel(model).loglikelihood(
        [Instance(("the cat", answer)), Instance(("the cat", answer + "\x00\x01"))]
    )
    assert greedy
    assert not other


def test_spaces_between_belong_to_the_continuation_and_no_context_is_the_beginning() -> None:
    model = fake_model()
    ours = harness.HarnessModel(model)
    (moved, plain, empty, alone) = ours.loglikelihood(
        [Instance(("cat ", "the")), Instance(("cat", " the")), Instance(("", "the")), Instance(("cat", ""))]
    )
    assert moved == plain
    assert alone == (0.0, True)
    tokens = after_the_beginning(model, "the")
    assert empty[0] == pytest.approx(-perplexity(model, tokens).loss * (len(tokens) - 1))


def test_long_contexts_lose_their_beginning_and_long_continuations_are_refused() -> None:
    model = fake_model(context=20)
    ours = harness.HarnessModel(model)
    ((log, _),) = ours.loglikelihood([Instance(("b" * 50, "cde"))])
    assert math.isfinite(log)
    said = refusal(lambda: ours.loglikelihood([Instance(("a", "bc" * 30))]))
    assert said == "a continuation has 60 tokens, the model's context is 20"


def test_whole_texts() -> None:
    model = fake_model(context=10)
    (found,) = harness.HarnessModel(model).loglikelihood_rolling([Instance(("the cat sat on the mat",))])
    tokens = after_the_beginning(model, "the cat sat on the mat")
    assert found == pytest.approx(-perplexity(model, tokens).loss * (len(tokens) - 1))


def test_generation_ends_where_asked() -> None:
    model = fake_model(seed=3)
    whole = "".join(piece.text for piece in generate(model, "the", max_new_tokens=20))
    stop = whole[4:6]
    ours = harness.HarnessModel(model)
    plain, cut, single = ours.generate_until(
        [
            Instance(("the", {"max_gen_toks": 20})),
            Instance(("the", {"until": [stop, "\x00\x01"], "max_gen_toks": 20, "temperature": 0.0})),
            Instance(("the", {"until": stop, "do_sample": False, "temperature": 1.0})),
        ]
    )
    assert plain == whole
    assert cut == single == whole[: whole.index(stop)]
    assert ours.generate_until([Instance(("b" * 1000, {"max_gen_toks": 5}))])


def test_chats_and_names() -> None:
    ours = harness.HarnessModel(fake_model())
    assert ours.tokenizer_name == "fake"
    assert ours.apply_chat_template([{"role": "user", "content": "a"}]).endswith("<|im_start|>assistant\n")


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    assert (refusal(lambda: harness.harness_model(fake_model())) or "").startswith("evaluation tasks need the package")


def test_the_harness_takes_it() -> None:
    model_api = pytest.importorskip("lm_eval.api.model")
    made = harness.harness_model(fake_model())
    assert isinstance(made, model_api.LM)
    assert (made.rank, made.world_size) == (0, 1)
    assert made.loglikelihood([Instance(("the", " cat"))])[0][0] < 0
