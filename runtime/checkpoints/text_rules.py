"""How text becomes tokens, from the files of a Hugging Face folder; and whether a tokenizer fits a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..model.config import TextRules
from .json_file import parsed, read_bytes, read_json_if_any

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def folder_text_rules(folder: Path, config: Mapping[str, Any], vocab: int) -> TextRules:
    """Read tokenizer, chat template and special tokens of a folder; the config is that of `config.json`.

    Raises:
        BitsimError: a file that is damaged, or a tokenizer with more tokens than the model has.
    """
    settings = read_json_if_any(folder / "tokenizer_config.json")
    generation = read_json_if_any(folder / "generation_config.json")
    special = _special(read_json_if_any(folder / "special_tokens_map.json") | settings)
    template = _chat_template(folder, settings)
    file = folder / "tokenizer.json"
    content = plain_tokenizer(read_bytes(file), str(file)) if file.is_file() else None
    tokenizer = None if content is None else checked_tokenizer(content, vocab, str(file))
    ends = _ids(generation.get("eos_token_id"), vocab) or _ids(config.get("eos_token_id"), vocab)
    first = (_ids(generation.get("bos_token_id"), vocab) or _ids(config.get("bos_token_id"), vocab))[:1]
    if tokenizer is not None:
        named = {name: tokenizer.token_to_id(token) for name, token in special.items()}
        ends += _ids(named.get("eos_token"), vocab)
        first = _ids(named.get("bos_token"), vocab) or first
    bos = first[0] if first else None
    return TextRules(
        tokenizer=content,
        chat_template=template,
        bos=bos,
        eos=tuple(dict.fromkeys(ends)),
        add_bos=bos is not None and _adds_bos(settings, tokenizer, bos),
        special=special,
    )


def plain_tokenizer(content: bytes, where: str) -> bytes:
    """Return the content of a `tokenizer.json` without padding and truncation.

    A prompt is neither to be cut nor to be filled, and a stated length of 10^12 would end the process.

    Raises:
        BitsimError: not JSON.
    """
    table = parsed(content, where)
    unwanted = [key for key in ("padding", "truncation") if table.get(key) is not None]
    return json.dumps(table | dict.fromkeys(unwanted)).encode("utf-8") if unwanted else content


def checked_tokenizer(content: bytes, vocab: int, where: str) -> Tokenizer:
    """Return the tokenizer in the content of a `tokenizer.json`, after `plain_tokenizer`.

    Raises:
        BitsimError: the `tokenizers` package refuses it, or a token's number is not below `vocab`.
    """
    try:
        tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        tokenizer.encode("")  # shows a last step that names tokens which are not there
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the package raises plain Exception, and where Rust panics a BaseException
        raise BitsimError(f"{where}: not a tokenizer: {shown(error, 100)}") from error
    if highest >= vocab:
        raise BitsimError(f"{where}: expected tokens below {vocab:,} (rows of the embedding), got {highest:,}")
    return tokenizer


def _special(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that are named, each a text or an object with its `content`."""
    found = {}
    for name in SPECIAL:
        token = settings.get(name)
        if isinstance(token, Mapping):
            token = token.get("content")
        if isinstance(token, str):
            found[name] = token
    return found


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the chat template: from a file of its own, else from tokenizer_config.json (the one named default)."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return read_bytes(file).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BitsimError(f"{file}: expected UTF-8 text: {error}") from error
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, Mapping)]
        template = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _ids(value: object, vocab: int) -> list[int]:
    """Return the tokens that a number or a list of numbers names, without those that the model does not have."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if type(item) is int and 0 <= item < vocab]


def _adds_bos(settings: Mapping[str, Any], tokenizer: Tokenizer | None, bos: int) -> bool:
    """Whether plain text is led by `bos`: as the settings say, else as the tokenizer itself does."""
    stated = settings.get("add_bos_token")
    if isinstance(stated, bool):
        return stated
    return tokenizer is not None and tokenizer.encode("").ids[:1] == [bos]
