"""From a source key to its reference: who says so, and how can it be found?"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import BitsimError, suggestion
from .records import Record, read_toml

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


@cache
def sources() -> dict[str, Source]:
    """Load every reference of `data/sources.toml`, by key."""
    path = DATA / "sources.toml"
    tables, line_of = read_toml(path)
    found = {}
    for key, values in tables.items():
        record = Record(path, line_of(key), values if isinstance(values, dict) else {})
        found[key] = Source(
            key=key,
            authors=record.text("authors"),
            title=record.text("title"),
            venue=record.text("venue"),
            year=record.integer("year"),
            url=str(values.get("url", "")),
            kind=record.choice("kind", KINDS),
        )
    return found


def cite(keys: Iterable[str]) -> list[Source]:
    """Return the references of the given keys, in order, each once.

    Raises:
        BitsimError: a key is not in `sources.toml`.
    """
    known = sources()
    wanted = list(dict.fromkeys(keys))
    for key in wanted:
        if key not in known:
            raise BitsimError(f"unknown source '{key[:60]}'{suggestion(key, known)}")
    return [known[key] for key in wanted]
