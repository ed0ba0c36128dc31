"""Documents kept in one file while they are prepared, and which of them are held out."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from .documents import Documents, Tell
from .pieces import paragraph_end

HELD_OUT = 0.02  # part of the documents that is held out where the source has no split
_TELL_EVERY = 100_000_000  # bytes


class DocumentStore:
    """Documents in a file, in order: a stream is read once, and its text is needed for the tokenizer and the tokens."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._sizes = array("Q")
        self._keys = array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def sizes(self) -> npt.NDArray[np.uint64]:
        """Bytes of each document."""
        return np.array(self._sizes, np.uint64)

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """The first 64 bits of each document's hash: equal documents have equal ones."""
        return np.array(self._keys, np.uint64)

    def add(self, content: bytes, key: int) -> None:
        """Put a document at the end."""
        self._file.write(content)
        self._sizes.append(len(content))
        self._keys.append(key)

    def clear(self) -> None:
        """Forget all documents."""
        self._file.seek(0)
        self._file.truncate()
        self._sizes, self._keys = array("Q"), array("Q")

    def texts(self, chosen: npt.NDArray[np.bool_]) -> Iterator[str]:
        """Yield the chosen documents, in order."""
        self._file.seek(0)
        for size, wanted in zip(self._sizes, chosen, strict=True):
            if wanted:
                yield self._file.read(size).decode()
            else:
                self._file.seek(size, os.SEEK_CUR)


def fill(store: DocumentStore, documents: Documents, limit: int | None, tell: Tell) -> npt.NDArray[np.bool_]:
    """Put documents into the store; return for each whether it is held out.

    A document is on one side with all its exact copies. Which side: that of the source where it has a split (copies of
    held-out documents are dropped from its training side); else a hash of the text says, for about 2 % of them, and for
    one at least. Of a single document the end is held out.

    Args:
        store: an empty one.
        documents: read to their end or to the limit.
        limit: most bytes of text, of each side where the source has a split; the last document is cut.
        tell: gets a line about each step.

    Raises:
        BitsimError: no text, or too little to hold some out.
    """
    if documents.held_out is not None:
        return _as_split(store, documents.train, documents.held_out, limit, tell)
    for content, key in _limited(documents.train, limit, tell):
        store.add(content, key)
    _check_text(len(store), "the data")
    keys = store.keys
    if (keys == keys[0]).all():
        return _cut_in_two(store, tell)
    held = keys < np.uint64(HELD_OUT * 2**64)
    if not held.any() or held.all():
        held = keys == keys.min()
    _tell_split(store, held, tell)
    return held


def _as_split(
    store: DocumentStore, train: Iterator[str], held_out: Iterator[str], limit: int | None, tell: Tell
) -> npt.NDArray[np.bool_]:
    for content, key in _limited(held_out, limit, tell):
        store.add(content, key)
    count = len(store)
    _check_text(count, "the held-out side of the data")
    apart = set(store.keys.tolist())
    dropped = 0
    for content, key in _limited(train, limit, tell):
        if key in apart:
            dropped += 1
        else:
            store.add(content, key)
    if dropped:
        tell(f"{dropped:,} training documents left out: they are among the held-out ones too")
    _check_text(len(store) - count, "the training side of the data")
    held = np.arange(len(store)) < count
    _tell_split(store, held, tell)
    return held


def _cut_in_two(store: DocumentStore, tell: Tell) -> npt.NDArray[np.bool_]:
    """Hold out the end of the only document, from a paragraph's end on."""
    text = next(store.texts(np.ones(len(store), np.bool_)))
    written = len(text.rstrip())  # blank lines at the end are no text to measure on
    end = paragraph_end(text, written - max(1, round(HELD_OUT * written)))
    parts = (text[:end], text[end:])
    if not all(part.strip() for part in parts):
        raise BitsimError(f"the data holds {len(text)} characters of text: too little to hold some out")
    store.clear()
    for part in parts:
        store.add(part.encode(), _key(part.encode()))
    tell(f"a single document: its end, {len(parts[1].encode()):,} bytes, is held out")
    return np.array([False, True])


def _tell_split(store: DocumentStore, held: npt.NDArray[np.bool_], tell: Tell) -> None:
    sizes = store.sizes
    told = (f"{side.sum():,} documents ({sizes[side].sum() / 1e6:,.1f} MB)" for side in (~held, held))
    tell("{} to train on, {} held out".format(*told))


def _check_text(documents: int, where: str) -> None:
    if not documents:
        raise BitsimError(f"{where} holds no text")


def _limited(texts: Iterator[str], limit: int | None, tell: Tell) -> Iterator[tuple[bytes, int]]:
    """Yield the documents that are not blank, as UTF-8, until there are `limit` bytes; and each one's key.

    The document that is cut at the limit keeps the key of the whole, and so the side of its copies.
    """
    total = 0
    for text in texts:
        if not text or text.isspace():
            continue
        content = text.encode()
        if limit is not None and total + len(content) >= limit:
            last = content[: limit - total].decode(errors="ignore")
            if total + len(content) > limit:
                last = last[: paragraph_end(last, len(last))]
            if last.strip():
                yield last.encode(), _key(content)
            return
        yield content, _key(content)
        total += len(content)
        if total // _TELL_EVERY > (total - len(content)) // _TELL_EVERY:
            tell(f"{total / 1e6:,.0f} MB of text read")


def _key(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
