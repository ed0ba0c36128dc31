"""Speed and energy over the size of the model: the study's plot of computational cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables.units import format_count
from bitsim.simulator import Estimate, spec_for_size
from bitsim.simulator.sizes import MAX_PARAMETERS, MIN_PARAMETERS

from ..document.question import Question
from ..plot_style import SMALL, draw_band, empty_figure, literal
from .asked import estimate_of, machine_label, machines_of, system_columns, system_label
from .figure import Figure, Row, Rows
from .lines import draw_mark, draw_scheme_key, heading, log_frame, scheme_style, span, unit_ticks
from .text import cut, with_range

_LOW, _HIGH = 1e9, 1e11  # parameters; further where the question's model is further
_STEPS = 8  # in a power of ten, where there are few curves
_FEW = 8  # curves
_BANDS = 2  # schemes: the bands of more hide each other
_HEADING, _NAME = 80, 40  # characters of machines and of the model
_METRICS = {"tokens_per_s": "new tokens/s", "energy_j_per_new_token": "energy a token"}


def _rows(question: Question) -> list[Row]:
    rows = []
    machines, schemes = machines_of(question), dict.fromkeys(question.schemes)
    steps = _STEPS if len(machines) * len(schemes) <= _FEW else _STEPS // 2
    for machine in machines:
        for scheme in schemes:
            for size in _sizes(question.spec.parameters, steps):
                estimate = estimate_of(question, scheme, machine, spec_for_size(size))
                rows.append(_row(estimate, asked=False))
            rows.append(_row(estimate_of(question, scheme, machine), asked=True))
    return rows


def _sizes(asked: float, steps: int) -> list[float]:
    low, high = max(min(_LOW, asked), MIN_PARAMETERS), min(max(_HIGH, asked), MAX_PARAMETERS)
    inner = [10.0 ** (step / steps) for step in range(6 * steps, 13 * steps)]
    return [low, *(size for size in inner if low * 1.01 < size < high / 1.01), high]


def _row(estimate: Estimate, asked: bool) -> Row:
    speed, energy = estimate.tokens_per_s, estimate.token_energy_j["total"]
    return system_columns(estimate) | {
        "model": estimate.model.name if asked else None,
        "parameters": float(estimate.model.parameters),
        "tokens_per_s": speed.mid,
        "low_tokens_per_s": speed.low,
        "high_tokens_per_s": speed.high,
        "energy_j_per_new_token": energy.mid,
        "low_energy_j_per_new_token": energy.low,
        "high_energy_j_per_new_token": energy.high,
    }


def _draw(rows: Rows) -> Any:
    machines = list(dict.fromkeys(row["hardware"] for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    height = 3.0 if len(machines) == 1 else 2.1 if len(machines) < 4 else 1.3
    figure = empty_figure(height * len(machines) + 0.75)
    panels = figure.subplots(len(machines), len(_METRICS), squeeze=False, sharex=True)
    sizes = span([row["parameters"] for row in rows], 0.03)
    for number, machine in enumerate(machines):
        own = [(index, row) for index, row in enumerate(rows) if row["hardware"] == machine]
        for axes, (metric, title) in zip(panels[number], _METRICS.items(), strict=True):
            ends = span([row[end + metric] for _, row in own for end in ("", "low_", "high_")])
            log_frame(axes, sizes, ends, most=(6, 8 if height > 2 else 4))
            _draw_metric(axes, own, schemes, metric)
            if metric == "energy_j_per_new_token":
                unit_ticks(axes.yaxis, "J")
            axes.set_ylabel(title, fontsize=SMALL)
            if number == len(machines) - 1:
                axes.set_xlabel("parameters", fontsize=SMALL)
        heading(panels[number][0], literal(_machine([row for _, row in own])))
    draw_scheme_key(figure, schemes, title=_about(rows))
    return figure


def _draw_metric(axes: Any, rows: Sequence[tuple[int, Mapping[str, Any]]], schemes: list[str], metric: str) -> None:
    for number, scheme in enumerate(schemes):
        colour, _, line = scheme_style(number)
        curve = sorted((r for r in rows if r[1]["scheme"] == scheme), key=lambda found: found[1]["parameters"])
        shape = [(index, row) for index, row in curve if row["model"] is None]
        sizes = [row["parameters"] for _, row in shape]
        low, high = ([row[end + metric] for _, row in shape] for end in ("low_", "high_"))
        if len(schemes) <= _BANDS:
            draw_band(axes, sizes, low, high, colour)
        axes.plot(sizes, [row[metric] for _, row in shape], color=colour, linestyle=line, linewidth=1.4)
        for index, row in curve:
            size = 3.2 if row["model"] is None else 7.5
            draw_mark(axes, row["parameters"], row[metric], number, f"v{index}", size, hollow=row["fits"] == "no")


def _machine(rows: Rows) -> str:
    devices = {row["devices"] for row in rows}
    if len(devices) > 1:
        return cut(f"{rows[0]['hardware']}, as many as FP16 needs: {min(devices)} to {max(devices)}", _HEADING)
    return cut(machine_label(rows[0]), _HEADING)


def _about(rows: Rows) -> str:
    asked = next((row for row in rows if row["model"] is not None), None)
    notes = [] if asked is None else [f"large mark: {cut(asked['model'], _NAME)}"]
    if len({row["scheme"] for row in rows}) <= _BANDS:
        notes.append("bands: ranges")
    if any(row["fits"] == "no" for row in rows):
        notes.append("hollow: does not fit, as if it did")
    return literal("; ".join(notes))


def _hover(row: Mapping[str, Any]) -> str:
    value, low, high = (row[end + "energy_j_per_new_token"] for end in ("", "low_", "high_"))
    energy = with_range(value, low, high, "J")
    speed = f"{row['tokens_per_s']:.3g} tokens/s ({row['low_tokens_per_s']:.3g} to {row['high_tokens_per_s']:.3g})"
    model = f"{row['model']}, " if row["model"] else ""
    return f"{model}{format_count(row['parameters'])}, {system_label(row)}: {speed}, {energy} a new token"


SIZES = Figure("sizes", "Speed and energy of a new token over the size of the model", _rows, _draw, _hover)
