"""Texts for dots of a diagram: dots near each other share one, and none lies on another text, a dot or a roof."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plot_style import SMALL, literal

Array = NDArray[np.float64]

_NEAR = 0.035  # of the width and height of the axes: dots so near each other share a text
_STEPS = (10, 18, 28, 40)  # points, from the dot to the text
_SIDES = 16  # directions that are tried at each step, from the right and downwards
_DOT = 5  # points about a dot that texts keep clear of
_LEADER = "0.5"
_ON_A_LINE = 40  # points of a line that texts keep clear of


@dataclass(frozen=True, slots=True)
class Dots:
    """A dot: where it is (data coordinates), whose it is, what it is called, its colour.

    Dots near each other get one text: a line for each owner, with the names of its dots; the names alone without one.
    """

    x: float
    y: float
    owner: str
    name: str
    colour: str


def label_dots(axes: Any, dots: Sequence[Dots]) -> None:
    """Write the texts.

    Args:
        axes: with its final place in the figure, limits and all other texts.
        dots: what gets texts.
    """
    from matplotlib.text import Text

    if not dots:
        return
    level = [text for text in axes.texts if not text.get_rotation()]
    taken = [Text.get_window_extent(text) for text in level]  # without their leading lines
    slanted = [_slanted(text) for text in axes.texts if text.get_rotation()]
    points = np.concatenate([axes.transData.transform([(dot.x, dot.y) for dot in dots]), _along(axes), *slanted])
    for group in _groups(axes, dots):
        colours = list(dict.fromkeys(dot.colour for dot in group))
        text = axes.annotate(
            literal(_text(group)), (group[0].x, group[0].y), xytext=(0, 0), textcoords="offset points",
            fontsize=SMALL - 1, color=colours[0] if len(colours) == 1 else "black", va="center",
            arrowprops={"arrowstyle": "-", "color": _LEADER, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        offset, box = _best_place(axes, group[0], Text.get_window_extent(text), taken, points)
        text.set_position(offset)
        taken.append(box)


def _best_place(
    axes: Any, dot: Dots, size: Any, taken: Sequence[Any], points: Array
) -> tuple[tuple[float, float], Any]:
    """Return where a text of a size goes (points from the dot to its left end), and its box on the screen."""
    window, scale = axes.get_window_extent(), axes.figure.dpi / 72
    x, y = axes.transData.transform((dot.x, dot.y))
    width, height = size.width / scale, size.height / scale
    found: list[tuple[float, int, tuple[float, float], Any]] = []
    for step in _STEPS:
        for side in range(_SIDES):
            turn = 2 * math.pi * side / _SIDES
            dx, dy = step * math.cos(turn), -(step + height / 2 - 4) * math.sin(turn)
            left = dx if dx > 1 else dx - width if dx < -1 else -width / 2
            box = _moved(size, x + left * scale, y + dy * scale)
            cost = _cost(box, taken, points, window, scale)
            found.append((cost + step * 0.01, len(found), (left, dy), box))
    _, _, offset, box = min(found)
    return offset, box


def _text(group: Sequence[Dots]) -> str:
    """Write a line for each owner of dots: "fp16, prompt: layers, head"."""
    owners = dict.fromkeys(dot.owner for dot in group)
    lines = {owner: ", ".join(dict.fromkeys(dot.name for dot in group if dot.owner == owner)) for owner in owners}
    return "\n".join(f"{owner}: {names}" if owner else names for owner, names in lines.items())


def _groups(axes: Any, dots: Sequence[Dots]) -> list[list[Dots]]:
    to_axes = axes.transData + axes.transAxes.inverted()
    groups: list[list[Dots]] = []
    for dot in dots:
        x, y = to_axes.transform((dot.x, dot.y))
        for group in groups:
            near = [to_axes.transform((other.x, other.y)) for other in group]
            if any(abs(x - other[0]) < _NEAR and abs(y - other[1]) < _NEAR for other in near):
                group.append(dot)
                break
        else:
            groups.append([dot])
    return groups


def _along(axes: Any) -> Array:
    """Return points (of the screen) along the lines of the axes. Shape: (points, 2)."""
    found = [np.empty((0, 2))]
    shares = np.linspace(0.0, 1.0, _ON_A_LINE + 1)[:, None]
    for line in axes.lines:
        ends = axes.transData.transform(line.get_xydata())
        found += [start + shares * (end - start) for start, end in pairwise(ends)]
    return np.concatenate(found)


def _slanted(text: Any) -> Array:
    """Return points (of the screen) all over a text that is turned about its anchor. Shape: (points, 2)."""
    from matplotlib.text import Text

    angle = text.get_rotation()
    text.set_rotation(0)
    size = Text.get_window_extent(text)
    text.set_rotation(angle)
    anchor = text.axes.transData.transform(text.xy) + np.array(text.xyann) * text.figure.dpi / 72
    bottom = -size.height if text.get_va() == "top" else 0.0
    across = np.linspace(-size.width / 2, size.width / 2, _ON_A_LINE)  # centred on its anchor
    level = np.stack(np.meshgrid(across, np.linspace(bottom, bottom + size.height, 3)), axis=-1).reshape(-1, 2)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.asarray(level @ np.array([[cosine, sine], [-sine, cosine]]) + anchor)


def _moved(box: Any, left: float, middle: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(left, middle - box.height / 2, box.width, box.height)


def _cost(box: Any, taken: Sequence[Any], points: Array, window: Any, scale: float) -> float:
    """Count what a text would lie on: other texts, dots and lines; outside the axes it can't be read at all."""
    outside = box.x0 < window.x0 or box.x1 > window.x1 or box.y0 < window.y0 or box.y1 > window.y1
    room = _DOT * scale / 2
    low, high = np.array([box.x0, box.y0]) - room, np.array([box.x1, box.y1]) + room
    covered = int(np.all((points > low) & (points < high), axis=1).sum())
    hidden = sum(bool(box.overlaps(other)) for other in taken)
    return 100.0 * bool(outside) + 10.0 * hidden + covered
