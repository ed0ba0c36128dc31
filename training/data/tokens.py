"""Documents as tokens in flat files: written in batches, mapped into memory to be read."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.json_file import Keys
from bitsim.runtime.generation.tokenizer import guarded

from .pieces import pieces
from .tokenizer import TextCoder

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
_BATCH = 1_000_000  # characters encoded at once


@dataclass(frozen=True, slots=True)
class Side:
    """What one file of tokens holds: the documents of one side, each followed by the token that ends a text.

    Attributes:
        documents: how many.
        tokens: how many, those that end documents counted.
        bytes: of the text in UTF-8, without those tokens.
        text_sha256: of the documents, each led by its length in bytes (8 bytes, little-endian).
        tokens_sha256: of the file.
    """

    documents: int
    tokens: int
    bytes: int
    text_sha256: str
    tokens_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in data.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> "Side":
        """Read what `as_json` gave; a BitsimError names the key that is wrong."""
        keys = Keys(value, where)
        hashes = [value.get(key) for key in ("text_sha256", "tokens_sha256")]
        if not all(isinstance(text, str) for text in hashes):
            raise BitsimError(f"{where}: expected text_sha256 and tokens_sha256")
        return cls(keys.integer("documents"), keys.integer("tokens"), keys.integer("bytes"), *map(str, hashes))


def token_type(vocab: int) -> np.dtype[Any]:
    """Return the narrowest type that holds all tokens below `vocab`, in the byte order of the files."""
    return np.dtype("<u2" if vocab <= 2**16 else "<u4")


def write_tokens(texts: Iterable[str], coder: TextCoder, file: Path) -> Side:
    """Write documents as tokens, with `coder.eos` after each.

    Memory does not grow with the number of documents: a million characters are encoded at once, on all cores.
    """
    dtype = token_type(coder.vocab)
    text_hash, tokens_hash = hashlib.sha256(), hashlib.sha256()
    documents = tokens = size = 0

    def hashed() -> Iterator[str]:
        nonlocal documents, size
        for text in texts:
            content = text.encode()
            text_hash.update(len(content).to_bytes(8, "little") + content)
            documents, size = documents + 1, size + len(content)
            yield text

    with file.open("wb") as output:
        for ids in _encoded(hashed(), coder):
            content = np.array(ids, dtype).tobytes()
            tokens_hash.update(content)
            tokens += len(ids)
            output.write(content)
    return Side(documents, tokens, size, text_hash.hexdigest(), tokens_hash.hexdigest())


def map_tokens(file: Path, side: Side, vocab: int, *, check: bool) -> Tokens:
    """Return the tokens of a file, mapped into memory to be read.

    Args:
        file: that `write_tokens` wrote.
        side: what it returned.
        vocab: all tokens are below it.
        check: read the file to its end and compare its hash too, not its size alone.

    Raises:
        BitsimError: the file is missing or not as it was written.
    """
    dtype = token_type(vocab)
    expected = side.tokens * dtype.itemsize
    try:
        size = file.stat().st_size
        if size != expected:
            raise BitsimError(f"{file}: expected {expected:,} bytes ({side.tokens:,} tokens), got {size:,}")
        if check:
            _check_hash(file, side.tokens_sha256)
        return np.memmap(file, dtype, mode="r") if size else np.empty(0, dtype)
    except OSError as error:
        raise BitsimError(f"{file}: {error.strerror or error}") from error


def _check_hash(file: Path, expected: str) -> None:
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != expected:
            raise BitsimError(f"{file}: its content is not what was written (SHA-256 differs)")


def _encoded(texts: Iterable[str], coder: TextCoder) -> Iterator[list[int]]:
    """Yield the tokens, batch by batch."""
    encoder = coder.encoder()
    for batch in _batches(texts):
        texts_of_it = [piece for piece, _ in batch]
        coded = guarded("the tokenizer fails", encoder.encode_batch_fast, texts_of_it, add_special_tokens=False)
        ids: list[int] = []
        for (_, last), encoding in zip(batch, coded, strict=True):
            ids += encoding.ids
            if last:
                ids.append(coder.eos)
        yield ids


def _batches(texts: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Yield lists of pieces, each with whether a document ends with it."""
    batch: list[tuple[str, bool]] = []
    size = 0
    for text in texts:
        parts = list(pieces(text))
        for number, piece in enumerate(parts, 1):
            batch.append((piece, number == len(parts)))
            size += len(piece)
            if size >= _BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
