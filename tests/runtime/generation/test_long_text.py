"""Long texts in pieces have the tokens that they have at once."""

import pytest
from fake_language_model import byte_fallback_tokenizer, byte_level_tokenizer, text_rules
from hypothesis import given
from hypothesis import strategies as st

from bitsim.runtime.generation import Tokenizer, long_text

LEVEL = Tokenizer(text_rules(byte_level_tokenizer(), add_bos=True))
FALLBACK = Tokenizer(text_rules(byte_fallback_tokenizer(), add_bos=True))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "PIECE", 10)


@pytest.mark.parametrize("ours", [LEVEL, FALLBACK], ids=["byte level", "byte fallback"])
@given(st.text(alphabet="the \n\r<|im_end|>é", max_size=200))
def test_pieces_have_the_tokens_of_the_whole(ours: Tokenizer, text: str) -> None:
    assert long_text.encode_long(ours, text).tolist() == ours.encode(text, bos=True, control=False).tolist()


def test_lines_are_cut_where_the_tokenizer_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    encode = Tokenizer.encode

    def counted(ours: Tokenizer, text: str, **how: bool) -> object:
        if "bos" in how:
            lengths.append(len(text))
        return encode(ours, text, **how)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    text = "the other thing\n" * 20
    long_text.encode_long(LEVEL, text)
    assert lengths == [16] * 20
    lengths.clear()
    long_text.encode_long(FALLBACK, text)
    assert lengths == [len(text)]
