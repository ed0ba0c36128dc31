"""Numbers as cells of tables and as words."""

import math
from collections.abc import Iterable, Sequence

from bitsim.energy_tables import Interval
from bitsim.energy_tables.units import SECONDS_PER_HOUR, format_count, format_ratio, format_si

from ..parts import Cell, Number, Table

_NO_NUMBERS = ("", "–", "none")
_DAY = 24 * SECONDS_PER_HOUR


def si(value: float, unit: str) -> Number:
    """Return a number with three digits and a prefix: 4.45 kg is `si(4450, "g")`."""
    return Number(value, format_si(value, unit))


def count(value: float) -> Number:
    """Return a whole number, with commas."""
    return Number(value, f"{value:,.0f}")


def short_count(value: float) -> Number:
    """Return a count with its suffix: 70.0B."""
    return Number(value, format_count(value))


def ratio(value: float) -> Number:
    """Return how many times: 4.10x."""
    return Number(value, format_ratio(value))


def speed(value: float) -> Number:
    """Return tokens per second."""
    return Number(value, f"{value:,.3g} /s" if value < 1000 else f"{value:,.0f} /s")


def dollars(value: float) -> Number:
    """Return a sum of money (US dollars)."""
    if 0 < value < 0.1:
        return Number(value, f"${value:.2g}")
    return Number(value, f"${value:,.2f}" if value < 100 else f"${value:,.0f}")


def grams(kilograms: float) -> Number:
    """Return a mass, sorted by kilograms; from 1,000 kg in tonnes."""
    text = f"{kilograms / 1e3:,.3g} t" if 1e3 <= kilograms < 1e6 else format_si(kilograms * 1e3, "g")
    return Number(kilograms, f"{kilograms / 1e3:,.0f} t" if kilograms >= 1e6 else text)


def duration(seconds: float) -> Number:
    """Return a time: seconds with a prefix, or hours, days and years."""
    for unit, name, least in ((365.25 * _DAY, "years", 2.0), (_DAY, "days", 2.0), (SECONDS_PER_HOUR, "h", 2.0)):
        if seconds >= least * unit:
            value = seconds / unit
            return Number(seconds, f"{value:,.1f} {name}" if value < 1e4 else f"{value:.2g} {name}")
    return si(seconds, "s")


def kwh(joules: float) -> Number:
    """Return an energy in watt hours."""
    return Number(joules, format_si(joules / SECONDS_PER_HOUR, "Wh"))


def span(low: Number, high: Number) -> Number:
    """Return a range as one cell, sorted by its lower end; empty where both ends read alike."""
    return Number(low.value, "" if low.text == high.text else f"{low.text} – {high.text}")


def si_span(interval: Interval, unit: str) -> Number:
    """Return the range of an interval."""
    return span(si(interval.low, unit), si(interval.high, unit))


def with_range(mid: Number, low: Number, high: Number) -> str:
    """Return a number and its range as words: 1.20 J (0.90 J to 1.70 J)."""
    return mid.text if low.text == high.text else f"{mid.text} ({low.text} to {high.text})"


def si_range(interval: Interval, unit: str) -> str:
    """Return an interval as words."""
    return with_range(*(si(value, unit) for value in (interval.mid, interval.low, interval.high)))


def together(top: Interval, bottom: Interval) -> Interval | None:
    """Return top over bottom where what is uncertain is common to both; None where it can't be said."""
    if min(bottom) <= 0 or not all(math.isfinite(value) for value in (*top, *bottom)):
        return None
    return Interval.spanning(*(one / other for one, other in zip(top, bottom, strict=True)))


def apart(top: Interval, bottom: Interval) -> Interval | None:
    """Return top over bottom where each may be off on its own; None where it can't be said."""
    if min(bottom) <= 0 or not all(math.isfinite(value) for value in (*top, *bottom)):
        return None
    return Interval.spanning(top.low / bottom.high, top.mid / bottom.mid, top.high / bottom.low)


def factor(interval: Interval) -> str:
    """Return a ratio as words: 4.10x (3.20x to 5.10x)."""
    return with_range(*(ratio(value) for value in (interval.mid, interval.low, interval.high)))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> Table:
    """Return a table without the columns that have nothing in them; numbers are set flush right, and so are dashes."""
    lines = [list(row) for row in rows]
    kept = [index for index in range(len(columns)) if any(line[index] != "" for line in lines)]
    lines = [[line[index] for index in kept] for line in lines]
    numeric = frozenset(
        place
        for place in range(len(kept))
        if any(isinstance(line[place], Number) for line in lines)
        and all(isinstance(line[place], Number) or line[place] in _NO_NUMBERS for line in lines)
    )
    return Table(tuple(columns[index] for index in kept), tuple(map(tuple, lines)), caption, numeric)
