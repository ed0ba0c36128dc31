"""A fitted law drawn: the runs, each scheme's curve over the size, and the band of its interval."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count
from bitsim.runtime.checkpoints.whole import whole_file
from bitsim.training.fit import FORMS, Fit
from bitsim.training.huber import Array
from bitsim.training.law_file import UNITS

KINDS = ("png", "pdf", "svg")
_NAMES = {"held_out_loss": "held-out loss", "train_loss": "training loss"}
_SIZES = {"non_embedding": "parameters without embedding", "parameters": "parameters"}
# Okabe and Ito's colours, told apart by colour-blind eyes; marks and lines tell the schemes apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (3, 1.5)), (0, (1, 1)), "-")
_BEYOND = 0.5  # decades past the runs, where the law is only said


def check_kind(path: Path) -> str:
    """Return the kind of picture that a name asks for.

    Raises:
        BitsimError: it is none of `KINDS`.
    """
    kind = path.suffix[1:].lower()
    if kind not in KINDS:
        raise BitsimError(f"{path}: expected a name that ends in .{', .'.join(KINDS)}, got '{shown(path.suffix)}'")
    return kind


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
    kind = check_kind(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), dpi=200, layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    ratio = _tokens_per_parameter(fit)
    sizes = fit.points.parameters
    span = np.geomspace(sizes.min() * 10 ** (-_BEYOND / 2), sizes.max() * 10**_BEYOND, 200)
    drawn = [
        _draw_scheme(axes, fit, scheme, index % len(_COLOURS), span, ratio)
        for index, scheme in enumerate(fit.points.kinds)
    ]
    for ends in ((span[0], sizes.min()), (sizes.max(), span[-1])):
        axes.axvspan(*ends, color="0.5", alpha=0.10, linewidth=0)
    axes.annotate(
        "beyond the runs", (sizes.max(), 1.0), xytext=(4, -5), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=8, color="0.35", va="top",
    )  # fmt: skip
    _label_axes(axes, fit, span, np.concatenate(drawn))
    title = "marks: runs" + ("" if ratio is None else f", moved to {ratio:.3g} tokens per parameter")
    title += "" if fit.resampled is None else f"\nbands: {fit.level * 100:g} % interval of the law"
    legend = axes.legend(title=title, fontsize=8, title_fontsize=8, frameon=False, loc="best", handlelength=3)
    legend.set_alignment("left")
    with whole_file(path) as part:
        figure.savefig(part, format=kind)


def _draw_scheme(axes: Any, fit: Fit, scheme: str, index: int, span: Array, ratio: float | None) -> Array:
    """Draw a scheme and return the heights that must be seen: a band that runs off may be cut."""
    colour, line, mark = _COLOURS[index], _LINES[index], _MARKS[index]
    low, mid, high = fit.curve(span, None if ratio is None else ratio * span, scheme)
    where = fit.points.where(scheme)
    at, values = fit.points.parameters[where], fit.points.values[where]
    if ratio is not None and fit.points.tokens is not None:
        _, moved, _ = fit.curve(at, ratio * at, scheme)
        _, own, _ = fit.curve(at, fit.points.tokens[where], scheme)
        values = values * moved / own
    formula = " + ".join(_term(fit, name, scheme) for name in ("e", "a", "b") if name in FORMS[fit.form])
    if fit.resampled is not None:
        axes.fill_between(span, low, high, color=colour, alpha=0.18, linewidth=0)
        for edge in (low, high):
            axes.plot(span, edge, color=colour, linewidth=0.5, alpha=0.6)
    axes.plot(span, mid, color=colour, linestyle=line, linewidth=1.6)
    marks = {"marker": mark, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6, "color": colour}
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
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    metric = fit.points.metric
    unit = UNITS.get(metric, "")
    name = _NAMES.get(metric, metric.removesuffix("_j").removesuffix("_bytes").replace("_", " "))
    axes.set_xlabel(f"N, {_SIZES[fit.points.counts]}")
    axes.set_ylabel(f"{name} ({unit})" if unit else name)
    room = (drawn.max() / drawn.min()) ** 0.08
    low, high = float(drawn.min() / room), float(drawn.max() * room)
    axes.set_ylim(low, high)
    axes.set_xlim(span[0], span[-1])
    for axis, ticks in ((axes.xaxis, _ticks(span[0], span[-1])), (axes.yaxis, _ticks(low, high))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _ticks(low: float, high: float) -> list[float]:
    """Return 4 to 12 round numbers, as even on a logarithmic axis as round numbers are."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 4:
            return inside
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if factor * step * 3.5 <= high - low or factor == 1)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _plain(value: float) -> str:
    return format_count(value).replace(".00", "").replace(".0", "") if value >= 1e3 else f"{value:.4g}"


def _tokens_per_parameter(fit: Fit) -> float | None:
    """Return the middle of the runs, or None where the law knows no tokens."""
    if fit.form != "chinchilla" or fit.points.tokens is None:
        return None
    return float(np.exp(np.median(np.log(fit.points.tokens / fit.points.parameters))))
