"""The PDF: what it says letter by letter, the same bytes each time, and nothing over its edges."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bitsim.reports import figures
from bitsim.reports.document import fonts
from bitsim.reports.document.parts import Drawing, Headline, Number, Report, Section, Table
from bitsim.reports.document.pdf import as_data, broken, render_pages, render_pdf
from bitsim.reports.document.pictures import Pictures, as_svg
from bitsim.reports.figures import Figure

Image = pytest.importorskip("PIL.Image")
pypdf = pytest.importorskip("pypdf")

MARKUP = '#eval("1") *bold* _it_ $x^2$ @ref <script>alert(1)</script> // c /* d */ --- `raw` [x](y) \\ #include "a"'
LONG = "a" * 100 + "-_" * 25 + "b" * 50
_EDGE, _HEAD = 40, 20  # dots at 72 an inch that stay white at the sides, and above and below


def _draw(rows: Sequence[Mapping[str, Any]], height: float = 3.0) -> Any:
    from bitsim.reports.plot_style import empty_figure

    figure = empty_figure(height)
    axes = figure.add_subplot()
    axes.plot([row["x"] for row in rows], [row["y"] for row in rows])
    return figure


@pytest.fixture(autouse=True)
def _own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Figure("squares", "Squares", lambda question: [], _draw, lambda row: "")
    monkeypatch.setitem(figures.FIGURES, "squares", made)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def report(name: str = "a model", sections: int = 1, rows: int = 3) -> Report:
    drawing = Drawing("squares", tuple({"x": float(x), "y": float(x * x)} for x in range(5)), f"Of {name}.", "squares")
    table = Table(
        ("machine", name, "energy"),
        tuple((f"machine {index}", name, Number(index * 1e-3, f"{index}.25 mJ")) for index in range(rows)),
        f"Energy of {name}.",
        frozenset({2}),
    )
    made = tuple(
        Section(f"part{index}", f"Part {index} of {name}", (f"Text on {name}. " * 5,), (table,), (drawing,), (name,))
        for index in range(sections)
    )
    opening = Section("question", "The question", (f"All about {name}.",))
    return Report(
        title=f"What is ternary worth for {name}?",
        subtitle=name,
        headline=tuple(Headline(f"Number {index}", "4.10x (3.2x to 5.1x)", name) for index in range(5)),
        lead=drawing,
        sections=(opening, *made),
        left_out=(f"Nothing was left out of {name}.",),
        sources=(("key2024", f"A. Author (2024). {name}. Venue. https://example.org/{'x' * 120}"),),
        made_with=(("command", f"bitsim report --model '{name}'"), ("tables, SHA-256", "ab" * 32)),
    )


def text_of(pages: bytes) -> str:
    """Return the text without the places where lines may break."""
    found = "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pages)).pages)
    return found.replace("\u200b", "").replace("\u00a0", " ")


def squeezed(text: str) -> str:
    """Leave out all white space: where lines break is not told by a PDF."""
    return re.sub(r"\s", "", text)


def test_it_says_everything() -> None:
    found = squeezed(text_of(render_pdf(report(rows=40))))
    for part in (
        "4.10x (3.2x to 5.1x)",
        "machine 39",
        "39.25 mJ",
        "Energy of a model.",
        "Left out",
        "key2024",
        "ab" * 32,
    ):
        assert squeezed(part) in found


@pytest.mark.parametrize("name", [MARKUP, LONG, "#", "\\", "$", "]", '"', "= heading", "- list", "'quotes' ..."])
def test_names_are_text(name: str) -> None:
    found = squeezed(text_of(render_pdf(report(name))))
    assert found.count(squeezed(name)) >= 8
    assert squeezed(f"Text on {name}.") in found
    assert squeezed(f"worth for {name}?") in found


def test_what_cannot_be_printed() -> None:
    assert broken("a\x00b\ud800c\nd\te") == "a\ufffdb\ufffdc d e"
    assert render_pdf(report("a\x00b\ud800c \u202e \U0001f600"))


def test_characters_that_no_font_shows_are_told_by_their_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fonts._own_characters()
    monkeypatch.setattr(fonts, "_characters", lambda files: own)  # as if no font of the system had more
    text, found = (text_of(render_pdf(report(name))) for name in ("Модель", "模型 \U0001f680 Модель"))
    assert "Модель" in text
    assert "U+" not in text
    assert "[U+6A21][U+578B] [U+1F680] Модель" in found
    assert "no font on this machine shows 3 of them" in " ".join(found.split())
    assert "U+" not in text_of(render_pdf(report("a\u200b\u200d\ufe0f\u202eb")))  # nobody sees these anyway


def test_a_system_font_is_taken_for_what_others_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def shown(files: Iterable[str]) -> frozenset[int]:
        asked.append(list(files))
        return frozenset({ord("Ж")})

    monkeypatch.setattr(fonts, "_own_characters", lambda: frozenset(range(32, 127)))
    monkeypatch.setattr(fonts, "_characters", shown)
    own, none = fonts.choose_fonts("plain")
    assert (none, asked) == (frozenset(), [])
    with_system, lacking = fonts.choose_fonts("Ж模")
    assert lacking == {"模"}
    assert asked
    assert {font.family for font in own.fonts()} <= {font.family for font in with_system.fonts()}


def test_every_font_has_the_letters_of_dejavu() -> None:
    families = {font.family for font in fonts.choose_fonts("plain")[0].fonts()}
    assert {"Libertinus Serif", "DejaVu Sans", "DejaVu Sans Mono"} <= families
    assert not any("Last" in family for family in families)  # it would have a box for everything
    assert fonts.choose_fonts("αЖش 64 № ≤ \u00a0\n")[1] == frozenset()


def test_a_figure_stands_in_its_section() -> None:
    """A marker of each section is in the same order in the pages' text as the figures' captions."""
    made = report(sections=6, rows=4)
    sections = tuple(
        replace(each, drawings=(Drawing("squares", made.lead.rows, f"Picture {index}."),))
        for index, each in enumerate(made.sections)
    )
    found = text_of(render_pdf(replace(made, sections=sections)))
    places = [
        at for index in range(1, 7) for at in (_last(found, f"Part {index - 1} of"), found.index(f"Picture {index}."))
    ]
    assert places == sorted(places)


def _last(text: str, part: str) -> int:
    """Find a heading behind the contents, where it stands too."""
    return text.rindex(part)


def test_a_tall_figure_under_a_long_text_stays_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    tall = Figure("squares", "Squares", lambda question: [], lambda rows: _draw(rows, 14.0), lambda row: "")
    monkeypatch.setitem(figures.FIGURES, "squares", tall)
    made = report(LONG[:200], sections=1)
    for page in render_pages(replace(made, sections=made.sections[1:]), "us-letter", ppi=72.0):
        dots = np.asarray(Image.open(io.BytesIO(page)).convert("L"))
        assert dots[-_HEAD:].min() == 255


def test_a_figure_is_drawn_once_for_all_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(rows: Sequence[Mapping[str, Any]]) -> Any:
        drawn.append(rows)
        return _draw(rows)

    once = Figure("squares", "", lambda question: [], draw, lambda row: "")
    monkeypatch.setitem(figures.FIGURES, "squares", once)
    pictures, made = Pictures(), report()
    first = render_pdf(made, pictures=pictures)
    assert len(drawn) == 1  # the sections show the figure of the first page
    assert render_pdf(made, pictures=pictures) == first == render_pdf(made)
    assert len(drawn) == 2


def test_long_words_may_be_broken() -> None:
    assert broken("short words stay as they are") == "short words stay as they are"
    for word in (LONG, "https://example.org/a/b/c.html?q=1", "x" * 19):
        assert broken(word).replace("\u200b", "") == word
        assert max(len(piece) for piece in broken(word).split("\u200b")) <= 19


def test_the_same_report_is_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = render_pdf(report(sections=2))
    assert render_pdf(report(sections=2)) == first
    information = pypdf.PdfReader(io.BytesIO(first)).metadata
    assert information is not None
    assert information.title == "What is ternary worth for a model?"
    assert information.creation_date is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert render_pdf(report(sections=2)) == render_pdf(report(sections=2))


def test_the_same_figure_is_the_same_svg() -> None:
    rows = report().lead.rows
    assert as_svg(_draw(rows)) == as_svg(_draw(rows))


@pytest.mark.parametrize(("paper", "size"), [("a4", (595, 842)), ("us-letter", (612, 792))])
def test_nothing_runs_over_the_edges(paper: str, size: tuple[int, int]) -> None:
    made = report(LONG[:200], sections=3, rows=30)
    box = pypdf.PdfReader(io.BytesIO(render_pdf(made, paper))).pages[0].mediabox
    assert (round(box.width), round(box.height)) == size
    for page in render_pages(made, paper, ppi=72.0):
        dots = np.asarray(Image.open(io.BytesIO(page)).convert("L"))
        edges = (dots[:, :_EDGE], dots[:, -_EDGE:], dots[:_HEAD], dots[-_HEAD:])
        assert [edge.min() for edge in edges] == [255] * 4


def test_wide_tables_are_fitted_to_the_page() -> None:
    wide = Table(
        tuple(f"column {index}" for index in range(16)),
        tuple(tuple(Number(1.0, "123.45 mJ") for _ in range(16)) for _ in range(4)),
        "Sixteen columns.",
        frozenset(range(16)),
    )
    made = replace(report(), sections=(Section("wide", "Wide", (), (wide,)),))
    for page in render_pages(made, ppi=72.0)[1:]:
        dots = np.asarray(Image.open(io.BytesIO(page)).convert("L"))
        assert dots[:, -_EDGE:].min() == 255


def test_contents_from_seven_pages_on() -> None:
    short, long = (text_of(render_pdf(report(sections=count, rows=30))) for count in (1, 12))
    assert "Contents" not in short
    assert "Contents" in long
    assert re.search(r"\n7 / \d+", long)
    assert len(re.findall("What is ternary worth for a model", long)) >= 7  # the running title


def test_figures_have_alternative_texts_and_data_has_no_markup() -> None:
    data = as_data(report(MARKUP), "a4", Pictures())
    assert data["lead"]["about"] == "squares"
    assert data["lead"]["svg"].startswith("<?xml")
    assert data["running"].startswith("What is ternary worth for #eval")
    assert len(data["running"]) <= 80


def test_a_report_without_most_of_its_parts() -> None:
    bare = Report("Title", "", (), report().lead, ())
    assert "Title" in text_of(render_pdf(bare))
