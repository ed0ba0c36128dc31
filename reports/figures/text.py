"""Texts in figures: cut or broken where there is no room for all of them, numbers with their ranges."""

import textwrap

from bitsim.energy_tables.units import format_si


def cut(text: str, length: int) -> str:
    """Return a text of at most so many characters; three dots stand for the rest."""
    return text if len(text) <= length else text[: length - 3] + "..."


def broken(text: str, length: int, lines: int = 3) -> str:
    """Break a text into lines of at most so many characters, and cut it after so many lines."""
    found = textwrap.wrap(text, length) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], cut(" ".join(found[lines - 1 :]), length)]
    return "\n".join(found)


def with_range(value: float, low: float, high: float, unit: str) -> str:
    """Write a number and its range: "82.3 J (61.0 J to 160 J)"; the range only where there is one."""
    ends = "" if low == high else f" ({format_si(low, unit)} to {format_si(high, unit)})"
    return format_si(value, unit) + ends
