"""What figures with axes have in common: curves with bands, texts at the right end of curves."""

import math
from collections.abc import Sequence
from typing import Any

from bitsim.energy_tables.units import format_si

from ..plot_style import LINES, SMALL, apart, mark_style, plain_frame, round_numbers, set_ticks, style_of

_LINE = 0.135  # inches: a line of small text


def label_right(
    axes: Any,
    inches: float,
    heights: Sequence[float],
    texts: Sequence[str],
    colours: Sequence[str],
    starts: Sequence[float] | None = None,
) -> None:
    """Write texts at the right of the axes, on a level with what they name or as near as there is room.

    Args:
        axes: with the limits that they will have.
        inches: the height of the axes, about: what is above and below them is not laid out yet.
        heights: of what is named, in data coordinates.
        texts: of one or more lines.
        colours: of the dotted lines that lead to them.
        starts: where these begin (data coordinates); by default at the right end of the axes.
    """
    points = [(axes.get_xlim()[1], height) for height in heights]
    levels = list((axes.transData + axes.transAxes.inverted()).transform(points)[:, 1])
    lines = [text.count("\n") + 1 for text in texts]
    ends = [axes.get_xlim()[1]] * len(texts) if starts is None else starts
    places = _places(levels, lines, _LINE / inches)
    for end, height, place, text, colour in zip(ends, heights, places, texts, colours, strict=True):
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "linestyle": (0, (1, 1.5)), "relpos": (0, 0.5)}
        axes.annotate(
            text, (end, height), xytext=(1.04, place), xycoords="data", textcoords="axes fraction", fontsize=SMALL,
            va="center", annotation_clip=False, arrowprops=line | {"shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def _places(levels: Sequence[float], lines: Sequence[int], line: float) -> list[float]:
    """Return where texts of so many lines stand: apart, and within 0 to 1 where they have room there."""
    slots = apart([level for level, count in zip(levels, lines, strict=True) for _ in range(count)], line)
    top, bottom = max(slots) + line / 2, min(slots) - line / 2
    shift = min(1.0 - top, 0.0) + max(-bottom, 0.0) if top - bottom <= 1.0 else (1.0 - top - bottom) / 2
    places, first = [], 0
    for count in lines:
        places.append(sum(slots[first : first + count]) / count + shift)
        first += count
    return places


def scheme_style(index: int) -> tuple[str, str, Any]:
    """Return colour, mark and line of a scheme by its place in the question."""
    colour, mark = style_of(index)
    return colour, mark, LINES[index % len(LINES)]


def draw_mark(axes: Any, x: float, y: float, index: int, gid: str, size: float = 5.0, hollow: bool = False) -> None:
    """Draw the mark of a scheme."""
    colour, mark, _ = scheme_style(index)
    style = mark_style(colour, mark) | {"markersize": size}
    if hollow:
        style |= {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.1}
    axes.plot([x], [y], linestyle="none", zorder=4, gid=gid, **style)


def draw_scheme_key(figure: Any, schemes: Sequence[str], title: str | None = None) -> None:
    """Say which colour, mark and line is which scheme."""
    from matplotlib.lines import Line2D

    handles = []
    for index, scheme in enumerate(schemes):
        colour, mark, line = scheme_style(index)
        handles.append(Line2D([], [], linestyle=line, linewidth=1.6, label=scheme, **mark_style(colour, mark)))
    legend = figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), 6), fontsize=SMALL, frameon=False,
        handlelength=3, title=title, title_fontsize=SMALL,
    )  # fmt: skip
    legend.set_alignment("left")


def log_frame(
    axes: Any, x: tuple[float, float] | None, y: tuple[float, float] | None, most: tuple[int, int] = (8, 8)
) -> None:
    """Give logarithmic axes limits, round numbers (at most so many) and a light grid; None leaves an axis alone."""
    if x is not None:
        axes.set_xscale("log")
        axes.set_xlim(*x)
        _set_few_ticks(axes.xaxis, x, most[0])
    if y is not None:
        axes.set_yscale("log")
        axes.set_ylim(*y)
        _set_few_ticks(axes.yaxis, y, most[1])
    axes.tick_params(labelsize=SMALL)
    plain_frame(axes)


def _set_few_ticks(axis: Any, limits: tuple[float, float], most: int) -> None:
    from matplotlib.ticker import FixedLocator

    set_ticks(axis, *limits)
    ticks = round_numbers(*limits)
    if len(ticks) > most:
        ticks = round_powers(*limits) if len(round_powers(*limits)) > 1 else ticks
        axis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / most)]))


def round_powers(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def heading(axes: Any, text: str) -> None:
    """Write a text above the axes at the left; where it is wider than they are, it goes on beside them."""
    axes.set_title("\n".join(" " * (text.count("\n") + 1)), fontsize=SMALL)
    wide = axes.annotate(
        text, (0.0, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=SMALL,
        fontweight="bold", va="bottom",
    )  # fmt: skip
    wide.set_in_layout(False)


def span(values: Sequence[float], room: float = 0.06) -> tuple[float, float]:
    """Return the ends of a logarithmic axis that holds values above zero, with room at both ends."""
    low, high = min(values), max(values)
    factor = max((high / low) ** room, 1.05)
    return low / factor, high * factor


def unit_ticks(axis: Any, unit: str) -> None:
    """Write the numbers of an axis with a prefix and a unit: "30 GB"."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short_si(value, unit)))


def short_si(value: float, unit: str) -> str:
    """Write a round number with a prefix and a unit: "30 GB"."""
    number, prefix = format_si(value, unit).split(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {prefix}".rstrip()
