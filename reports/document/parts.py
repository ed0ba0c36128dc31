"""The pieces of a report: plain data that the renderings (PDF, HTML) set in type.

No text holds markup of any kind: whatever a name contains, a renderer shows it letter by letter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a table: `text` as it is shown ("4.45 kg"), `value` in SI units to sort by."""

    value: float
    text: str


Cell: TypeAlias = str | Number


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `numeric` holds the indexes of the columns that are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure: `name` is a key of FIGURES, `rows` are the numbers it draws, `about` says it to who can't see it.

    A drawing equals itself alone: it is what its picture is found by.
    """

    name: str
    rows: tuple[Mapping[str, float | str | None], ...]
    caption: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report under one title: text first, then tables, drawings and notes."""

    key: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the five numbers of the first page: what it is, the number with its range, and a line on what it means."""

    label: str
    value: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Report:
    """All a report says.

    Attributes:
        title: what the report is about.
        subtitle: model, machine and workload in a line.
        headline: five numbers, with ranges.
        lead: the one figure of the first page.
        sections: in the order in which they are read.
        left_out: a line for each section that is missing, and why.
        sources: (key, full reference) of every number's source.
        made_with: (what, value): version, command, hashes of inputs and tables, a date if SOURCE_DATE_EPOCH gives one.
    """

    title: str
    subtitle: str
    headline: tuple[Headline, ...]
    lead: Drawing
    sections: tuple[Section, ...]
    left_out: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    made_with: tuple[tuple[str, str], ...] = ()
