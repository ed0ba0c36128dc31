"""What is in a corpus: sizes, sources, hashes of the text."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .plain_text import Document
from .sources import Source


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What one package gave. Bytes are of text in UTF-8, words are runs of characters between spaces."""

    name: str
    version: str
    archive_sha256: str
    licence: str
    domain: str
    about: str
    left_out: str
    documents: int
    words: int
    bytes: int
    share: float
    held_out: tuple[str, ...]
    held_out_bytes: int
    repeated_paragraphs: int
    repeated_bytes: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus in a folder.

    Attributes:
        folder: holds train.parquet, held_out.parquet, corpus.json and README.md.
        documents: training and held-out together, as are words and bytes.
        held_out_documents: those of them in held_out.parquet.
        train_sha256: hash of the training text: each document in UTF-8 and a zero byte.
        held_out_sha256: the same of the held-out text.
        domains: share of the bytes by domain.
        sources: one summary per package.
        sources_left_out: packages that were not asked for.
        bitsim: the version that made it.
    """

    folder: str
    documents: int
    words: int
    bytes: int
    held_out_documents: int
    held_out_bytes: int
    train_sha256: str
    held_out_sha256: str
    domains: dict[str, float]
    sources: tuple[SourceSummary, ...]
    sources_left_out: tuple[str, ...]
    bitsim: str


@dataclass(frozen=True, slots=True)
class Part:
    """The text of one source, ready to write.

    Attributes:
        source: where it is from.
        version: of the package that was found.
        sha256: of its archive.
        train: documents to train on.
        held_out: documents to validate with.
        repeated: paragraphs that were left out because the corpus had them already, and their bytes.
    """

    source: Source
    version: str
    sha256: str
    train: list[Document]
    held_out: list[Document]
    repeated: tuple[int, int]


def summary(folder: Path, parts: list[Part], left_out: tuple[str, ...]) -> Corpus:
    """Return what is in the corpus that the parts make together."""
    total = sum(_bytes([*part.train, *part.held_out]) for part in parts)
    sources = tuple(_source_summary(part, total) for part in parts)
    domains: dict[str, float] = {}
    for source in sources:
        domains[source.domain] = domains.get(source.domain, 0.0) + source.share
    return Corpus(
        folder=str(folder),
        documents=sum(source.documents for source in sources),
        words=sum(source.words for source in sources),
        bytes=total,
        held_out_documents=sum(len(source.held_out) for source in sources),
        held_out_bytes=sum(source.held_out_bytes for source in sources),
        train_sha256=_hash(document for part in parts for document in part.train),
        held_out_sha256=_hash(document for part in parts for document in part.held_out),
        domains=domains,
        sources=sources,
        sources_left_out=left_out,
        bitsim=version("bitsim-llm"),
    )


def _source_summary(part: Part, total: int) -> SourceSummary:
    documents = [*part.train, *part.held_out]
    size = _bytes(documents)
    return SourceSummary(
        name=part.source.name,
        version=part.version,
        archive_sha256=part.sha256,
        licence=part.source.licence,
        domain=part.source.domain,
        about=part.source.about,
        left_out=part.source.left_out,
        documents=len(documents),
        words=sum(len(document.text.split()) for document in documents),
        bytes=size,
        share=size / total,
        held_out=tuple(document.title for document in part.held_out),
        held_out_bytes=_bytes(part.held_out),
        repeated_paragraphs=part.repeated[0],
        repeated_bytes=part.repeated[1],
    )


def _bytes(documents: Iterable[Document]) -> int:
    return sum(len(document.text.encode()) for document in documents)


def _hash(documents: Iterable[Document]) -> str:
    found = hashlib.sha256()
    for document in documents:
        found.update(document.text.encode() + b"\0")
    return found.hexdigest()
