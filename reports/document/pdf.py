"""A report as PDF: typst sets what `template.typ` says, from plain data; figures are SVG.

Nothing of a report is ever read as typst: all of it travels as one JSON text.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .fonts import choose_fonts
from .origin import source_date
from .parts import Cell, Drawing, Number, Report, Section, Table
from .pictures import Pictures

PAPERS = ("a4", "us-letter")
_TEMPLATE = Path(__file__).with_name("template.typ")
_OPENING = "question"  # the section that stands on the first page
_CONTENTS_OVER = 6  # pages
_LONGEST_WORD = 18  # characters that stay on one line
_RUNNING = 80  # characters of the title at the head of each page
_ADDRESS = re.compile(r"\s(https?://\S+)$")
_BREAK, _NO_BREAK = "\u200b", "\u00a0"
_UNKNOWN = "\ufffd"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def render_pdf(
    report: Report,
    paper: str = "a4",
    tell: Callable[[str], None] = lambda what: None,
    pictures: Pictures | None = None,
) -> bytes:
    """Set a report in type.

    Args:
        report: what it says.
        paper: one of `PAPERS`.
        tell: is given what is being made.
        pictures: those that another rendering of the report has drawn; by default its own.

    Returns:
        The PDF; of the same report always the same bytes, if its characters are in the fonts of typst and matplotlib.
    """
    document = as_data(report, paper, pictures or Pictures(tell))
    tell("pages")
    date = source_date()
    pages = _compiler(document).compile(format="pdf", timestamp=0 if date is None else int(date.timestamp()))
    return bytes(pages)


def render_pages(report: Report, paper: str = "a4", ppi: float = 80.0) -> list[bytes]:
    """Return the same pages as PNG pictures, `ppi` dots per inch."""
    pages = _compiler(as_data(report, paper, Pictures())).compile(format="png", ppi=ppi)
    return [bytes(page) for page in pages] if isinstance(pages, list) else [bytes(pages)]


def as_data(report: Report, paper: str, pictures: Pictures) -> dict[str, Any]:
    """Return what the template is given: plain texts, with places to break long words, and figures as SVG."""
    set_section = functools.partial(_section, pictures=pictures)
    return {
        "paper": paper,
        "contents-over": _CONTENTS_OVER,
        "title": broken(report.title),
        "running": _clean(report.title if len(report.title) <= _RUNNING else f"{report.title[: _RUNNING - 1]}…"),
        "subtitle": broken(report.subtitle),
        "headline": [
            {"label": broken(each.label), "value": broken(each.value), "explanation": broken(each.explanation)}
            for each in report.headline
        ],
        "lead": _drawing(report.lead, pictures),
        "opening": [set_section(section) for section in report.sections if section.key == _OPENING],
        "sections": [set_section(section) for section in report.sections if section.key != _OPENING],
        "left-out": _all_broken(report.left_out),
        "sources": [[broken(key), *_reference(text)] for key, text in report.sources],
        "made-with": [[broken(what), broken(value)] for what, value in report.made_with],
    }


def broken(text: str) -> str:
    """Return a text in which long words may be broken between lines: after a mark, or anywhere if there is none.

    The places hold a zero-width space, which neither paper nor screen shows.
    """
    return " ".join(_broken_word(word) for word in _clean(text).split(" "))


def _broken_word(word: str) -> str:
    if len(word) <= _LONGEST_WORD:
        return word
    pieces = re.findall(r"[^/_.,:;\-]*[/_.,:;\-]+|[^/_.,:;\-]+", word)
    cut = [piece[start : start + _LONGEST_WORD] for piece in pieces for start in range(0, len(piece), _LONGEST_WORD)]
    return _BREAK.join(cut)


def _clean(text: str) -> str:
    """Replace what can't be printed by the sign for that."""
    return _UNPRINTABLE.sub(_UNKNOWN, text.replace("\n", " ").replace("\t", " "))


def _all_broken(texts: Iterable[str]) -> list[str]:
    return [broken(text) for text in texts]


def _section(section: Section, pictures: Pictures) -> dict[str, Any]:
    return {
        "title": broken(section.title),
        "text": _all_broken(section.text),
        "tables": [_table(table) for table in section.tables if table.rows],
        "drawings": [_drawing(drawing, pictures) for drawing in section.drawings],
        "notes": _all_broken(section.notes),
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "columns": _all_broken(table.columns),
        "rows": [[_cell(cell) for cell in row] for row in table.rows],
        "numeric": sorted(table.numeric),
        "caption": broken(table.caption),
    }


def _cell(cell: Cell) -> str:
    """Keep a number on one line with its unit; a range may be broken at its dash."""
    if isinstance(cell, Number):
        return _clean(cell.text).replace(" ", _NO_BREAK).replace(f"{_NO_BREAK}–{_NO_BREAK}", f"{_NO_BREAK}– ")
    return broken(cell)


def _drawing(drawing: Drawing, pictures: Pictures) -> dict[str, Any]:
    picture = pictures.of(drawing)
    return {
        "svg": picture.svg,
        "width": picture.width,
        "height": picture.height,
        "caption": broken(drawing.caption),
        "about": _clean(drawing.about),
    }


def _reference(text: str) -> list[Any]:
    """Part a reference from the address that it ends with."""
    found = _ADDRESS.search(text)
    if found is None:
        return [broken(text), None]
    return [broken(text[: found.start()]), {"to": found[1], "shown": broken(found[1])}]


def _compiler(document: dict[str, Any]) -> Any:
    from typst import Compiler

    text = json.dumps(document, ensure_ascii=False)
    fonts, unshown = choose_fonts(text)
    if unshown:
        document = _spelled(document, re.compile(f"[{re.escape(''.join(sorted(unshown)))}]"))
        document["left-out"].append(_no_font(unshown))
        text = json.dumps(document)
    return Compiler(
        _TEMPLATE.read_bytes(), font_paths=fonts, ignore_system_fonts=True, sys_inputs={"report": text}
    )  # fmt: skip


def _spelled(value: Any, unshown: re.Pattern[str], in_figure: bool = False) -> Any:
    """Write characters that no font shows as their code points; in figures, which have no room, as U+FFFD."""
    if isinstance(value, dict):
        return {name: _spelled(each, unshown, name == "svg") for name, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each, unshown) for each in value]
    if not isinstance(value, str):
        return value
    return unshown.sub(lambda found: _UNKNOWN if in_figure else f"[U+{ord(found[0]):04X}]{_BREAK}", value)


def _no_font(unshown: frozenset[str]) -> str:
    return (
        f"Characters: no font on this machine shows {len(unshown):,} of them; they stand as code points, "
        f"{_UNKNOWN} in figures. A system font that has them is taken; the HTML report takes the browser's."
    )
