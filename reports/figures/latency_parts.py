"""Time of reading the prompt and of a new token, by operation."""

from collections.abc import Mapping
from typing import Any

from bitsim.energy_tables import Interval
from bitsim.energy_tables.units import format_si
from bitsim.simulator import Estimate

from ..document.question import Question
from ..plot_style import SMALL, empty_figure
from .asked import estimates_of, fit_note, system_columns, system_label
from .figure import Figure, Row, Rows
from .stacks import TOTAL, Stacks, draw_key, draw_stacks, height_of
from .text import with_range

PARTS = {
    "attention.qkv": "attention matrices",
    "attention.output": "attention matrices",
    "attention.scores": "attention scores",
    "ffn.up": "FFN matrices",
    "ffn.down": "FFN matrices",
    "head": "output head",
    "embedding": "norms, activations, embedding",
    "norms and activations": "norms, activations, embedding",
    "engine": "fixed time of the engine",
    "link": "links between devices",
}
_PHASES = ("prefill", "decode")


def _rows(question: Question) -> list[Row]:
    return [row for estimate in estimates_of(question) for phase in _PHASES for row in _parts(estimate, phase)]


def _parts(estimate: Estimate, phase: str) -> list[Row]:
    work = estimate.workload
    seconds: dict[str, float] = {}
    for operation in estimate.operations:
        if operation.phase == phase:
            part = PARTS[operation.operation]
            seconds[part] = seconds.get(part, 0.0) + operation.latency_s
    total = estimate.prefill_s if phase == "prefill" else estimate.per_new_token_s
    ranges = {part: Interval.exact(value) for part, value in seconds.items()} | {TOTAL: total}
    return [
        system_columns(estimate)
        | {
            "phase": phase,
            "sequences": work.batch,
            "tokens_per_sequence": work.prompt_tokens if phase == "prefill" else 1,
            "part": part,
            "latency_s": value.mid,
            "low_s": None if part != TOTAL else value.low,
            "high_s": None if part != TOTAL else value.high,
            "bound_by": None if part != TOTAL else estimate.bound[phase],
        }
        for part, value in ranges.items()
        if total.mid > 0
    ]


_STACKS = Stacks(
    tuple(dict.fromkeys(PARTS.values())), "latency_s", lambda row: format_si(row["latency_s"], "s") + fit_note(row)
)


def _draw(rows: Rows) -> Any:
    phases = [phase for phase in _PHASES if any(row["phase"] == phase for row in rows)]
    figure = empty_figure(height_of(rows) + 0.85)
    for index, phase in enumerate(phases):
        axes = figure.add_subplot(1, len(phases), index + 1)
        _draw_phase(axes, rows, phase)
        if index:
            axes.set_yticks([])
            for text in axes.texts:
                text.set_visible(text.get_gid() != "machine")
    draw_key(figure, rows, _STACKS, columns=3)
    return figure


def _draw_phase(axes: Any, rows: Rows, phase: str) -> None:
    draw_stacks(axes, rows, _STACKS, lambda row: row["phase"] == phase, room=0.45)
    first = next(row for row in rows if row["phase"] == phase)
    several = f" in each of {first['sequences']:,} sequences" if first["sequences"] > 1 else ""
    tokens = "a new token" if phase == "decode" else f"reading {first['tokens_per_sequence']:,} tokens"
    axes.set_title(tokens + several, fontsize=SMALL + 1, loc="left")


def _hover(row: Mapping[str, Any]) -> str:
    if row["part"] != TOTAL:
        return f"{system_label(row)}, {row['phase']}, {row['part']}: {format_si(row['latency_s'], 's')}"
    time = with_range(row["latency_s"], row["low_s"], row["high_s"], "s")
    return f"{system_label(row)}, {row['phase']}: {time}, bound by {row['bound_by']}"


LATENCY_PARTS = Figure(
    "latency-parts", "Time of reading the prompt and of a new token, by operation", _rows, _draw, _hover
)
