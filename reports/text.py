"""Tables for people and for programs: the same rows as a screen table, JSON, CSV or Markdown."""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

_SHORT = 22  # characters
_GAP = (0, 2, 0, 0)  # between columns
_PIPE_WIDTH = 110  # columns where the output is no terminal and COLUMNS is not set


def print_rows(
    rows: Sequence[Mapping[str, Any]], form: str, title: str | None = None, right: Sequence[str] = ()
) -> None:
    """Print rows that have the same keys.

    Args:
        rows: the rows; keys are the column names.
        form: table, json, csv or markdown.
        title: above the screen table.
        right: columns to align right on the screen.
    """
    if form == "json":
        print_json([dict(row) for row in rows])
    elif form == "csv":
        click.echo(as_csv(rows), nl=False)
    elif form == "markdown":
        click.echo(as_markdown(rows))
    else:
        _print_table(rows, title, right)


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinity are bugs, not output."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return ""
    lines = [
        list(rows[0]),
        ["---"] * len(rows[0]),
        *([_cell(value) for value in row.values()] for row in rows),
    ]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _print_table(rows: Sequence[Mapping[str, Any]], title: str | None, right: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=_GAP)
    for name in rows[0] if rows else ():
        justify: Any = "right" if name in right else "left"
        short = _is_short(rows, name)
        table.add_column(name, justify=justify, overflow="fold", no_wrap=short, min_width=None if short else _SHORT)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    screen = console()
    # Columns that do not fit make long lines, for `less -S`, not narrow columns that nobody can read.
    screen.width = max(screen.width, sum(_least_width(rows, name) + _GAP[1] + 1 for name in rows[0]) if rows else 0)
    screen.print(table)


def _least_width(rows: Sequence[Mapping[str, Any]], name: str) -> int:
    widest = max(len(name), *(len(_cell(row[name])) for row in rows))
    return widest if _is_short(rows, name) else _SHORT


def _is_short(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Short cells stay on one line; the long ones of a table give way."""
    return all(len(_cell(row[name])) <= _SHORT for row in rows) and len(name) <= _SHORT


def console() -> Any:
    """Return a rich console that keeps to the terminal's width and NO_COLOR, and reads no markup from data."""
    from rich.console import Console

    on_screen = sys.stdout is not None and sys.stdout.isatty()
    width = None if on_screen or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
