"""The tokenizer in a GGUF file's metadata, as the content of a tokenizer.json."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..model.config import TextRules
from .gguf_file import Value
from .json_file import Keys
from .pre_tokenizers import COMPOSED, IGNORE_MERGES, PRE_TOKENIZERS
from .text_rules import SPECIAL, checked_tokenizer

CONTROL, USER_DEFINED = 3, 4  # types of tokens that are matched whole, before anything else
SPACE = "\u2581"  # what SentencePiece writes for a space
_LONGEST_MERGED = 128  # characters; no vocabulary seen merges longer ones, and pairs grow with the square
_KINDS = ("gpt2", "llama", "none", "no_vocab")
# Tokens that end an answer whatever the metadata says, as in llama.cpp.
_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>")
_IDS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def gguf_text_rules(metadata: Mapping[str, Value], vocab: int, where: str) -> TextRules:
    """Read tokenizer, chat template and special tokens.

    Raises:
        BitsimError: a kind of tokenizer that is not covered, or a key that is wrong; it is named.
    """
    prefix = "tokenizer.ggml."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    keys = Keys(own, f"{where}: {prefix.rstrip('.')}")
    template = metadata.get("tokenizer.chat_template")
    chat_template = template if isinstance(template, str) else None
    kind = keys.choice("model", "none", _KINDS)
    if kind in ("none", "no_vocab"):
        return TextRules(chat_template=chat_template)
    tokens, types = _tokens(keys, vocab)
    if kind == "gpt2":
        content, leads = _byte_level(keys, tokens), keys.content.get("pre") in IGNORE_MERGES
    else:
        content, leads = _sentence_piece(keys, tokens), True
    content["added_tokens"] = [
        _added(token, number, special=types[number] == CONTROL)
        for number, token in enumerate(tokens)
        if types[number] in (CONTROL, USER_DEFINED)
    ]
    encoded = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    checked_tokenizer(encoded, vocab, keys.where)
    bos = _id(keys, "bos_token_id", len(tokens))
    ends = [_id(keys, f"{name}_token_id", len(tokens)) for name in ("eos", "eot", "eom")]
    ends += [number for number, token in enumerate(tokens) if types[number] == CONTROL and token in _ENDS]
    named = {name: _id(keys, f"{_IDS[name]}_token_id", len(tokens)) for name in SPECIAL}
    return TextRules(
        tokenizer=encoded,
        chat_template=chat_template,
        bos=bos,
        eos=tuple(dict.fromkeys(end for end in ends if end is not None)),
        add_bos=keys.boolean("add_bos_token", default=leads) and bos is not None,
        special={name: tokens[number] for name, number in named.items() if number is not None},
    )


def _tokens(keys: Keys, vocab: int) -> tuple[list[str], Sequence[int]]:
    """Return the tokens and their types."""
    tokens = _texts(keys, "tokens")
    if len(tokens) > vocab:
        raise BitsimError(f"{keys.where}: tokens: expected at most {vocab:,} (rows of token_embd), got {len(tokens):,}")
    types = keys.content.get("token_type")
    if types is None:
        return tokens, [1] * len(tokens)
    return tokens, _numbers(keys, "token_type", len(tokens)).astype(np.int64).tolist()


def _byte_level(keys: Keys, tokens: list[str]) -> dict[str, Any]:
    pre = keys.choice("pre", "gpt-2", tuple(PRE_TOKENIZERS))
    content = _shell(tokens)
    content["normalizer"] = {"type": "NFC"} if pre in COMPOSED else None
    content["pre_tokenizer"] = PRE_TOKENIZERS[pre]
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    content["model"] |= {"ignore_merges": pre in IGNORE_MERGES, "merges": _texts(keys, "merges")}
    return content


def _sentence_piece(keys: Keys, tokens: list[str]) -> dict[str, Any]:
    """Return SentencePiece's BPE: the pair whose token has the best score is merged first; bytes for the unknown."""
    scores = _numbers(keys, "scores", len(tokens))
    lead = keys.boolean("add_space_prefix", default=True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    content = _shell(tokens)
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": SPACE}] * lead + [spaces],
    }
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]
        + [strip] * lead,
    }
    unknown = _id(keys, "unknown_token_id", len(tokens))
    content["model"] |= {
        "unk_token": None if unknown is None else tokens[unknown],
        "fuse_unk": True,
        "byte_fallback": True,
        "merges": _merges(tokens, scores),
    }
    return content


def _merges(tokens: list[str], scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[list[str]]:
    """Return the pairs of tokens that make a token, those of the best score first."""
    numbers = {token: number for number, token in enumerate(tokens)}
    pairs = []
    for token, number in numbers.items():
        for cut in range(1, len(token) if len(token) <= _LONGEST_MERGED else 0):
            left, right = token[:cut], token[cut:]
            if left in numbers and right in numbers:
                pairs.append((-float(scores[number]), numbers[left], numbers[right], left, right))
    return [[left, right] for *_, left, right in sorted(pairs)]


def _shell(tokens: list[str]) -> dict[str, Any]:
    """Return a tokenizer.json with a vocabulary, to be completed."""
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: number for number, token in enumerate(tokens)},
        "merges": [],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }


def _added(token: str, number: int, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, "special": special} | flags


def _texts(keys: Keys, key: str) -> list[str]:
    value = keys.content.get(key)
    if not isinstance(value, list):
        raise BitsimError(f"{keys.where}.{key}: expected a list of texts, got {shown(value, 40)}")
    return value


def _numbers(keys: Keys, key: str, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    value = keys.content.get(key)
    if not isinstance(value, np.ndarray) or len(value) != count:
        raise BitsimError(f"{keys.where}.{key}: expected {count:,} numbers, one for each token")
    return value.astype(np.float32)


def _id(keys: Keys, key: str, count: int) -> int | None:
    """Return the number of a token, None where the key is absent."""
    return None if keys.content.get(key) is None else keys.integer(key, high=count - 1)
