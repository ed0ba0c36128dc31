"""The pictures of the README and the site show what the commands print today; `make gallery` makes them.

A picture holds what it shows as text too: the screen's SVG as its letters, a PNG as a note in the file. That is what is
compared, for dots differ between versions of a font library.
"""

import csv
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bitsim.reports.cli import cli

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "reports/docs"
IMAGES = DOCS / "images"
PAGES = (ROOT / "README.md", *DOCS.rglob("*.md"))
UPDATE = os.environ.get("BITSIM_UPDATE_GALLERY") == "1"
SIZE = ("--size", "70B")
FIGURES = ("energy-parts", "roofline", "memory-context", "sizes", "loss-law", "validation")
SCREEN, PAGE = IMAGES / "estimate.svg", IMAGES / "report.png"
NOTE = "Description"  # one of the keywords that the PNG standard gives
MOST_BYTES = {".png": 200_000, ".svg": 100_000}
COLOURS = 64  # of a PNG: drawings have few
COLUMNS = 100  # of the screen: all columns of its table

# rich's own has fonts from the network, which a picture in a page never gets.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>$ COMMAND</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#fbfbf9" stroke="#d0d0ca"/>
<g transform="translate({terminal_x}, {terminal_y})" class="{unique_id}-matrix">
<text x="0" y="-12" fill="#57606a">$ COMMAND</text>
{backgrounds}{matrix}
</g>
</svg>
"""


def output_of(line: str, **environment: str) -> str:
    """What a command line prints, as in a terminal of `COLUMNS`."""
    result = CliRunner().invoke(cli, shlex.split(line)[1:], env={"COLUMNS": str(COLUMNS), **environment})
    assert result.exit_code == 0, result.output
    return result.stdout


def screen_svg(line: str) -> str:
    """The colours of a command's output as a picture of a light terminal."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    rest = [(0, 0, 0)] * 5
    light = TerminalTheme((251, 251, 249), (36, 41, 47), [(0, 0, 0), (170, 30, 30), (26, 110, 50), *rest])
    paper = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False, markup=False, emoji=False)
    shown = output_of(line, FORCE_COLOR="1", TERM="xterm-256color")
    paper.print(Text.from_ansi(shown), end="", soft_wrap=True)
    made = paper.export_svg(theme=light, code_format=SVG.replace("COMMAND", line), unique_id="t")
    return re.sub(r"[ \t]+$", "", made, flags=re.MULTILINE)


def letters(svg: str) -> list[str]:
    """The lines of text in the picture of a screen, without spaces: those are places."""
    found: dict[float, list[tuple[float, str]]] = {}
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        place = (float(element.get("x", "0")), "".join(element.itertext()))
        found.setdefault(float(element.get("y", "0")), []).append(place)
    lines = ("".join(text for _, text in sorted(found[height])) for height in sorted(found))
    return [squeezed for line in lines if (squeezed := re.sub(r"\s", "", line))]


def small_png(picture: bytes, note: str) -> bytes:
    """The same picture with few colours, on white in a frame, and what it shows as a note."""
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    drawn = Image.open(io.BytesIO(picture)).convert("RGBA")
    flat = Image.new("RGB", drawn.size, "white")
    flat.paste(drawn, mask=drawn.getchannel("A"))
    ImageDraw.Draw(flat).rectangle((0, 0, flat.width - 1, flat.height - 1), outline="#d0d0ca")
    information = PngInfo()
    information.add_itxt(NOTE, note, zip=True)
    file = io.BytesIO()
    fewer = flat.quantize(COLOURS, dither=Image.Dither.NONE)
    fewer.save(file, "PNG", optimize=True, pnginfo=information)
    return file.getvalue()


def note_of(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info[NOTE])


@pytest.fixture(scope="module")
def report() -> Any:
    from bitsim.reports.document.contents import gather
    from bitsim.reports.document.question import Question
    from bitsim.simulator import make_workload, spec_for_size

    command = shlex.join(("bitsim", "report", *SIZE, "-o", "report.pdf"))
    return gather(Question(spec=spec_for_size(SIZE[1]), workload=make_workload(), command=command))


def first_page(report: Any) -> str:
    """The text of the report's first page, without spaces: where lines break is not told by a PDF.

    The other sections are left out, for a figure takes its time: the page then says that it is one of fewer.
    """
    pypdf = pytest.importorskip("pypdf")
    from bitsim.reports.document.pdf import render_pdf

    alone = replace(report, sections=report.sections[:1])
    text = pypdf.PdfReader(io.BytesIO(render_pdf(alone))).pages[0].extract_text()
    return re.sub(r"[\s\u200b]", "", text)


def figure_png(name: str, folder: Path) -> bytes:
    path = folder / f"{name}.png"
    output_of(shlex.join(("bitsim", "plot", name, *SIZE, "-o", str(path))))
    return path.read_bytes()


def numbers_of(name: str) -> str:
    return output_of(shlex.join(("bitsim", "plot", name, *SIZE, "--data")))


def cells(text: str) -> Iterator[Any]:
    """The cells of a CSV, numbers as what is about that number."""
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            try:
                yield pytest.approx(float(cell), rel=1e-6)
            except ValueError:
                yield cell


def written(path: Path, make: Callable[[], bytes]) -> None:
    if UPDATE:
        path.write_bytes(make())


def test_screen() -> None:
    line = shlex.join(("bitsim", "estimate", *SIZE))
    written(SCREEN, lambda: screen_svg(line).encode())
    expected = [f"$ {line}", *output_of(line, NO_COLOR="1").splitlines()]
    shown = letters(SCREEN.read_text(encoding="utf-8"))
    assert shown == [row for line in expected if (row := re.sub(r"\s", "", line))], "run `make gallery`"


def test_page_of_the_report(report: Any) -> None:
    from bitsim.reports.document.pdf import render_pages

    written(PAGE, lambda: small_png(render_pages(report, ppi=100.0)[0], first_page(report)))
    shown = first_page(report)
    assert note_of(PAGE) == shown, "run `make gallery`"
    explained = re.findall(
        r"\*\*([\d.]+x \(.*?\))\*\*", (DOCS / "howto/read-the-report.md").read_text(encoding="utf-8")
    )
    assert explained
    assert all(re.sub(r"\s", "", number) in shown for number in explained)


@pytest.mark.parametrize("name", FIGURES)
def test_figure(name: str, tmp_path: Path) -> None:
    path = IMAGES / f"{name}.png"
    written(path, lambda: small_png(figure_png(name, tmp_path), numbers_of(name)))
    shown = [cell for row in csv.reader(io.StringIO(note_of(path))) for cell in row]
    expected = list(cells(numbers_of(name)))
    assert len(shown) == len(expected), "run `make gallery`"
    for got, wanted in zip(shown, expected, strict=True):
        assert (got if isinstance(wanted, str) else float(got)) == wanted, "run `make gallery`"


def test_every_picture_is_small_and_in_a_page_and_none_is_missing() -> None:
    names = {path.name for path in IMAGES.iterdir()}
    assert names == {SCREEN.name, PAGE.name, *(f"{name}.png" for name in FIGURES)}
    for path in IMAGES.iterdir():
        assert path.stat().st_size < MOST_BYTES[path.suffix], path.name
    used = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert {path.resolve() for path in IMAGES.iterdir()} <= used
    assert [path for path in used if not path.exists()] == []


def links(page: Path) -> Iterator[str]:
    """What a page shows or links to beside it: pictures and pages, without addresses and places in a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', text):
        target = "".join(link).partition("#")[0]
        if target and "://" not in target:
            yield target
