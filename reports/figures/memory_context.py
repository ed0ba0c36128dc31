"""Main memory against the length of the context, and what the machines hold."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables.units import format_si
from bitsim.simulator import Estimate
from bitsim.simulator.footprint import footprint
from bitsim.simulator.workload import MAX_CONTEXT

from ..document.question import Question
from ..plot_style import SMALL, empty_figure, literal
from .asked import estimates_of, machine_label, system_columns
from .figure import Figure, Row, Rows
from .lines import draw_mark, label_right, log_frame, scheme_style, span, unit_ticks
from .text import broken

_LEAST, _MOST = 9, 17  # powers of two: the contexts from 512 to 131,072 tokens, and up to four times what is asked
_BEYOND = 4
_NAME = 26  # characters of a line
_AROUND = 0.8  # inches, above and below the axes
_LIMIT = "0.35"


def _rows(question: Question) -> list[Row]:
    estimates = estimates_of(question)
    asked = question.workload.context
    wanted = max(_BEYOND * asked, question.spec.max_context or 0)
    most = max(_MOST, math.ceil(math.log2(wanted)))
    least = max(_LEAST, math.ceil(math.log2(max(question.workload.prompt_tokens, 1))))
    contexts = sorted({min(2**power, MAX_CONTEXT) for power in range(least, most + 1)} | {asked})
    first = estimates[0].hardware.name
    rows = [
        _row(estimate, "model", context, _bytes(estimate, context)) | {"asked": "yes" if context == asked else "no"}
        for estimate in estimates
        if estimate.hardware.name == first
        for context in contexts
    ]
    machines = {estimate.hardware.name: estimate for estimate in reversed(estimates)}
    return rows + [
        _row(estimate, "capacity", None, estimate.capacity_bytes) | {"asked": "no"}
        for estimate in reversed(machines.values())
    ]


def _bytes(estimate: Estimate, context: int) -> float:
    work, spec = estimate.workload, estimate.model
    workspace = estimate.engine.workspace(spec.hidden)
    return footprint(spec, estimate.scheme, work.batch, work.prompt_tokens, context, workspace).total


def _row(estimate: Estimate, kind: str, context: int | None, size: float) -> Row:
    system = system_columns(estimate)
    return {
        "kind": kind,
        "hardware": system["hardware"],
        "devices": system["devices"],
        "scheme": system["scheme"] if kind == "model" else None,
        "sequences": estimate.workload.batch,
        "context_tokens": context,
        "dram_bytes": size,
    }


def _draw(rows: Rows) -> Any:
    models = [(index, row) for index, row in enumerate(rows) if row["kind"] == "model"]
    limits = [(index, row) for index, row in enumerate(rows) if row["kind"] == "capacity"]
    figure = empty_figure(3.6 + 0.25 * max(len(limits) - 3, 0))
    axes = figure.add_subplot()
    contexts = [row["context_tokens"] for _, row in models]
    sequences = models[0][1]["sequences"]
    log_frame(axes, span(contexts, 0.02), span([row["dram_bytes"] for row in rows]))
    unit_ticks(axes.yaxis, "B")
    schemes = list(dict.fromkeys(row["scheme"] for _, row in models))
    ends, texts, colours = [], [], []
    for number, scheme in enumerate(schemes):
        colour, _, line = scheme_style(number)
        own = [(index, row) for index, row in models if row["scheme"] == scheme]
        axes.plot(
            [row["context_tokens"] for _, row in own], [row["dram_bytes"] for _, row in own], color=colour,
            linestyle=line, linewidth=1.6,
        )  # fmt: skip
        for index, row in own:
            size = 7.0 if row["asked"] == "yes" else 3.5
            draw_mark(axes, row["context_tokens"], row["dram_bytes"], number, f"v{index}", size)
        ends.append(own[-1][1]["dram_bytes"])
        texts.append(scheme)
        colours.append(colour)
    for index, row in limits:
        axes.axhline(row["dram_bytes"], color=_LIMIT, linewidth=1.0, linestyle=(0, (1, 1.2)), gid=f"v{index}")
        ends.append(row["dram_bytes"])
        texts.append(literal(broken(f"{machine_label(row)}: {format_si(row['dram_bytes'], 'B')}", _NAME)))
        colours.append(_LIMIT)
    _mark_asked(axes, models)
    axes.set_xlabel("context (tokens" + (f" in each of {sequences:,} sequences)" if sequences > 1 else ")"))
    axes.set_ylabel("main memory")
    label_right(axes, figure.get_figheight() - _AROUND, ends, texts, colours)
    return figure


def _mark_asked(axes: Any, models: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    asked = [row["context_tokens"] for _, row in models if row["asked"] == "yes"]
    for context in asked[:1]:
        axes.axvline(context, color="0.6", linewidth=0.8, zorder=1)
        axes.annotate(
            f"{context:,}", (context, 1.0), xytext=(0, 2), xycoords=("data", "axes fraction"), ha="center",
            textcoords="offset points", fontsize=SMALL, va="bottom",
        )  # fmt: skip


def _hover(row: Mapping[str, Any]) -> str:
    size = format_si(row["dram_bytes"], "B")
    if row["kind"] == "capacity":
        return f"{machine_label(row)} holds {size}"
    return f"{row['scheme']}, context of {row['context_tokens']:,} tokens: {size}"


MEMORY_CONTEXT = Figure("memory-context", "Main memory against the length of the context", _rows, _draw, _hover)
