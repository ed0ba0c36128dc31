"""Main memory by part, beside what the machine holds."""

from collections.abc import Mapping
from typing import Any

from bitsim.energy_tables.units import format_si
from bitsim.simulator import Estimate

from ..document.question import Question
from ..plot_style import empty_figure
from .asked import estimates_of, system_columns, system_label
from .figure import Figure, Row, Rows
from .stacks import TOTAL, Stacks, draw_key, draw_stacks, height_of

PARTS = {
    "weights": "layer weights",
    "embedding_and_head": "embedding and head",
    "kv_cache": "KV cache",
    "activations": "activations",
    "runtime": "set aside by the software",
}


def _rows(question: Question) -> list[Row]:
    return [row for estimate in estimates_of(question) for row in _parts(estimate)]


def _parts(estimate: Estimate) -> list[Row]:
    parts = {title: getattr(estimate.dram_bytes, name) for name, title in PARTS.items()}
    parts[TOTAL] = estimate.dram_bytes.total
    return [
        system_columns(estimate) | {"part": part, "dram_bytes": value, "capacity_bytes": estimate.capacity_bytes}
        for part, value in parts.items()
    ]


def _number(row: Mapping[str, Any]) -> str:
    of = f"{format_si(row['dram_bytes'], 'B')} of {format_si(row['capacity_bytes'], 'B')}"
    return of if row["fits"] == "yes" else f"{of}: does not fit"


_STACKS = Stacks(tuple(PARTS.values()), "dram_bytes", _number)


def _draw(rows: Rows) -> Any:
    figure = empty_figure(height_of(rows) + 0.6)
    draw_stacks(figure.add_subplot(), rows, _STACKS, lambda row: True, room=0.6)
    draw_key(figure, rows, _STACKS, columns=3)
    return figure


def _hover(row: Mapping[str, Any]) -> str:
    return f"{system_label(row)}, {row['part']}: {format_si(row['dram_bytes'], 'B')}"


MEMORY_PARTS = Figure("memory-parts", "Main memory by part, beside what the machine holds", _rows, _draw, _hover)
