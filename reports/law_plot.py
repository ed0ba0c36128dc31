"""A fitted law drawn: the runs, each scheme's curve over the size, and the band of its interval."""

from pathlib import Path
from typing import Any

import numpy as np

from bitsim.training.fitted import FORMS, Fit
from bitsim.training.huber import Array
from bitsim.training.law_file import UNITS

from .laws import SIZES
from .plot_style import (
    COLOURS,
    LINES,
    MARKS,
    SMALL,
    check_kind,
    draw_band,
    empty_figure,
    label_sizes,
    mark_style,
    metric_label,
    plain_frame,
    save_figure,
    set_ticks,
)

__all__ = ["check_kind", "plot_law"]

_BEYOND = 0.5  # decades past the runs, where the law is only said


def plot_law(path: Path, fit: Fit) -> None:
    """Draw a law on logarithmic axes: .png, .pdf or .svg, by the name of the file.

    A law that knows tokens is drawn at the runs' middle number of tokens per parameter, and each run is moved there
    by the factor that the law says, so that its distance from the curve is its residual.

    Args:
        path: the picture.
        fit: the law.

    Raises:
        BitsimError: another kind of picture, or the place can't be written to.
    """
    check_kind(path)
    figure = empty_figure()
    axes = figure.add_subplot(xscale="log", yscale="log")
    ratio = _tokens_per_parameter(fit)
    sizes = fit.points.parameters
    span = np.geomspace(sizes.min() * 10 ** (-_BEYOND / 2), sizes.max() * 10**_BEYOND, 200)
    drawn = [
        _draw_scheme(axes, fit, scheme, index % len(COLOURS), span, ratio)
        for index, scheme in enumerate(fit.points.kinds)
    ]
    for ends in ((span[0], sizes.min()), (sizes.max(), span[-1])):
        axes.axvspan(*ends, color="0.5", alpha=0.10, linewidth=0)
    axes.annotate(
        "beyond the runs", (sizes.max(), 1.0), xytext=(4, -5), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=SMALL, color="0.35", va="top",
    )  # fmt: skip
    _label_axes(axes, fit, span, np.concatenate(drawn))
    title = "marks: runs" + ("" if ratio is None else f", moved to {ratio:.3g} tokens per parameter")
    title += "" if fit.resampled is None else f"\nbands: {fit.level * 100:g} % interval of the law"
    legend = axes.legend(title=title, fontsize=SMALL, title_fontsize=SMALL, frameon=False, loc="best", handlelength=3)
    legend.set_alignment("left")
    save_figure(path, figure)


def _draw_scheme(axes: Any, fit: Fit, scheme: str, index: int, span: Array, ratio: float | None) -> Array:
    """Draw a scheme and return the heights that must be seen: a band that runs off may be cut."""
    colour, line, mark = COLOURS[index], LINES[index], MARKS[index]
    low, mid, high = fit.curve(span, None if ratio is None else ratio * span, scheme)
    where = fit.points.where(scheme)
    at, values = fit.points.parameters[where], fit.points.values[where]
    if ratio is not None and fit.points.tokens is not None:
        _, moved, _ = fit.curve(at, ratio * at, scheme)
        _, own, _ = fit.curve(at, fit.points.tokens[where], scheme)
        values = values * moved / own
    formula = " + ".join(_term(fit, name, scheme) for name in ("e", "a", "b") if name in FORMS[fit.form])
    if fit.resampled is not None:
        draw_band(axes, span, low, high, colour)
    axes.plot(span, mid, color=colour, linestyle=line, linewidth=1.6)
    marks = mark_style(colour, mark)
    axes.plot(at, values, linestyle="none", zorder=3, **marks)
    axes.plot([], [], linestyle=line, linewidth=1.6, label=f"{scheme}: {formula}", **marks)
    return np.concatenate([mid, values])


def _term(fit: Fit, name: str, scheme: str) -> str:
    value = f"{fit.coefficient(name, scheme).mid:#.3g}".rstrip(".")
    digits, _, power = value.partition("e")
    if power:
        value = rf"{digits.rstrip('.')}$\cdot10^{{{int(power)}}}$"
    if name == "e":
        return value
    symbol, exponent = ("N", "alpha") if name == "a" else ("D", "beta")
    return rf"{value} ${symbol}^{{{-fit.coefficient(exponent, scheme).mid:.3f}}}$"


def _label_axes(axes: Any, fit: Fit, span: Array, drawn: Array) -> None:
    metric = fit.points.metric
    axes.set_ylabel(metric_label(metric, UNITS.get(metric, "")))
    room = (drawn.max() / drawn.min()) ** 0.08
    low, high = float(drawn.min() / room), float(drawn.max() * room)
    axes.set_ylim(low, high)
    set_ticks(axes.yaxis, low, high)
    label_sizes(axes, span[0], span[-1], SIZES[fit.points.counts])
    plain_frame(axes)


def _tokens_per_parameter(fit: Fit) -> float | None:
    """Return the middle of the runs, or None where the law knows no tokens."""
    if fit.form != "chinchilla" or fit.points.tokens is None:
        return None
    return float(np.exp(np.median(np.log(fit.points.tokens / fit.points.parameters))))
