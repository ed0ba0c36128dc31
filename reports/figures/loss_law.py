"""The loss that training leads to, over the size: laws with their ranges, the prediction, and the runs if given."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitsim.energy_tables import BitsimError, Interval
from bitsim.energy_tables.units import format_count
from bitsim.simulator import ModelSpec, spec_for_size
from bitsim.simulator.scheme_law import expected_loss, scheme_laws
from bitsim.simulator.sizes import MAX_PARAMETERS, MIN_PARAMETERS

from ..document.question import Question
from .figure import Figure, Row, Rows
from .lines import draw_mark

if TYPE_CHECKING:
    from bitsim.simulator.loss_laws import Loss
    from bitsim.training.fitted import Fit
    from bitsim.training.measured import Measured

    from ..chosen_laws import ChosenLaws
    from ..laws import Curve

_LOW, _HIGH = 1e8, 1e12  # parameters, further where the question's model is further
_AROUND = 3.0  # how far past the runs and the model a law of runs is drawn
_STEPS = 8  # in a power of ten
_PUBLISHED = "what the published digits or errors leave open"
_COUNTED = {"non_embedding": "parameters without embedding", "parameters": "parameters"}
_UNIT = "nats per token"


def _rows(question: Question) -> list[Row]:
    rows: list[Row] = []
    if question.runs is not None:
        from bitsim.training.measured import read_runs

        rows = list(_run_rows(read_runs(question.runs)))
    if question.runs is not None and not question.laws:
        from ..document.sections.runs import fit_of

        return rows + list(_fitted_rows(question, fit_of(question.runs)))
    found = list(_law_rows(question))
    if not found:
        raise BitsimError(f"--law: expected a loss law, as none is known of {', '.join(question.schemes)}")
    return rows + found


def _run_rows(points: "Measured") -> Iterator[Row]:
    assert points.tokens is not None  # read_runs reads them
    columns = points.schemes, points.parameters, points.tokens, points.values
    for scheme, parameters, tokens, loss in zip(*columns, strict=True):
        yield _row("run", scheme, "", points.counts, float(parameters), Interval.exact(float(loss))) | {
            "tokens": float(tokens)
        }


def _row(kind: str, scheme: str, law: str, counts: str, parameters: float, loss: Interval) -> Row:
    return {
        "kind": kind,
        "scheme": scheme,
        "law": law,
        "counted": _COUNTED[counts],
        "parameters": parameters,
        "tokens": None,
        "loss_nats_per_token": loss.mid,
        "low_nats_per_token": loss.low if math.isfinite(loss.high) else None,
        "high_nats_per_token": loss.high if math.isfinite(loss.high) else None,
        "interval": None,
        "runs_low_parameters": None,
        "runs_high_parameters": None,
        "asked": "no",
    }


def _fitted_rows(question: Question, fit: "Fit") -> Iterator[Row]:
    """Return the laws of the runs themselves, in sizes alone: the tokens are those of the runs."""
    asked = float(question.spec.parameters_linear)
    for scheme in fit.points.kinds:
        runs = fit.points.parameters[fit.points.where(scheme)]
        low, high = float(runs.min()), float(runs.max())
        sizes = _grid(min(low, asked) / _AROUND, max(high, asked) * _AROUND, {low, high, asked})
        for size, *losses in zip(sizes, *(map(float, limit) for limit in fit.curve(sizes, None, scheme)), strict=True):
            yield _row("law", scheme, "fitted to the runs", fit.points.counts, size, Interval.spanning(*losses)) | {
                "interval": f"{fit.level * 100:g} % of resamples",
                "runs_low_parameters": low,
                "runs_high_parameters": high,
                "asked": "yes" if size == asked else "no",
            }


def _law_rows(question: Question) -> Iterator[Row]:
    """Return what `bitsim estimate --tokens` says of the schemes, over the sizes."""
    from ..chosen_laws import choose_laws

    spec = question.spec
    schemes = tuple(dict.fromkeys(question.schemes))
    chosen = choose_laws(question.laws, schemes)
    low = max(min(_LOW, spec.parameters / _AROUND), MIN_PARAMETERS)
    high = min(max(_HIGH, spec.parameters * _AROUND), MAX_PARAMETERS)
    specs = [spec_for_size(size) for size in _grid(low, high, set())]
    specs = sorted([*specs, spec], key=lambda each: each.parameters)
    for scheme in schemes:
        for each in specs:
            loss = _loss(question, chosen, scheme, each)
            if loss is not None:
                yield _law_row(question, chosen, scheme, each, loss)


def _law_row(question: Question, chosen: "ChosenLaws", scheme: str, spec: ModelSpec, loss: "Loss") -> Row:
    counts, runs, interval = _basis(chosen, scheme)
    size = float(spec.parameters_linear if counts == "non_embedding" else spec.parameters)
    name = loss.law.replace("/", " and ")
    limits = Interval.spanning(loss.low, loss.value, loss.high)
    return _row("law", scheme, name, counts, size, limits) | {
        "tokens": _tokens(question, spec),
        "interval": interval,
        "runs_low_parameters": runs[0],
        "runs_high_parameters": runs[1],
        "asked": "yes" if spec is question.spec else "no",
    }


def _loss(question: Question, chosen: "ChosenLaws", scheme: str, spec: ModelSpec) -> "Loss | None":
    tokens = _tokens(question, spec)
    loss = expected_loss(scheme, spec, tokens, chosen.of(scheme) or None)
    counts, _, _ = _basis(chosen, scheme)
    counted = spec.parameters_linear if counts == "non_embedding" else spec.parameters
    return None if loss is None else chosen.with_interval(loss, scheme, counted, tokens)


def _basis(chosen: "ChosenLaws", scheme: str) -> tuple[str, tuple[float | None, float | None], str]:
    """Return what a scheme's law counts as the size, the sizes of its runs, and what its interval holds."""
    if scheme in chosen.fits:
        fit = chosen.fits[scheme].fit
        runs = fit.points.parameters[fit.points.where(scheme)]
        interval = f"{fit.level * 100:g} % of resamples" if fit.resampled is not None else "none"
        return fit.points.counts, (float(runs.min()), float(runs.max())), interval
    try:
        law = scheme_laws((scheme,), chosen.of(scheme) or None)[scheme]
    except BitsimError:
        return "parameters", (None, None), _PUBLISHED  # a law of sizes alone
    base = law.law if law.twins is None else law.twins[0]
    return law.law.counts, (base.valid_parameters_low, base.valid_parameters_high), _PUBLISHED


def _tokens(question: Question, spec: ModelSpec) -> float:
    from ..laws import TOKENS_PER_PARAMETER

    return question.tokens or TOKENS_PER_PARAMETER * spec.parameters


def _grid(low: float, high: float, marked: set[float]) -> list[float]:
    steps = math.ceil(math.log10(high / low) * _STEPS)
    return sorted({low * (high / low) ** (step / steps) for step in range(steps + 1)} | marked)


def _draw(rows: Rows) -> Any:
    from ..predict_plot import draw_predictions

    laws: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "law":
            laws.setdefault((row["scheme"], row["law"]), []).append(row)
    curves = [_curve(own) for own in laws.values()]
    figure = draw_predictions(curves)
    axes = figure.axes[0]
    schemes = list(dict.fromkeys(scheme for scheme, _ in laws))
    heights = list(axes.get_ylim())
    for index, row in enumerate(rows):
        known = row["scheme"] in schemes
        if row["kind"] == "run" and known:
            heights.append(row["loss_nats_per_token"])
            number = schemes.index(row["scheme"])
            draw_mark(axes, row["parameters"], row["loss_nats_per_token"], number, f"v{index}", 4.5, hollow=True)
        if row["asked"] == "yes":
            place = row["parameters"], row["loss_nats_per_token"]
            draw_mark(axes, *place, schemes.index(row["scheme"]), f"v{index}", 7.0)
    axes.set_ylim(min(heights), max(heights))
    return figure


def _curve(rows: Sequence[Mapping[str, Any]]) -> "Curve":
    """Return a law as `bitsim predict` draws it."""
    from ..laws import Curve, Forecast

    values = tuple(_interval(row) for row in rows)
    at = next((index for index, row in enumerate(rows) if row["asked"] == "yes"), len(rows) - 1)
    row = rows[at]
    low, high = row["runs_low_parameters"], row["runs_high_parameters"]
    forecast = Forecast(
        scheme=row["scheme"],
        law=row["law"],
        metric="loss",
        unit=_UNIT,
        value=values[at],
        interval=row["interval"] or "none",
        measured_on="",
        counted=row["counted"],
        tokens=row["tokens"],
        decades_of_size=None,
        decades_of_tokens=None,
        notes=(),
    )
    sizes = tuple(row["parameters"] for row in rows)
    runs = (low, high) if low is not None and any(low <= size <= high for size in sizes) else None
    return Curve(forecast, row["parameters"], sizes, tuple(row["tokens"] for row in rows), values, runs)


def _interval(row: Mapping[str, Any]) -> Interval:
    low, value, high = (row[f"{end}_nats_per_token"] for end in ("low", "loss", "high"))
    return Interval(0.0, value, math.inf) if low is None else Interval(low, value, high)


def _hover(row: Mapping[str, Any]) -> str:
    low, value, high = (row[f"{end}_nats_per_token"] for end in ("low", "loss", "high"))
    ends = "" if low is None or low == high else f" ({low:.3f} to {high:.3f})"
    tokens = f" on {format_count(row['tokens'])} tokens" if row["tokens"] else ""
    who = f"{row['scheme']}, {row['law']}" if row["law"] else f"{row['scheme']} run"
    return f"{who}, {format_count(row['parameters'])}{tokens}: {value:.3f}{ends} {_UNIT}"


LOSS_LAW = Figure("loss-law", "Loss after training over the size: laws, ranges, runs", _rows, _draw, _hover)
