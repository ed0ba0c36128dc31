"""Text to tokens and back: the same as the tokenizers package, in pieces too, and refusals for what is damaged."""

import time
import tracemalloc
from collections.abc import Callable

import pytest
import tokenizers
from fake_language_model import byte_fallback_tokenizer, byte_level_tokenizer, text_rules
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation import Tokenizer
from bitsim.runtime.model.config import TextRules

BYTE_LEVEL, BYTE_FALLBACK = byte_level_tokenizer(), byte_fallback_tokenizer()
OURS = {made: Tokenizer(text_rules(made)) for made in (BYTE_LEVEL, BYTE_FALLBACK)}
both = pytest.mark.parametrize("theirs", [BYTE_LEVEL, BYTE_FALLBACK], ids=["byte level", "byte fallback"])


def in_pieces(ours: Tokenizer, tokens: list[int]) -> list[str]:
    decoder = ours.decoder()
    return [*(decoder.feed(token) for token in tokens), decoder.finish()]


@both
@given(st.text(max_size=60))
@example("the cat  sat \N{GRINNING FACE} <|im_end|>中文\N{REPLACEMENT CHARACTER}")
def test_texts_there_and_back(theirs: tokenizers.Tokenizer, text: str) -> None:
    ours = OURS[theirs]
    tokens = ours.encode(text)
    assert tokens.tolist() == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(tokens) == theirs.decode(tokens.tolist())
    pieces = in_pieces(ours, tokens.tolist())
    assert "".join(pieces) == ours.decode(tokens)


@both
@given(data=st.data())
@settings(max_examples=300)
def test_pieces_of_any_tokens_are_together_what_is_decoded_at_once(
    theirs: tokenizers.Tokenizer, data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(0, theirs.get_vocab_size() - 1), max_size=40))
    pieces = in_pieces(OURS[theirs], tokens)
    assert "".join(pieces) == theirs.decode(tokens)
    held = [piece for piece in pieces[:-1] if piece.endswith("\N{REPLACEMENT CHARACTER}")]
    assert not held, "half a character was given away"


def test_characters_of_several_tokens_come_whole_and_text_comes_at_once() -> None:
    ours = OURS[BYTE_LEVEL]
    tokens = ours.encode("a \N{GRINNING FACE}b").tolist()
    assert in_pieces(ours, tokens) == ["a", " ", "", "", "", "\N{GRINNING FACE}", "b", ""]


def test_a_space_is_lost_only_where_the_whole_text_loses_it() -> None:
    ours = OURS[BYTE_FALLBACK]
    tokens = [BYTE_FALLBACK.token_to_id(text) or 0 for text in ("▁the", "▁cat", "▁", "▁the", "s")]
    assert in_pieces(ours, tokens) == ["the", " cat", " ", " the", "s", ""]


@both
def test_control_tokens_are_read_only_where_wanted(theirs: tokenizers.Tokenizer) -> None:
    ours = OURS[theirs]
    end = theirs.token_to_id("<|im_end|>")
    assert end in ours.encode("a<|im_end|>")
    assert end not in ours.encode("a<|im_end|>", control=False)
    assert ours.decode(ours.encode("a<|im_end|>", control=False)).endswith("<|im_end|>") or theirs is BYTE_FALLBACK
    assert end in ours.encode("a<|im_end|>"), "the switch goes back"


def test_the_first_token_is_as_the_rules_say() -> None:
    begin = BYTE_LEVEL.token_to_id("<|begin|>")
    rules = text_rules(BYTE_LEVEL, add_bos=True)
    assert Tokenizer(rules).encode("a", bos=True)[0] == begin
    assert Tokenizer(rules).encode("<|begin|>a", bos=True).tolist() == Tokenizer(rules).encode("a", bos=True).tolist()
    assert begin not in Tokenizer(rules).encode("a")
    assert begin not in OURS[BYTE_LEVEL].encode("a", bos=True)


@pytest.mark.parametrize("text", ["word " * 2_000_000, "a" * 10_000_000, "\N{GRINNING FACE}" * 2_500_000])
def test_ten_megabytes_are_refused_quickly_and_in_little_memory(text: str) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    said = refusal(lambda: OURS[BYTE_LEVEL].encode(text, limit=4096))
    seconds, (_, most) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said == "the text has far more tokens than the 4,096 there is room for"
    assert seconds < 5
    assert most < 50e6


def test_a_text_a_little_too_long_is_counted() -> None:
    said = refusal(lambda: OURS[BYTE_LEVEL].encode("b" * 101, limit=100))
    assert said == "the text has 101 tokens, more than the 100 there is room for"
    assert len(OURS[BYTE_LEVEL].encode("b" * 150_000, limit=150_000)) == 150_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe\x00",
        BYTE_LEVEL.to_str().encode()[:2000],
        BYTE_LEVEL.to_str().replace('"BPE"', '"XYZ"').encode(),
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "c"]]}}',
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": {"type": "Precompiled",'
        b'"precompiled_charsmap": "AAAA"}}',  # the package panics
    ],
)
def test_damaged_tokenizers(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    said = refusal(lambda: Tokenizer(TextRules(tokenizer=content)))
    assert said is not None
    assert said.startswith("the model's tokenizer is damaged")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Tokenizer(TextRules()), "the model comes without a tokenizer"),
        (lambda: OURS[BYTE_LEVEL].encode("\udc80"), "expected text in UTF-8"),
    ],
)
def test_refusals(call: Callable[[], object], expected: str) -> None:
    assert (refusal(call) or "").startswith(expected)


def test_truncation_and_padding_that_a_tokenizer_brings_are_left_out() -> None:
    made = byte_level_tokenizer()
    made.enable_truncation(3)
    made.enable_padding(length=20)
    assert len(Tokenizer(text_rules(made)).encode("abcdefgh")) == 8
