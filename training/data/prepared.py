"""A folder with a tokenizer and the tokens of both sides: what a training run reads."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.json_file import Keys, read_bytes, read_json
from bitsim.runtime.whole import whole_folder

from .documents import Source, Tell, find_source
from .split import DocumentStore, fill
from .tokenizer import TextCoder, given_tokenizer, train_tokenizer
from .tokens import Side, Tokens, map_tokens, write_tokens

_VERSION = 1  # of the folder's format
_SIDES = ("train", "held_out")
_PIECE = 2**24  # tokens that are counted at once


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Text ready to be trained on.

    Attributes:
        folder: with all of it, and `data.json` about it.
        tokenizer: the path of `tokenizer.json`; `tokenizer_config.json` is beside it.
        vocab: one more than the highest token that the tokenizer has.
        eos: the token after each document.
        train: tokens to train on, (tokens,) uint16 or uint32, mapped into memory.
        held_out: tokens to measure on, in the same way.
        train_bytes: of the training documents' text in UTF-8.
        held_out_bytes: of the held-out documents' text in UTF-8.
        train_documents: how many.
        held_out_documents: how many.
        text_hash: SHA-256 of the documents and of which side each is on.
        hash: SHA-256 of that and of the tokenizer: equal ones are the same tokens.
        source: what the text was read from: kind, hash or name, the hub's commit.
    """

    folder: Path
    tokenizer: Path
    vocab: int
    eos: int
    train: Tokens
    held_out: Tokens
    train_bytes: int
    held_out_bytes: int
    train_documents: int
    held_out_documents: int
    text_hash: str
    hash: str
    source: Mapping[str, Any]

    @property
    def documents(self) -> int:
        """Documents on both sides."""
        return self.train_documents + self.held_out_documents

    def unigram_loss(self) -> float:
        """Return the held-out loss (nats per token) of foretelling each token by how often training text has it alone.

        What a model is to be well below. Each token counts as seen once more, so that none is impossible.
        """
        seen = self._counts(self.train) + 1.0
        held = self._counts(self.held_out)
        return float(held @ (math.log(seen.sum()) - np.log(seen)) / held.sum())

    def _counts(self, tokens: Tokens) -> npt.NDArray[np.float64]:
        counts = np.zeros(self.vocab)
        for start in range(0, len(tokens), _PIECE):
            counts += np.bincount(tokens[start : start + _PIECE], minlength=self.vocab)
        return counts


def prepare(
    data: str,
    folder: str | Path,
    *,
    vocab: int | None = None,
    tokenizer: Path | bytes | None = None,
    eos: int | None = None,
    limit: int | None = None,
    tell: Tell,
) -> Prepared:
    """Make text ready for training: read it, hold documents out, train a tokenizer, write the tokens.

    The folder appears when it is complete. Where it is there and was made from the same content in the same way, it is
    opened and nothing is done. What is on the hub counts as the same while its name is.

    Args:
        data: what `find_source` takes: a file, a folder, a data set on the hub.
        folder: a name that is free, an empty folder, or one made by this function.
        vocab: tokens of the tokenizer to be trained, on the training documents alone; fewer where they give no more.
            Not looked at where a tokenizer is given.
        tokenizer: used in place of a trained one: a tokenizer.json, a folder with one, or the content of one.
        eos: the token of a given tokenizer that ends a text, where its tokenizer_config.json does not say.
        limit: most bytes of text; of each side where the source has a split of its own.
        tell: gets a line about each step.

    Raises:
        BitsimError: nothing to read, something damaged on the way, too little text, or a folder with something else.
    """
    folder = Path(folder)
    if vocab is None and tokenizer is None:
        raise BitsimError("expected the size of a vocabulary to train a tokenizer for, or a tokenizer")
    if limit is not None and limit < 1:
        raise BitsimError(f"limit: expected at least 1 byte of text, got {limit:,}")
    source = find_source(data)
    given = None if tokenizer is None else given_tokenizer(tokenizer, eos)
    request = {
        "source": source.identity(),
        "vocab": None if given else vocab,
        "tokenizer": given and {"sha256": given.sha256, "eos": given.eos},
        "limit": limit,
    }
    there = _same(folder, request)
    if there:
        tell(f"{folder} holds these tokens already")
        return there
    try:
        _make(source, folder, request, given, tell)
    except BitsimError:
        there = _same(folder, request)  # another process may have made it in the meantime
        if there is None:
            raise
        return there
    return open_prepared(folder)


def open_prepared(folder: str | Path, *, check: bool = False) -> Prepared:
    """Open what `prepare` made.

    Args:
        folder: of it.
        check: read all tokens and compare their hashes; else the files' sizes and the tokenizer's hash are compared.

    Raises:
        BitsimError: a file that is missing or not as it was written; it is named.
    """
    folder = Path(folder)
    file = folder / "data.json"
    keys = Keys(read_json(file), str(file))
    version = keys.integer("version")
    if version != _VERSION:
        raise BitsimError(f"{file}: version: expected {_VERSION}, got {version}")
    vocab, eos = keys.integer("vocab", high=2**32), keys.integer("eos", high=2**32)
    if eos >= vocab:
        raise BitsimError(f"{file}: eos: expected a token below {vocab:,}, got {eos:,}")
    train, held_out = (Side.from_json(keys.table(name), f"{file}: {name}") for name in _SIDES)
    tokenizer = folder / "tokenizer.json"
    tokenizer_hash = hashlib.sha256(read_bytes(tokenizer)).hexdigest()
    if tokenizer_hash != keys.content.get("tokenizer_sha256"):
        raise BitsimError(f"{tokenizer}: not the tokenizer that the tokens were made with (SHA-256 differs)")
    text_hash = _joined_hash(train.text_sha256, held_out.text_sha256)
    return Prepared(
        folder=folder,
        tokenizer=tokenizer,
        vocab=vocab,
        eos=eos,
        train=map_tokens(_tokens_file(folder, "train"), train, vocab, check=check),
        held_out=map_tokens(_tokens_file(folder, "held_out"), held_out, vocab, check=check),
        train_bytes=train.bytes,
        held_out_bytes=held_out.bytes,
        train_documents=train.documents,
        held_out_documents=held_out.documents,
        text_hash=text_hash,
        hash=_joined_hash(text_hash, tokenizer_hash),
        source=keys.table("source"),
    )


def _same(folder: Path, request: dict[str, Any]) -> Prepared | None:
    """Return what the folder holds if it is what was asked for; None where nothing is there.

    Raises:
        BitsimError: it holds something else, or it is damaged.
    """
    file = folder / "data.json"
    if not file.is_file():
        return None
    found = read_json(file).get("request")
    if found == request:
        return open_prepared(folder)
    other = [key for key in request if not isinstance(found, dict) or found.get(key) != request[key]]
    raise BitsimError(f"{folder}: holds tokens made with another {', '.join(other)}; name another folder or remove it")


def _make(source: Source, folder: Path, request: dict[str, Any], given: TextCoder | None, tell: Tell) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BitsimError(f"{folder.parent}: {error.strerror or error}") from error
    with whole_folder(folder) as place:
        text = place / "text"
        with DocumentStore(text) as store:
            documents = source.documents(tell)
            held = fill(store, documents, request["limit"], tell)
            coder = given or _trained(store, held, request["vocab"], tell)
            coder.save(place)
            sides = {
                name: _written(store, chosen, coder, _tokens_file(place, name), tell)
                for name, chosen in zip(_SIDES, (~held, held), strict=True)
            }
        text.unlink()
        about = {
            "version": _VERSION,
            "vocab": coder.vocab,
            "eos": coder.eos,
            "tokenizer_sha256": coder.sha256,
            "source": request["source"] | {"data": source.name, "revision": documents.revision},
            "request": request,
        } | {name: side.as_json() for name, side in sides.items()}
        (place / "data.json").write_text(json.dumps(about, indent=2) + "\n")


def _trained(store: DocumentStore, held: npt.NDArray[np.bool_], vocab: int, tell: Tell) -> TextCoder:
    start = perf_counter()
    coder = train_tokenizer(store.texts(~held), int(store.sizes[~held].sum()), vocab)
    fewer = f" of the {vocab:,} asked for: the text gives no more" if coder.vocab < vocab else ""
    tell(f"tokenizer trained in {perf_counter() - start:.0f} s: {coder.vocab:,} tokens{fewer}")
    return coder


def _written(store: DocumentStore, chosen: npt.NDArray[np.bool_], coder: TextCoder, file: Path, tell: Tell) -> Side:
    start = perf_counter()
    side = write_tokens(store.texts(chosen), coder, file)
    seconds = perf_counter() - start
    ratio = side.bytes / side.tokens
    tell(f"{file.stem}: {side.tokens:,} tokens, {ratio:.2f} bytes of text each, encoded in {seconds:.0f} s")
    return side


def _tokens_file(folder: Path, side: str) -> Path:
    return folder / f"{side}.tokens"


def _joined_hash(*hashes: str) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
