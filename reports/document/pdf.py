"""A report as PDF: typst sets what `template.typ` says, from plain data; figures are drawn as SVG.

Nothing of a report is ever read as typst: all of it travels as one JSON text. Fonts are those that come with typst and
matplotlib, so that the same report is the same bytes on every machine.
"""

import functools
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..plot_style import save_figure
from .origin import source_date
from .parts import Cell, Drawing, Number, Report, Section, Table

PAPERS = ("a4", "us-letter")
_TEMPLATE = Path(__file__).with_name("template.typ")
_OPENING = "question"  # the section that stands on the first page
_CONTENTS_OVER = 6  # pages
_LONGEST_WORD = 18  # characters that stay on one line
_RUNNING = 80  # characters of the title at the head of each page
_ADDRESS = re.compile(r"\s(https?://\S+)$")
_BREAK, _NO_BREAK = "\u200b", "\u00a0"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def render_pdf(report: Report, paper: str = "a4", tell: Callable[[str], None] = lambda what: None) -> bytes:
    """Set a report in type.

    Args:
        report: what it says.
        paper: one of `PAPERS`.
        tell: is given what is being made.

    Returns:
        The PDF; of the same report always the same bytes.
    """
    document = as_data(report, paper, tell)
    tell("pages")
    date = source_date()
    pages = _compiler(document).compile(format="pdf", timestamp=0 if date is None else int(date.timestamp()))
    return bytes(pages)


def render_pages(report: Report, paper: str = "a4", ppi: float = 80.0) -> list[bytes]:
    """Return the same pages as PNG pictures, `ppi` dots per inch."""
    pages = _compiler(as_data(report, paper)).compile(format="png", ppi=ppi)
    return [bytes(page) for page in pages] if isinstance(pages, list) else [bytes(pages)]


def as_data(report: Report, paper: str, tell: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Return what the template is given: plain texts, with places to break long words, and figures as SVG."""
    set_section = functools.partial(_section, tell=tell)
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
        "lead": _drawing(report.lead, tell),
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
    return _UNPRINTABLE.sub("\ufffd", text.replace("\n", " ").replace("\t", " "))


def _all_broken(texts: Iterable[str]) -> list[str]:
    return [broken(text) for text in texts]


def _section(section: Section, tell: Callable[[str], None]) -> dict[str, Any]:
    return {
        "title": broken(section.title),
        "text": _all_broken(section.text),
        "tables": [_table(table) for table in section.tables if table.rows],
        "drawings": [_drawing(drawing, tell) for drawing in section.drawings],
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


def _drawing(drawing: Drawing, tell: Callable[[str], None]) -> dict[str, Any]:
    from ..figures import FIGURES

    tell(f"figure {drawing.name}")
    figure = FIGURES[drawing.name].draw(drawing.rows)
    width, height = figure.get_size_inches()
    return {
        "svg": as_svg(figure),
        "width": float(width),
        "height": float(height),
        "caption": broken(drawing.caption),
        "about": _clean(drawing.about),
    }


def as_svg(figure: Any) -> str:
    """Return a matplotlib figure as SVG, of the same figure always the same text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        save_figure(path, figure)
        return path.read_text(encoding="utf-8")


def _reference(text: str) -> list[Any]:
    """Part a reference from the address that it ends with."""
    found = _ADDRESS.search(text)
    if found is None:
        return [broken(text), None]
    return [broken(text[: found.start()]), {"to": found[1], "shown": broken(found[1])}]


def _compiler(document: Mapping[str, Any]) -> Any:
    from typst import Compiler

    return Compiler(
        _TEMPLATE.read_bytes(),
        font_paths=_fonts(),
        ignore_system_fonts=True,
        sys_inputs={"report": json.dumps(document)},
    )


@functools.cache
def _fonts() -> Any:
    import matplotlib as mpl
    from typst import Fonts

    own = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return Fonts(include_system_fonts=False, font_paths=[str(own.parent)])
