"""A document, and what every extractor does to text: paragraphs apart, lines joined, spaces squeezed."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
_INVISIBLE = re.compile("[\u00ad\u200b\u200c\u2060\ufeff\x1a]")  # soft hyphen, zero widths, end of file
_BROKEN_WORD = re.compile(r"(?<=\w-)\n(?=\w)")  # `self-` at the end of a line: the next begins with `management`


@dataclass(frozen=True, slots=True)
class Document:
    """One speech, novel, book or article: paragraphs with an empty line between them, verse line by line."""

    title: str
    text: str


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: runs of lines with a letter or digit in each; spaces squeezed, lines kept."""
    parts = _BREAK.split(_INVISIBLE.sub("", text).replace("\r\n", "\n"))
    return list(filter(None, ("\n".join(_lines(part)) for part in parts)))


def _lines(part: str) -> Iterator[str]:
    return (squeezed(line) for line in part.split("\n") if any(map(str.isalnum, line)))


def squeezed(line: str) -> str:
    """Return a line with one plain space between words and none at its ends."""
    return " ".join(line.split())


def joined_lines(paragraph: str) -> str:
    """Return a paragraph of prose as one line."""
    return _BROKEN_WORD.sub("", paragraph).replace("\n", " ")


def document(title: str, parts: Iterable[str]) -> Document:
    """Return the document of some paragraphs."""
    return Document(title, "\n\n".join(parts))
