"""Predictions drawn: each law over the size, its interval, the runs that it was fitted on, and the size asked about."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.units import format_count

from .laws import Curve, Forecast
from .plot_style import (
    DASHED,
    SMALL,
    check_kind,
    counted_as,
    draw_band,
    draw_mark,
    empty_figure,
    label_marks,
    label_sizes,
    legend_above,
    literal,
    metric_label,
    plain_frame,
    save_figure,
    set_ticks,
    shortened,
    style_of,
)

_LOSS = "nats per token"  # of several metrics: held-out, training and published losses go in one picture
_ROOM = 0.08  # of the height, above and below the curves


def check_metrics(forecasts: Sequence[Forecast]) -> None:
    """Refuse forecasts that one axis can't hold.

    Raises:
        BitsimError: they are of different metrics.
    """
    laws = {_quantity(forecast): f"{forecast.metric} ({forecast.law})" for forecast in reversed(forecasts)}
    if len(laws) > 1:
        raise BitsimError(f"--plot: expected laws of one metric, got {' and '.join(reversed(laws.values()))}")


def plot_predictions(path: Path, curves: Sequence[Curve]) -> None:
    """Draw laws on logarithmic axes: .png, .pdf or .svg, by the name of the file.

    A curve is dashed outside the sizes of the runs that it was fitted on.

    Args:
        path: the picture.
        curves: laws over the size.

    Raises:
        BitsimError: laws of different metrics, another kind of picture, or the place can't be written to.
    """
    check_kind(path)
    save_figure(path, draw_predictions(curves))


def draw_predictions(curves: Sequence[Curve]) -> Any:
    """Return a matplotlib figure of laws, as `plot_predictions` saves it.

    Raises:
        BitsimError: laws of different metrics.
    """
    check_metrics([curve.forecast for curve in curves])
    figure = empty_figure(4.4 + 0.15 * len(curves))
    axes = figure.add_subplot(xscale="log", yscale="log")
    low, high = _heights(curves)
    names = _names(curves)
    for index, (curve, name) in enumerate(zip(curves, names, strict=True)):
        _draw(axes, curve, name, *style_of(index))
    at = curves[0].parameters
    axes.axvline(at, color="0.6", linewidth=0.8, zorder=1)
    axes.annotate(
        format_count(at), (at, 1.0), xytext=(0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=SMALL, color="0.35", ha="center", va="bottom",
    )  # fmt: skip
    metrics = {curve.forecast.metric for curve in curves}
    axes.set_ylabel(metric_label(metrics.pop() if len(metrics) == 1 else "loss", curves[0].forecast.unit))
    axes.set_ylim(low, high)
    set_ticks(axes.yaxis, low, high)
    ends = min(curve.sizes[0] for curve in curves), max(curve.sizes[-1] for curve in curves)
    label_sizes(axes, *ends, counted_as(curve.forecast.counted for curve in curves))
    plain_frame(axes)
    marks = [(curve.parameters, curve.forecast.value.mid) for curve in curves]
    label_marks(axes, marks, [f"{value:.4g}" for _, value in marks])
    legend_above(figure, _about(curves))
    return figure


def _quantity(forecast: Forecast) -> str:
    return forecast.unit if forecast.unit == _LOSS else forecast.metric


def _draw(axes: Any, curve: Curve, name: str, colour: str, mark: str) -> None:
    low, mid, high = zip(*curve.values, strict=True)
    if _has_band(curve):
        draw_band(axes, curve.sizes, low, high, colour)
    axes.plot(curve.sizes, mid, color=colour, linestyle=DASHED, linewidth=1.2)
    if curve.runs is not None:
        inside = [index for index, size in enumerate(curve.sizes) if curve.runs[0] <= size <= curve.runs[1]]
        first, last = inside[0], inside[-1] + 1
        axes.plot(curve.sizes[first:last], mid[first:last], color=colour, linewidth=1.8)
    line = DASHED if curve.runs is None else "-"
    draw_mark(axes, (curve.parameters, curve.forecast.value.mid), name, (colour, mark), line)


def _names(curves: Sequence[Curve]) -> list[str]:
    """Name the curves: scheme, law, tokens; a file by its folder too where its name alone is that of two laws."""
    laws = {curve.forecast.law for curve in curves}
    short = {law: Path(law).name or law for law in laws}
    if len(set(short.values())) < len(laws):
        short = {law: law for law in laws}
    names = []
    for curve in curves:
        unknown = "" if curve.runs else ", sizes of its runs unknown"
        law = shortened(short[curve.forecast.law])
        names.append(literal(f"{curve.forecast.scheme}: {law}, {_tokens(curve)}{unknown}"))
    return names


def _tokens(curve: Curve) -> str:
    tokens = curve.forecast.tokens
    if tokens is None:
        return "tokens as its runs"
    if len(set(curve.tokens)) > 1:
        return f"{tokens / curve.parameters:g} tokens per parameter"
    return f"{format_count(tokens)} tokens"


def _has_band(curve: Curve) -> bool:
    return math.isfinite(curve.forecast.value.high)


def _heights(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the ends of the axis of the metric; a band that runs off may be cut."""
    seen = [value.mid for curve in curves for value in curve.values]
    seen += [end for curve in curves if _has_band(curve) for end in curve.forecast.value if end > 0]
    room = (max(seen) / min(seen)) ** _ROOM
    return min(seen) / room, max(seen) * room


def _about(curves: Sequence[Curve]) -> str:
    """Write the head of the legend: what the lines mean."""
    known = any(curve.runs for curve in curves)
    lines = "solid: sizes of the runs it was fitted on; dashed: beyond them" if known else "dashed: runs are not known"
    bands = dict.fromkeys(curve.forecast.interval for curve in curves if _has_band(curve))
    return f"{lines}\nbands: {' / '.join(bands)}" if bands else lines
