"""Plays and poems of the package `shakespeare`, line by line."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .plain_text import Document, document, joined_lines, paragraphs

_LINE_NUMBER = re.compile(r"(?m)(?<=\S)[ \t]{2,}\d+\s*$")
_INDENT = re.compile(r"(?m)^\.{3,}")  # an indent that was typed with dots
_BRACKETS = re.compile(r"\{([^][{}]*)\]|\[([^][{}]*)\}")  # typed unlike
_PROSE = ("areopagitica_gut.txt",)


def plays(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per play or poem."""
    for name, content in files.items():
        text = html.unescape(content.decode("utf-8-sig")).replace("\r\n", "\n")
        text = _BRACKETS.sub(r"[\1\2]", text)
        parts = paragraphs(_INDENT.sub("", _LINE_NUMBER.sub("", text)))
        if PurePosixPath(name).name in _PROSE:
            parts = [joined_lines(part) for part in parts]
        yield document(parts[0].split("\n")[0], parts)
