"""The sections on a ladder of training runs: the runs, their curves, and the laws fitted to them."""

import csv
import io
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.records import read_text
from bitsim.energy_tables.units import format_count
from bitsim.simulator import ModelSpec, spec_for_size
from bitsim.training.measured import read_runs

from ..parts import Cell, Drawing, Headline, Number, Section
from ..question import Question
from . import cells
from .case import draw_all, drawing

if TYPE_CHECKING:
    from bitsim.training.fitted import Fit

_FORM, _METRIC = "power", "held_out_loss"
_LOSS = "nats per token"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a runs.csv that `read_runs` has found to be right.

    Raises:
        BitsimError: see `read_runs`.
    """
    read_runs(path)
    return [row for row in csv.DictReader(io.StringIO(read_text(path), newline="")) if any(row.values())]


def largest(rows: list[dict[str, str]]) -> ModelSpec:
    """Return the shape of the largest run, from the columns of runs.csv; of its size where they are not there."""
    row = max(rows, key=lambda row: float(row["non_embedding"]))
    try:
        layers, hidden, heads, ffn, vocab = (int(row[name]) for name in ("layers", "hidden", "heads", "ffn", "vocab"))
    except (KeyError, ValueError):
        return spec_for_size(row.get("parameters") or row["non_embedding"])
    return ModelSpec(
        name=row.get("size") or format_count(float(row["non_embedding"])),
        architecture="llama",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=max(hidden // heads, 1),
        ffn=ffn,
        vocab=vocab,
        tied_head=True,
    )


def fit_of(path: Path) -> "Fit":
    """Fit the law that `bitsim fit-law RUNS` fits by default; the same runs are fitted once.

    Raises:
        BitsimError: runs that no law can be fitted to.
    """
    return _fit(path, read_text(path))


@cache
def _fit(path: Path, text: str) -> "Fit":
    from bitsim.training.fit import fit_law

    del text  # what is in the file: another file of that name has a fit of its own
    return fit_law(read_runs(path, _METRIC), _FORM)


def ladder(rows: list[dict[str, str]]) -> Section:
    """Return the runs."""
    columns = (
        "scheme",
        "size",
        "N",
        "tokens",
        "seed",
        "training loss",
        "held-out loss",
        "bits a byte",
        "time",
        "energy",
    )
    lines: list[list[Cell]] = []
    for row in sorted(rows, key=lambda row: (row["scheme"], float(row["non_embedding"]), float(row["tokens"]))):
        lines.append(
            [
                row["scheme"],
                row.get("size", ""),
                cells.short_count(float(row["non_embedding"])),
                cells.short_count(float(row["tokens"])),
                row.get("seed", ""),
                _number(row, "train_loss"),
                _number(row, "held_out_loss"),
                _number(row, "bits_per_byte"),
                _measure(row, "seconds"),
                _measure(row, "energy_j"),
            ]
        )
    data = sorted({row["data"] for row in rows if row.get("data")})
    text = (
        f"{len(rows):,} finished runs of {', '.join(dict.fromkeys(row['scheme'] for row in rows))}. N counts "
        f"parameters without embedding; losses are in {_LOSS}.",
    )
    notes = (f"Data: {', '.join(data)}.",) if data else ()
    return Section("ladder", "The training ladder", text, (cells.table(columns, lines, "The runs."),), (), notes)


def _value(row: dict[str, str], column: str) -> float | None:
    try:
        value = float(row.get(column, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _number(row: dict[str, str], column: str) -> Cell:
    value = _value(row, column)
    return "" if value is None else Number(value, f"{value:.4f}")


def _measure(row: dict[str, str], column: str) -> Cell:
    value = _value(row, column)
    if value is None:
        return ""
    return cells.duration(value) if column == "seconds" else cells.kwh(value)


def curves(question: Question) -> Section | str:
    """Return the losses over the tokens, or why they can't be drawn."""
    caption, about = (
        "Training and held-out loss over tokens.",
        "Loss over training tokens of every run, by scheme and size.",
    )
    try:
        figure = drawing(question, "curves", caption, about)
    except BitsimError as error:
        return f"Curves: {error}."
    text = ("The loss on the way; what is fitted is the held-out loss at the end.",)
    return Section("curves", "Curves", text, (), (figure,))


def fits(question: Question, draw: bool) -> Section | str:
    """Return the coefficients of the laws, or why there are none.

    Args:
        question: with runs.
        draw: whether to draw the laws too (where no other section does).
    """
    from bitsim.training.law_file import summary

    assert question.runs is not None
    try:
        fit = fit_of(question.runs)
    except BitsimError as error:
        return f"Fits: {error}."
    rows: list[list[Cell]] = []
    for scheme, found in summary(fit).items():
        for name, (low, value, high) in found["coefficients"].items():
            ends = "none" if low is None and high is None else f"{_end(low)} – {_end(high)}"
            rows.append([scheme, name, Number(value, f"{value:.4g}"), ends])
    noise = "" if math.isnan(fit.noise) else f" Runs lie {fit.noise:.2%} about the law."
    text = (
        f"{_METRIC.replace('_', ' ')} = e + a N^-alpha, in {_LOSS}, fitted to {len(fit.points):,} runs.{noise} "
        f"Intervals hold {fit.level * 100:g} % of resamples; bitsim fit-law makes them too, and laws that know tokens.",
    )
    figures: tuple[Drawing, ...] = ()
    notes = tuple(f"{warning}." for warning in fit.warnings)
    if draw:
        figures, missing = draw_all(
            question,
            ("loss-law", "The laws over size, with bands and runs.", "Loss over size, with fitted laws and runs."),
        )
        notes += missing
    table = cells.table(("scheme", "coefficient", "value", "interval"), rows, "Coefficients.")
    return Section("fits", "Fits", text, (table,), figures, notes)


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"


def headline(rows: list[dict[str, str]]) -> tuple[Headline, ...]:
    """Return five numbers of a ladder: runs, sizes, tokens, the best loss, and what it cost."""
    sizes = [float(row["non_embedding"]) for row in rows]
    tokens = [float(row["tokens"]) for row in rows]
    best = min(rows, key=lambda row: float(row[_METRIC]))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    joules = [value for row in rows if (value := _value(row, "energy_j")) is not None]
    seconds = [value for row in rows if (value := _value(row, "seconds")) is not None]
    cost = cells.kwh(sum(joules)).text if joules else "not measured"
    time = f"{cells.duration(sum(seconds)).text} of training" if seconds else "time not recorded"
    return (
        Headline("Runs", f"{len(rows):,}", f"of {', '.join(schemes)}"),
        Headline("Sizes", _ends(sizes), "parameters without embedding"),
        Headline("Training tokens", _ends(tokens), "of each run"),
        Headline(
            "Lowest loss", f"{float(best[_METRIC]):.3f}", f"{_LOSS}, held out: {best['scheme']} of {_ends([_n(best)])}"
        ),
        Headline("Energy", cost, f"of {len(joules):,} runs; {time}"),
    )


def _n(row: dict[str, str]) -> float:
    return float(row["non_embedding"])


def _ends(values: list[float]) -> str:
    low, high = format_count(min(values)), format_count(max(values))
    return low if low == high else f"{low} to {high}"
