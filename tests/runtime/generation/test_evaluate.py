"""Perplexity: as defined, token by token; every token once; memory for logits bounded."""

import math

import numpy as np
import pytest
from fake_language_model import FakeModel, fake_model
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation import Tokenizer, evaluate, perplexity
from bitsim.runtime.heads.head import Ids

TEXT = "in the beginning the cat sat there, \N{GRINNING FACE} and then it thought about the end of all things."


def slow_loss(model: FakeModel, tokens: Ids, windows: list[evaluate.Window]) -> list[float]:
    found = []
    for window in windows:
        for place in range(window.scored, window.end):
            state = model.hidden_states(model.sequence(), tokens[window.first : place])[-1:]
            logits = model.head._logits(state)[0].astype(np.float64)
            found.append(float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[place]]))
    return found


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_score_each_token_once_and_see_as_much_as_agreed(tokens: int, context: int, stride: int) -> None:
    stride = min(stride, context)
    found = list(evaluate.windows(tokens, context, stride))
    assert [place for window in found for place in range(window.scored, window.end)] == list(range(1, tokens))
    for window in found:
        assert 0 <= window.first < window.scored
        assert window.end - 1 - window.first <= context
        assert window.first == 0 or window.scored - window.first >= context - stride + 1


@pytest.mark.parametrize(("context", "stride"), [(None, None), (7, None), (7, 3), (30, 1), (256, 256)])
def test_loss_is_the_definitions(context: int | None, stride: int | None) -> None:
    model = fake_model(scale=1.0)
    tokens = Tokenizer(model.text).encode(TEXT)
    size = context or 256
    losses = slow_loss(model, tokens, list(evaluate.windows(len(tokens), size, stride or size)))
    found = perplexity(model, TEXT, context=context, stride=stride)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.tokens == len(tokens) - 1 == len(losses)
    first = len(Tokenizer(model.text).decode(tokens[:1]).encode())
    assert found.bytes == len(TEXT.encode()) - first
    assert found.bits_per_byte == pytest.approx(sum(losses) / math.log(2) / found.bytes, rel=1e-5)
    assert found.context == size


def test_a_token_before_the_text_lets_all_of_it_be_scored() -> None:
    model = fake_model(add_bos=True)
    found = perplexity(model, TEXT)
    assert found.tokens == len(Tokenizer(model.text).encode(TEXT))
    assert found.bytes == len(TEXT.encode())


def test_tokens_are_scored_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake_model()
    tokens = Tokenizer(model.text).encode(TEXT)
    whole = perplexity(model, TEXT)
    assert perplexity(model, tokens).loss == whole.loss
    model.head.asked.clear()
    monkeypatch.setattr(evaluate, "_LOGITS", 5 * model.head.vocab)
    assert perplexity(model, tokens).loss == pytest.approx(whole.loss, rel=1e-12)
    assert max(rows for _, _, rows in model.head.asked) == 5
    bare = perplexity(fake_model(tokenizer=None), tokens)
    assert bare.loss == whole.loss
    assert bare.bits_per_byte is None


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    perplexity(fake_model(), np.arange(21), context=8, progress=lambda done, of: told.append((done, of)))
    assert told == [(9, 21), (17, 21), (21, 21)]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "the text has less than two tokens"),
        ("a", {}, "the text has less than two tokens"),
        ("abc", {"context": 0}, "context: expected 1 to the model's 256 tokens, got 0"),
        ("abc", {"context": 257}, "context: expected 1 to the model's 256 tokens, got 257"),
        ("abc", {"context": 9, "stride": 10}, "stride: expected 1 to the context's 9 tokens, got 10"),
        ("abc", {"stride": 0}, "stride: expected 1 to the context's 256 tokens, got 0"),
        ("a" * (2**26 + 1), {}, "the text has more than 64 MiB"),
    ],
)
def test_refusals(text: str, options: dict[str, int], said: str) -> None:
    assert (refusal(lambda: perplexity(fake_model(), text, **options)) or "").startswith(said)  # type: ignore[arg-type]


def test_a_model_of_nans_is_refused() -> None:
    model = fake_model()
    model.head.matrix[3] = np.nan
    assert "no finite numbers" in (refusal(lambda: perplexity(model, TEXT)) or "")
