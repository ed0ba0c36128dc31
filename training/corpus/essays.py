"""Essays in Markdown: the chapters of the Debian package `anarchism`."""

import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .plain_text import Document, document, joined_lines, paragraphs, squeezed

_LISTS = re.compile(
    r"(?:a|ar)?links|append13|biblio|book|contact|index|new|pdf|quotes|supplementary|translations|sec\wcon"
)
_LINK = re.compile(r"!?\[((?:[^][]|\[[^][]*\])*)\]\([^)]*\)")
_RULE = re.compile(r"(?m)^\s*(?:-{3,}|#+)\s*$")
_LINE_MARK = re.compile(r"(?m)^\s*(?:>\s*)*(?:#{1,6}\s+)?(?:[*+]\s+)?")  # quotation, heading, item of a list
_STRESS = re.compile(r"\*{1,3}|(?<![^\W_])_|_(?![^\W_])")  # stars, and the underscores around words
_ESCAPE = re.compile(r"\\([-.*_#])")
_DOTS = re.compile(r"\.(?: \.)+")
_LOOSE = re.compile(r" ([,;.:)\]])(?!\.)|(?<=[(\[]) ")
_MOST_BARS = 3  # more make a table


def essays(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per chapter; pages that are lists of links are left out."""
    for name, content in files.items():
        page = PurePosixPath(name).name.split(".")[0]
        if _LISTS.fullmatch(page):
            continue
        text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8")
        parts = [_plain(part) for part in paragraphs(_marked(text))]
        yield document(f"An Anarchist FAQ, {page}", filter(None, parts))


def _marked(text: str) -> str:
    """Return Markdown with an empty line around each heading, and without the line marks."""
    text = re.sub(r"(?m)^(>? ?#{1,6} .*(?:\n(?!\n|[>#]).+)*)", r"\n\1\n", _RULE.sub("", text))
    return re.sub(r"(?m)^(\s*[*+] )", r"\n\1", text)


def _plain(part: str) -> str:
    """Return a paragraph without Markdown; one that is all links, such as a table of contents, or a table is empty."""
    if part.count("|") > _MOST_BARS or not re.search(r"\w", _LINK.sub("", part)):
        return ""
    text = joined_lines(_LINE_MARK.sub("", part))
    text = _STRESS.sub("", _LINK.sub(r"\1", text))
    text = _DOTS.sub(lambda dots: dots.group().replace(" ", ""), squeezed(_ESCAPE.sub(r"\1", text)))
    return _LOOSE.sub(r"\1", text)
