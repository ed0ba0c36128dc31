"""The tokenizer: any text comes back as it was, also in transformers and in the runtime; and given ones are read."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from made_documents import stories
from refusals import refusal
from tokenizers import models, pre_tokenizers, processors

from bitsim.runtime.checkpoints.pre_tokenizers import name_of
from bitsim.runtime.checkpoints.text_rules import folder_text_rules
from bitsim.runtime.generation import Tokenizer
from bitsim.training.data import TextCoder, given_tokenizer, pieces, train_tokenizer

END = "<|endoftext|>"
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def trained(texts: list[str], vocab: int, **options: int) -> TextCoder:
    return train_tokenizer(texts, sum(len(text.encode()) for text in texts), vocab, **options)


CODER = trained(stories(200), 400)
ENCODER = CODER.encoder()


@given(any_text)
@example("\r\n\0\t \N{GRINNING FACE}\N{ZERO WIDTH JOINER} don't 12,345\n\n\n  x <|endoftext|>\N{BOM}")
def test_any_text_comes_back_as_it_was(text: str) -> None:
    ids = ENCODER.encode(text).ids
    assert ENCODER.decode(ids, skip_special_tokens=False) == text
    assert CODER.eos not in ids, "the end of a text comes from no text"
    assert all(token < CODER.vocab for token in ids)


def test_transformers_and_the_runtime_load_what_is_saved(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    CODER.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, PreTrainedTokenizerFast)
    assert len(theirs) == CODER.vocab == 400
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (CODER.eos,) * 3
    ours = Tokenizer(folder_text_rules(tmp_path, {}, CODER.vocab))
    assert (ours.rules.bos, ours.rules.eos, ours.rules.add_bos) == (CODER.eos, (CODER.eos,), False)
    for text in [*stories(5, 300), "a  b \r\n\0 , . don 't", "\N{GRINNING FACE}"]:
        ids = ENCODER.encode(text).ids
        assert theirs(text)["input_ids"] == ids == ours.encode(text).tolist()
        assert theirs.decode(ids) == text == ours.decode(ids)


def test_it_can_be_written_as_gguf() -> None:
    assert name_of(json.loads(CODER.content)["pre_tokenizer"]) == "gpt-2"


def test_the_same_text_gives_the_same_tokenizer() -> None:
    assert trained(stories(200), 400).sha256 == CODER.sha256
    assert trained(stories(200, 1000), 400).sha256 != CODER.sha256


def test_a_short_text_gives_fewer_tokens() -> None:
    assert trained(["ab ab"], 1000).vocab == 259, "bytes, the end, 'ab' and ' ab'"
    assert trained(["ab ab"], 257).vocab == 257


def test_of_much_text_pieces_all_over_it_are_taken() -> None:
    """The words of the last tenth are only learnt if it is seen."""
    texts = [f"{'first' if number < 900 else 'final'}{number % 3} " * 20 for number in range(1000)]
    tokens = trained(texts, 400, most=20_000).encoder().get_vocab()
    assert {"first", "final"} <= {token.strip("Ġ012") for token in tokens}


@pytest.mark.parametrize("vocab", [256, 0, -1, 2**24 + 1])
def test_vocabularies_out_of_range_are_refused(vocab: int) -> None:
    assert "vocabulary: expected 257 to 16,777,216 tokens" in str(refusal(lambda: trained(["a b"], vocab)))


@given(st.text(st.sampled_from("ab \n中1.'"), max_size=400))
def test_a_text_in_pieces_has_the_tokens_of_the_whole(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 25)
        parts = list(pieces.pieces(text))
    assert "".join(parts) == text
    assert all(0 < len(part) <= 25 for part in parts) or text == ""
    if all(before[-1].isalnum() and after[0] == " " for before, after in pairwise(parts)):
        ids = [token for part in parts for token in ENCODER.encode(part).ids]
        assert ids == ENCODER.encode(text).ids


def test_ordinary_text_is_cut_between_words() -> None:
    text = "\n\n".join(stories(2000))
    parts = list(pieces.pieces(text))
    assert "".join(parts) == text
    assert len(parts) > 2
    assert all(part.startswith(" ") for part in parts[1:])


def word_level(*tokens: str, special: str | None = None) -> tokenizers.Tokenizer:
    """Return a tokenizer of words, with a control token, and one that it puts before each text."""
    inner = tokenizers.Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, tokens[0]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        inner.add_special_tokens([special])
    return inner


def test_a_given_tokenizer_is_read_from_a_file_a_folder_or_its_content(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    word_level("?", "a", "b", special="</s>").save(str(file))
    coders = [given_tokenizer(place) for place in (file, tmp_path, file.read_bytes())]
    assert {coder.sha256 for coder in coders} == {coders[0].sha256}
    assert {(coder.vocab, coder.eos) for coder in coders} == {(4, 3)}
    assert coders[0].settings["eos_token"] == "</s>"


def test_the_end_of_a_text_is_what_the_folder_says_or_the_caller(tmp_path: Path) -> None:
    word_level("?", "a", "b", special="</s>").save(str(tmp_path / "tokenizer.json"))
    settings = tmp_path / "tokenizer_config.json"
    for token in ("b", {"content": "b"}):
        settings.write_text(json.dumps({"eos_token": token, "kept": 1}))
        coder = given_tokenizer(tmp_path)
        assert coder.eos == 2
        assert coder.settings["kept"] == 1, "the settings go along as they are"
    assert given_tokenizer(tmp_path, eos=1).eos == 1
    settings.write_text('{"eos_token": "c"}')
    assert "a token that ends a text, the eos_token 'c'; it has none" in str(refusal(lambda: given_tokenizer(tmp_path)))
    assert "expected a token 9" in str(refusal(lambda: given_tokenizer(tmp_path, eos=9)))


def test_padding_and_what_is_put_before_a_text_do_not_come_in(tmp_path: Path) -> None:
    inner = word_level("?", "a", "b", special="</s>")
    inner.enable_padding(length=9)
    inner.enable_truncation(1)
    inner.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 3)])
    coder = given_tokenizer(inner.to_str().encode())
    assert coder.encoder().encode("a b a", add_special_tokens=False).ids == [1, 2, 1]


def test_tokenizers_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    assert refusal(lambda: given_tokenizer(file)) == f"{file}: No such file or directory"
    assert refusal(lambda: given_tokenizer(tmp_path)) == f"{file}: No such file or directory"
    for content in ("", "{}", '{"model": {"type": "BPE"}}', "[1]"):
        file.write_text(content)
        assert str(file) in str(refusal(lambda: given_tokenizer(file)))
    assert "it has none" in str(refusal(lambda: given_tokenizer(word_level("?", "a").to_str().encode())))
