"""The tokenizer of a training run: byte-level BPE trained on its text, or one that is given."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.json_file import read_bytes, read_json_if_any
from bitsim.runtime.checkpoints.text_rules import checked_tokenizer, plain_tokenizer

from .local_files import END_OF_TEXT
from .pieces import pieces

SMALLEST_VOCAB = 257  # the bytes, and the end of a text
LARGEST_VOCAB = 2**24
_SAMPLE = 100_000_000  # bytes of text that a tokenizer is trained on, at most
_ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")  # looked for where nothing says which token ends a text


@dataclass(frozen=True, slots=True)
class TextCoder:
    """A tokenizer as its files have it.

    Attributes:
        content: of tokenizer.json.
        settings: of tokenizer_config.json.
        vocab: one more than the highest token.
        eos: the token put after each document.
    """

    content: bytes
    settings: Mapping[str, Any]
    vocab: int
    eos: int

    @property
    def sha256(self) -> str:
        """The hash of the content."""
        return hashlib.sha256(self.content).hexdigest()

    def encoder(self) -> tokenizers.Tokenizer:
        """Return the tokenizer; it reads `<|endoftext|>` and the like in a document as the text they are."""
        encoder: tokenizers.Tokenizer = tokenizers.Tokenizer.from_buffer(self.content)
        encoder.encode_special_tokens = True
        return encoder

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers and `bitsim run` load them."""
        (folder / "tokenizer.json").write_bytes(self.content)
        (folder / "tokenizer_config.json").write_text(json.dumps(self.settings, indent=2) + "\n")


def train_tokenizer(texts: Iterable[str], total: int, vocab: int, most: int = _SAMPLE) -> TextCoder:
    """Return a byte-level BPE, cut into words as GPT-2 does, with `<|endoftext|>` as its token 0.

    Bytes are its letters, so any text comes back as it was. The same text gives the same tokenizer.

    Args:
        texts: training documents.
        total: their bytes.
        vocab: tokens wanted, 257 (bytes alone) to 2^24; a short text gives fewer.
        most: bytes to train on; of more, pieces are taken at even distances.

    Raises:
        BitsimError: for a vocabulary out of range.
    """
    if not SMALLEST_VOCAB <= vocab <= LARGEST_VOCAB:
        raise BitsimError(f"vocabulary: expected {SMALLEST_VOCAB} to {LARGEST_VOCAB:,} tokens, got {vocab:,}")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_evenly(texts, total, most), trainer)
    return TextCoder(inner.to_str(pretty=True).encode(), _settings(END_OF_TEXT), inner.get_vocab_size(), 0)


def given_tokenizer(source: Path | bytes, eos: int | None = None) -> TextCoder:
    """Return a tokenizer that is there already.

    Args:
        source: a tokenizer.json, a folder with one, or the content of one.
        eos: the token that ends a text; left out, the `eos_token` of the tokenizer_config.json beside the file, or the
            first of some usual ones that the tokenizer has.

    Raises:
        BitsimError: no file, a damaged one, or no token that ends a text.
    """
    where, settings = "the tokenizer", dict[str, Any]()
    if isinstance(source, Path):
        file = source / "tokenizer.json" if source.is_dir() else source
        where, source = str(file), read_bytes(file)
        settings = read_json_if_any(file.with_name("tokenizer_config.json"))
    content = plain_tokenizer(source, where)
    inner = checked_tokenizer(content, LARGEST_VOCAB, where)
    vocab = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if eos is None:
        eos = _end_token(inner, settings, where)
    text = inner.id_to_token(eos)
    if text is None:
        raise BitsimError(f"{where}: expected a token {eos}, the end of a text; it has none")
    return TextCoder(content, settings or _settings(text), vocab, eos)


def _end_token(inner: tokenizers.Tokenizer, settings: Mapping[str, Any], where: str) -> int:
    stated = settings.get("eos_token")
    if isinstance(stated, Mapping):
        stated = stated.get("content")
    for text in (stated,) if isinstance(stated, str) else _ENDS:
        found = inner.token_to_id(text)
        if found is not None:
            return found
    looked = f"the eos_token '{stated}'" if isinstance(stated, str) else f"one of {', '.join(_ENDS)}"
    raise BitsimError(f"{where}: expected a token that ends a text, {looked}; it has none")


def _settings(end: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,  # it would change what a text comes back as
    }


def _evenly(texts: Iterable[str], total: int, most: int) -> Iterator[str]:
    """Yield pieces at even distances, `most` bytes of the `total`, or all of them."""
    kept = seen = 0
    for text in texts:
        for piece in pieces(text):
            size = len(piece.encode())
            seen += size
            if (kept + size) * total <= seen * most:
                kept += size
                yield piece
