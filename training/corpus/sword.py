"""Books from SWORD modules, the format of the CrossWire Bible Society: blocks of zlib around OSIS XML."""

import html
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain

from .plain_text import Document, document, paragraphs

_BLOCK = struct.Struct("<III")  # offset, size compressed, size
_NOTE = re.compile(r"<note\b.*?</note>", re.DOTALL)
_APART = re.compile(r"</?(?:p|title|lg|lb|list|chapter|speaker)\b[^>]*>|<div\b(?![^>]*x-milestone)[^>]*>")
_LINE_END = re.compile(r"<l\b[^>]*\beID=[^>]*>|</item>")
_TAG = re.compile(r"<[^>]*>")
_BEFORE_WORD = re.compile("\0(?=[\\w(\u201c\u2018])")  # a letter, or a bracket or quotation that opens

_BOOK = re.compile(r'<div [^>]*\bsID="[^"]*" type="book"/>')
_BOOK_END = re.compile(r'<div [^>]*\beID="[^"]*"[^>]* type="book"/>')
_BOOK_NAME = re.compile(r'<milestone n="([^"]+)" type="x-usfm-(?:h|toc1)"/>')
_PSALM = re.compile(r'<chapter n="(\d+)" [^>]*\bsID=[^>]*>')

_INTRODUCTION = re.compile(
    r'<div [^>]*\bsID="[^"]*" type="introduction"/>.*?<div [^>]*\beID="[^"]*" type="introduction"/>', re.DOTALL
)
_CHAPTER = re.compile(r'(?=<title type="x-s2">)')
_VERSES = re.compile(r'<hi type="bold">\s*Verses? [^<]*</hi>\s*\.?')  # heads what is said on them
_NUMBER = re.compile(r"#\(([^)]*)\)")
_VERSE = re.compile(
    r"^Ver(?:ses?|\.) \d[\d ,;&-]*[.:,]?\s*(?:\((?:first|second|third|last|latter|whole)\b[^)]*\)[.:,]?\s*)?"
)  # before a remark
_HEAD = re.compile(r"Psalms? \d+:\d+\*?$")
_BULLET = re.compile("[•*]")
_DOS = re.compile(r"[\x80-\x9f]")  # letters of code page 437 that were taken for Latin-1


def bible_books(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per book of a Bible, without notes, introductions and the front matter."""
    for name, xml in _books(files):
        yield document(name, _text(_INTRODUCTION.sub("", xml)))


def commentary_books(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per book that a commentary is on, without outlines and headings made of verse numbers."""
    for name, xml in _books(files):
        yield document(name, chain.from_iterable(map(_commented, _CHAPTER.split(_NUMBER.sub(r"\1", xml)))))


def psalm_commentary(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per psalm that a commentary is on, and one for its preface."""
    xml = _BULLET.sub("", _osis(files))
    pieces = _PSALM.split(_DOS.sub(lambda letter: letter.group().encode("latin-1").decode("cp437"), xml))
    for name, xml in zip(["Preface", *(f"Psalm {n}" for n in pieces[1::2])], pieces[::2], strict=True):
        parts = (_VERSE.sub("", part) for part in _text(xml))
        yield document(name, (part for part in parts if any(map(str.isalnum, part)) and not _HEAD.match(part)))


def _commented(chapter: str) -> list[str]:
    """Return a chapter's paragraphs without its outline, which stands between its name and the first verses."""
    head, *remarks = _VERSES.split(chapter)
    return [*_text(head)[:1], *_text("<p/>".join(remarks))] if remarks else _text(head)


def _books(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for xml in _BOOK.split(_osis(files))[1:]:
        name = _BOOK_NAME.search(xml)
        if name is None:
            raise ValueError("a book without a name")
        yield html.unescape(name.group(1)), _BOOK_END.split(xml)[0]


def _osis(files: Mapping[str, bytes]) -> str:
    """Return all blocks of a module as one text; the Old Testament's files (`ot`) come before the New's."""
    indexes = sorted((name for name in files if name.endswith("zs")), key=lambda name: "/nt." in f"/{name}")
    return "".join(block for name in indexes for block in _blocks(files[name], files[f"{name[:-1]}z"]))


def _blocks(index: bytes, content: bytes) -> Iterator[str]:
    if len(index) % _BLOCK.size:
        raise ValueError(f"an index of {len(index)} bytes; expected a multiple of {_BLOCK.size}")
    for offset, size, _ in _BLOCK.iter_unpack(index):
        yield zlib.decompress(content[offset : offset + size]).decode("utf-8") if size else ""


def _text(xml: str) -> list[str]:
    """Return the paragraphs of OSIS XML; verse keeps its lines."""
    text = _TAG.sub("", _LINE_END.sub("\n", _APART.sub("\n\n", _NOTE.sub("\0", xml))))
    return paragraphs(html.unescape(_BEFORE_WORD.sub(" ", text).replace("\0", "")))
