"""The figures of a report as SVG, each drawn once for all renderings.

Texts stay texts, which PDF and page set in type.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .parts import Drawing

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # XML may not hold them


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as SVG, with its width and height (inches)."""

    svg: str
    width: float
    height: float


class Pictures:
    """Figures, drawn when they are first asked for."""

    def __init__(self, tell: Callable[[str], None] = lambda what: None) -> None:
        """Start with none; `tell` is given the name of each before it is drawn."""
        self._tell = tell
        self._drawn: dict[Drawing, Picture] = {}

    def of(self, drawing: Drawing) -> Picture:
        """Return a figure of a report, of the same figure always the same text."""
        if drawing not in self._drawn:
            self._drawn[drawing] = self._draw(drawing)
        return self._drawn[drawing]

    def _draw(self, drawing: Drawing) -> Picture:
        from ..figures import FIGURES
        from ..figures.glyphs import lacking_glyphs

        self._tell(f"figure {drawing.name}")
        with lacking_glyphs():  # what sets the texts has fonts of its own
            figure = FIGURES[drawing.name].draw(drawing.rows)
            svg = as_svg(figure)
        width, height = figure.get_size_inches()
        return Picture(svg, float(width), float(height))


def as_svg(figure: Any) -> str:
    """Return a matplotlib figure as SVG.

    Printed by its canvas, not saved: saving lays a figure out in a pass of its own, which this one does too.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "bitsim", "svg.fonttype": "none"}):  # without a salt, parts are named at random
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return _CONTROL.sub("\ufffd", text.getvalue())
