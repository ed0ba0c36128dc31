"""What the pictures have in common: kinds of files, colours, marks and axes; the same picture is the same bytes."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count
from bitsim.runtime.whole import whole_file

KINDS = ("png", "pdf", "svg")
# Okabe and Ito's colours, told apart by colour-blind eyes; marks and lines tell the curves apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (3, 1.5)), (0, (1, 1)), "-")
DASHED = (0, (4, 2))
_NAMES = {"held_out_loss": "held-out loss", "train_loss": "training loss"}
_LINE = 0.045  # of the height of the axes: what a line of small text takes
SMALL = 8  # points, of all text inside the axes
_UNDATED = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_LONGEST = 50  # characters of a name in a legend


def check_kind(path: Path) -> str:
    """Return the kind of picture that a name asks for.

    Raises:
        BitsimError: it is none of `KINDS`.
    """
    kind = path.suffix[1:].lower()
    if kind not in KINDS:
        raise BitsimError(f"{path}: expected a name that ends in .{', .'.join(KINDS)}, got '{shown(path.suffix)}'")
    return kind


def empty_figure(height: float = 4.4) -> Any:
    """Return a matplotlib figure of 6.4 inches by a height (inches)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), dpi=200, layout="constrained")


def save_figure(path: Path, figure: Any) -> None:
    """Write a figure, whole or not at all; of the same figure always the same bytes.

    Without a salt, an SVG's parts are named at random.

    Raises:
        BitsimError: another kind of picture, or the place can't be written to.
    """
    kind = check_kind(path)
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "bitsim"}), whole_file(path) as part:
        figure.savefig(part, format=kind, metadata=_UNDATED[kind])


def style_of(index: int) -> tuple[str, str]:
    """Return the colour and the mark of a curve: 36 curves in a row differ."""
    return COLOURS[index % len(COLOURS)], MARKS[(index + index // len(COLOURS)) % len(MARKS)]


def mark_style(colour: str, mark: str) -> dict[str, Any]:
    """Return how a mark is drawn, as arguments of `plot`."""
    return {"marker": mark, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6, "color": colour}


def draw_band(axes: Any, sizes: Any, low: Any, high: Any, colour: str) -> None:
    """Draw an interval over the size, with thin edges that stay visible where bands overlap."""
    axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
    for edge in (low, high):
        axes.plot(sizes, edge, color=colour, linewidth=0.5, alpha=0.6)


def draw_mark(axes: Any, at: tuple[float, float], label: str, style: tuple[str, str], line: Any = "-") -> None:
    """Mark a place of a curve, and put the curve into the legend with that mark and its kind of line."""
    marks = mark_style(*style) | {"markersize": 7}
    axes.plot(*at, linestyle="none", zorder=3, **marks)
    axes.plot([], [], linestyle=line, linewidth=1.6, label=label, **marks)


def legend_above(figure: Any, title: str) -> None:
    """Put the legend above the axes, where it covers nothing."""
    legend = figure.legend(
        loc="outside upper left", title=title, fontsize=SMALL, title_fontsize=SMALL, frameon=False, handlelength=3
    )
    legend.set_alignment("left")


def counted_as(ways: Iterable[str]) -> str:
    """Return what laws count as the size, in words."""
    first, *others = dict.fromkeys(ways)
    return "parameters as each law counts them" if others else first


def label_sizes(axes: Any, low: float, high: float, counted: str) -> None:
    """Give the axis of sizes its ends, its ticks and its label, "N, parameters" for example."""
    axes.set_xlim(low, high)
    axes.set_xlabel(f"N, {counted}")
    set_ticks(axes.xaxis, low, high)


def metric_label(metric: str, unit: str) -> str:
    """Write a metric and its unit as the label of an axis."""
    name = _NAMES.get(metric, metric.removesuffix("_j").removesuffix("_bytes").replace("_", " "))
    return f"{name} ({unit})" if unit else name


def shortened(name: str) -> str:
    """Cut a long name, such as that of a file, at its front."""
    return name if len(name) <= _LONGEST else f"...{name[-_LONGEST:]}"


def literal(text: str) -> str:
    """Keep a text from being read as a formula: names may hold dollar signs."""
    return text.replace("$", r"\$")


def set_ticks(axis: Any, low: float, high: float) -> None:
    """Put round numbers on a logarithmic axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(round_numbers(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def label_marks(axes: Any, marks: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Write a text for the mark of each curve at the right of the axes, on a level with it or as near as there is room.

    Args:
        axes: with the limits that they will have.
        marks: where the curves' marks are; the first is that of curve 0 in `style_of`.
        texts: of one or more lines.
    """
    least = _LINE * max(text.count("\n") + 1 for text in texts)
    heights = (axes.transData + axes.transAxes.inverted()).transform(marks)[:, 1]
    for index, (mark, text, level) in enumerate(zip(marks, texts, apart(list(heights), least), strict=True)):
        colour, _ = style_of(index)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.9, "linestyle": (0, (1, 1.5)), "shrinkB": 4}
        axes.annotate(
            text, mark, xytext=(1.015, level), textcoords="axes fraction", fontsize=SMALL, color="0.15", va="center",
            arrowprops=line | {"relpos": (0, 0.5)},
        )  # fmt: skip


def apart(levels: Sequence[float], least: float) -> list[float]:
    """Move levels as little up and down as it takes to part each from the next by `least`; their order stays."""
    order = sorted(range(len(levels)), key=lambda index: levels[index])
    groups: list[tuple[float, int]] = []  # middle and number of levels that stand side by side
    for index in order:
        middle, count = levels[index], 1
        while groups and middle - count * least / 2 < groups[-1][0] + groups[-1][1] * least / 2:
            before, others = groups.pop()
            middle, count = (before * others + middle * count) / (others + count), others + count
        groups.append((middle, count))
    placed = [middle + (step - (count - 1) / 2) * least for middle, count in groups for step in range(count)]
    found = [0.0] * len(levels)
    for index, level in zip(order, placed, strict=True):
        found[index] = level
    return found


def plain_frame(axes: Any) -> None:
    """Draw a light grid, and no box."""
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def round_numbers(low: float, high: float) -> list[float]:
    """Return 4 to 9 round numbers, as even on a logarithmic axis as round numbers are."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            return inside[:: math.ceil(len(inside) / 9)]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if factor * step * 3.5 <= high - low or factor == 1)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def plain(value: float) -> str:
    """Write a number of an axis: 300K, 2.5B, 0.05."""
    return format_count(value).replace(".00", "").replace(".0", "") if 1e3 <= value < 1e15 else f"{value:.4g}"
