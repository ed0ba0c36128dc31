"""Novels from the R package `janeaustenr`: character vectors in R's serialisation, a line of text in each string."""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping

from .plain_text import Document, document, joined_lines, paragraphs

# R Internals, section 1.8: a big-endian stream, version 3; bits 12 to 17 of a string's flags tell its encoding.
_HEADER = b"X\n" + struct.pack(">I", 3)
_STRING_VECTOR, _STRING = 16, 9
_MISSING = 0xFFFFFFFF
_LATIN_1 = 1 << 14

_WIDEST_VERSE = 60  # characters; the prose is wrapped at about 72
_EDITOR = re.compile(r"\[At this point in the first")
_LATER_NOTE = "A NOTE ON THE TEXT"  # of a modern publisher, after Northanger Abbey


def novels(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per novel."""
    for content in files.values():
        for stream in _streams(content):
            parts = paragraphs("\n".join(string_vector(stream)).replace("_", ""))
            if _LATER_NOTE in parts:
                parts = parts[: parts.index(_LATER_NOTE)]
            yield document(parts[0], (_unwrapped(part) for part in parts if not _EDITOR.match(part)))


def string_vector(stream: bytes) -> list[str]:
    """Return the strings of a serialised character vector; a missing one is empty.

    Raises:
        ValueError: the stream holds something else, or ends early.
    """
    (native,) = _words(stream, 14, 1)  # after the header: versions of R, then the name of the native encoding
    at = 18 + native
    kind, count = _words(stream, at, 2)
    if not stream.startswith(_HEADER) or kind & 0xFF != _STRING_VECTOR:
        raise ValueError("expected a character vector in R's serialisation, version 3")
    at += 8
    strings = []
    for _ in range(count):
        flags, size = _words(stream, at, 2)
        at += 8
        if flags & 0xFF != _STRING:
            raise ValueError(f"expected a string at byte {at - 8:,}")
        size = 0 if size == _MISSING else size
        if at + size > len(stream):
            raise ValueError("the stream ends early")
        strings.append(stream[at : at + size].decode("latin-1" if flags & _LATIN_1 else "utf-8"))
        at += size
    return strings


def _words(stream: bytes, at: int, count: int) -> tuple[int, ...]:
    if at + 4 * count > len(stream):
        raise ValueError("the stream ends early")
    return struct.unpack_from(f">{count}I", stream, at)


def _streams(content: bytes) -> Iterator[bytes]:
    """Give the streams of an .rdb file: each a big-endian length and as many bytes by zlib."""
    while content:
        (size,) = _words(content, 0, 1)
        inflate = zlib.decompressobj()
        stream = inflate.decompress(content[4:])
        if len(stream) != size:
            raise ValueError(f"a stream of {len(stream):,} bytes; expected {size:,}")
        yield stream
        content = inflate.unused_data


def _unwrapped(part: str) -> str:
    """Return prose as one line; what is narrower all through is verse, or the head of a letter."""
    return part if all(len(line) < _WIDEST_VERSE for line in part.split("\n")) else joined_lines(part)
