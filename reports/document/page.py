"""A report as one HTML file: no network, no script but its own, and a form that answers other questions."""

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from .page_data import page_data
from .page_figures import inline_svg
from .parts import Drawing, Report, Section
from .pictures import Pictures
from .question import Question

_SCRIPTS = ("model.js", "page.js")
_PLACE = "section-"  # before the ids of sections: the form's fields have ids too, such as "model"
_FORM = ("ask", "Ask another question")


def render_page(report: Report, question: Question, pictures: Pictures | None = None) -> str:
    """Return a report as HTML.

    Args:
        report: what it says; markup in its texts is shown letter by letter.
        question: what the form starts with; a report of measurements or runs has no form.
        pictures: those that another rendering of the report has drawn; by default its own.

    Raises:
        BitsimError: a machine of the question can't be read.
    """
    style, scripts = _file("page.css"), [_file(name) for name in _SCRIPTS]
    hatches: set[str] = set()
    pictures = pictures or Pictures()
    lead = _drawn(report.lead, "lead-", pictures, hatches)
    sections, has_form = _sections(report, pictures, hatches), question.about == "model"
    contents = ([_FORM] if has_form else []) + [(section["id"], section["title"]) for section in sections]
    page = _template().render(
        report=report,
        lead=lead,
        sections=sections,
        contents=contents,
        tables=_json(page_data(question)) if has_form else "",
        style=style,
        scripts=scripts,
        policy=_policy(style, scripts),
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")  # a file's name may hold half characters


def _sections(report: Report, pictures: Pictures, hatches: set[str]) -> list[dict[str, Any]]:
    """Return the sections as the template takes them; what is left out, the sources and what it was made with last."""
    found = [_section(section, pictures, hatches) for section in report.sections]
    if report.left_out:
        found.append(_plain_section("left-out", "Left out", text=report.left_out))
    _add_pairs(found, "sources", "Sources", report.sources)
    _add_pairs(found, "reproduce", "Made with", report.made_with)
    return found


def _section(section: Section, pictures: Pictures, hatches: set[str]) -> dict[str, Any]:
    drawings = [
        _drawn(drawing, f"{section.key}-{index}-", pictures, hatches) for index, drawing in enumerate(section.drawings)
    ]
    return {
        "id": _PLACE + section.key,
        "title": section.title,
        "text": section.text,
        "tables": section.tables,
        "drawings": drawings,
        "notes": section.notes,
    }


def _plain_section(key: str, title: str, text: tuple[str, ...] = ()) -> dict[str, Any]:
    return _section(Section(key=key, title=title, text=text), Pictures(), set())


def _add_pairs(sections: list[dict[str, Any]], key: str, title: str, pairs: tuple[tuple[str, str], ...]) -> None:
    """Add names with their texts to the section of that key, or as a section of their own."""
    if not pairs:
        return
    place = next((section for section in sections if section["id"] == _PLACE + key), None)
    if place is None:
        place = _plain_section(key, title)
        sections.append(place)
    place["pairs"] = pairs


def _drawn(drawing: Drawing, prefix: str, pictures: Pictures, hatches: set[str]) -> dict[str, str]:
    """Return a figure as SVG, each mark with the text of its row; `hatches` are those of the page so far."""
    from ..figures import FIGURES

    figure = FIGURES[drawing.name]
    hovers = {f"v{index}": figure.hover(row) for index, row in enumerate(drawing.rows)}
    about = drawing.about or figure.title
    svg = inline_svg(pictures.of(drawing).svg, prefix, hovers, about, hatches)
    return {"svg": svg, "caption": drawing.caption, "about": about}


def _json(value: Any) -> str:
    """Return JSON that can't end the element it lies in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, scripts: list[str]) -> str:
    """Return a content security policy: nothing is loaded, and nothing runs but the package's own scripts."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@cache
def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_file("page.html"))
