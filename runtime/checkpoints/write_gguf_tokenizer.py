"""The metadata of a GGUF file that says how text becomes tokens, from a tokenizer.json."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError

from ..model.config import TextRules
from .gguf_file import Value
from .gguf_tokenizer import CONTROL, SPACE, USER_DEFINED
from .json_file import parsed
from .pre_tokenizers import name_of
from .text_rules import checked_tokenizer

NORMAL, UNKNOWN, UNUSED, BYTE = 1, 2, 5, 6
_UNMADE = -1e6  # score of a token that no pair makes, so that no pair is merged into it
_WHERE = "the tokenizer"


def tokenizer_metadata(text: TextRules, vocab: int) -> dict[str, Value]:
    """Return the keys of the tokenizer, of special tokens and of the chat template.

    Raises:
        BitsimError: a kind of tokenizer, or a way of cutting text, that llama.cpp has no name for.
    """
    template: dict[str, Value] = {} if text.chat_template is None else {"tokenizer.chat_template": text.chat_template}
    if text.tokenizer is None:
        return template | {"tokenizer.ggml.model": "no_vocab"}
    tokenizer = checked_tokenizer(text.tokenizer, vocab, _WHERE)
    content = parsed(text.tokenizer, _WHERE)
    model = content.get("model")
    if not isinstance(model, Mapping) or model.get("type") != "BPE":
        raise BitsimError(f"{_WHERE}: expected byte-pair encoding (BPE), which is all that is written to GGUF")
    tokens = [f"[PAD{number}]" for number in range(vocab)]
    types = np.full(vocab, UNUSED, np.int32)
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        tokens[number], types[number] = token, NORMAL
    for entry in content.get("added_tokens") or []:
        types[entry["id"]] = CONTROL if entry.get("special") else USER_DEFINED
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges") or []]
    if model.get("byte_fallback"):
        own = _sentence_piece(tokens, types, pairs, model)
        own["add_space_prefix"] = tokenizer.encode("a", add_special_tokens=False).tokens[0].startswith(SPACE)
    else:
        own = _byte_level(content, pairs)
    own |= {"tokens": tokens, "token_type": types, "add_bos_token": text.add_bos}
    own |= _ids(text, tokens)
    return {f"tokenizer.ggml.{key}": value for key, value in own.items()} | template


def _byte_level(content: Mapping[str, Any], pairs: list[tuple[str, ...]]) -> dict[str, Value]:
    pre = name_of(content.get("pre_tokenizer"))
    if pre is None:
        raise BitsimError(f"{_WHERE}: its pre_tokenizer is none that we know llama.cpp's name of")
    return {"model": "gpt2", "pre": pre, "merges": [" ".join(pair) for pair in pairs]}


def _sentence_piece(
    tokens: list[str],
    types: np.ndarray[Any, np.dtype[np.int32]],
    pairs: list[tuple[str, ...]],
    model: Mapping[str, Any],
) -> dict[str, Value]:
    """Return scores in the order of the merges, which is what llama.cpp merges by; and mark bytes and the unknown."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), rank)
    scores = np.array([-float(ranks[token]) if token in ranks else _UNMADE for token in tokens], np.float32)
    for number, token in enumerate(tokens):
        if re.fullmatch("<0x[0-9A-F]{2}>", token):
            types[number] = BYTE
        elif token == model.get("unk_token"):
            types[number] = UNKNOWN
    return {"model": "llama", "scores": scores}


def _ids(text: TextRules, tokens: list[str]) -> dict[str, Value]:
    """Return the numbers of special tokens."""
    ids: dict[str, Value] = {} if text.bos is None else {"bos_token_id": text.bos}
    numbers = {token: number for number, token in enumerate(tokens)}
    for key, names in (("unk_token", "unknown"), ("pad_token", "padding")):
        if text.special.get(key) in numbers:
            ids[f"{names}_token_id"] = numbers[text.special[key]]
    for key, end in zip(("eos", "eot", "eom"), text.eos, strict=False):
        ids[f"{key}_token_id"] = end
    return ids
