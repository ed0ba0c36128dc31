"""From a source key to its reference: who says so, and how can it be found?"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import BitsimError, suggestion
from .records import Provenance, Record, read_csv

DATA = Path(__file__).resolve().parent / "data"
KINDS = ("measured", "datasheet", "literature", "assumption")


@dataclass(frozen=True, slots=True)
class Source:
    """One reference. `kind` is the label that results carry: measured, datasheet, literature or assumption."""

    key: str
    authors: str
    title: str
    venue: str
    year: int
    url: str
    kind: str

    def reference(self) -> str:
        """Return the reference as one line of text."""
        return f"{self.authors} ({self.year}). {self.title}. {self.venue}." + (f" {self.url}" if self.url else "")


_COLUMNS = ("key", "authors", "title", "venue", "year", "url", "kind", "accessed")


@cache
def sources() -> dict[str, Source]:
    """Load every reference of `data/sources.csv`, by key."""
    return {source.key: source for source in read_csv(DATA / "sources.csv", _COLUMNS, _source_row)}


def _source_row(record: Record) -> Source:
    return Source(
        key=record.text("key"),
        authors=record.text("authors"),
        title=record.text("title"),
        venue=record.text("venue"),
        year=record.integer("year"),
        url=str(record.cells["url"]),
        kind=record.choice("kind", KINDS),
    )


def label(provenance: Provenance) -> str:
    """Return the label of a number: measured, datasheet, literature or assumption.

    It is the kind of its first source; what nobody read, or somebody assumed, is an assumption, and so is what we
    derived by a rule of our own (source `bitsim`).
    """
    ours = provenance.status == "derived" and "bitsim" in provenance.sources
    if ours or provenance.status in ("recalled", "assumed"):
        return "assumption"
    known = sources().get(provenance.sources[0])
    return known.kind if known else "assumption"  # a user's own file may name a source of its own


def weakest(labels: Iterable[str]) -> str:
    """Return the label furthest from a measurement."""
    return max(labels, key=KINDS.index)


def cite(keys: Iterable[str]) -> list[Source]:
    """Return the references of the given keys, in order, each once.

    Raises:
        BitsimError: a key is not in `sources.csv`.
    """
    known = sources()
    wanted = list(dict.fromkeys(keys))
    for key in wanted:
        if key not in known:
            raise BitsimError(f"unknown source '{key[:60]}'{suggestion(key, known)}")
    return [known[key] for key in wanted]
