"""Energy of a new token by part."""

from collections.abc import Mapping
from typing import Any

from bitsim.energy_tables import Interval
from bitsim.simulator import Estimate
from bitsim.simulator.cost import ENERGY_PARTS

from ..document.question import Question
from ..plot_style import empty_figure
from .asked import estimates_of, fit_note, system_columns, system_label
from .figure import Figure, Row, Rows
from .stacks import TOTAL, Stacks, draw_key, draw_stacks, height_of
from .text import with_range

PARTS = {
    "arithmetic_linear": "arithmetic: matrices",
    "arithmetic_attention": "arithmetic: attention",
    "arithmetic_other": "arithmetic: head, norms",
    "dram": "DRAM",
    "on_chip": "on-chip memory",
    "link": "links between devices",
    "static": "power over time",
}
_VALUE = "energy_j_per_new_token"


def _rows(question: Question) -> list[Row]:
    return [row for estimate in estimates_of(question) for row in _parts(estimate)]


def _parts(estimate: Estimate) -> list[Row]:
    parts = {PARTS[name]: estimate.token_energy_j[name] for name in ENERGY_PARTS}
    parts[TOTAL] = estimate.token_energy_j["total"]
    return [system_columns(estimate) | {"part": part} | _columns(energy) for part, energy in parts.items()]


def _columns(energy: Interval) -> Row:
    return {_VALUE: energy.mid, "low_j_per_new_token": energy.low, "high_j_per_new_token": energy.high}


def _number(row: Mapping[str, Any]) -> str:
    return with_range(row[_VALUE], row["low_j_per_new_token"], row["high_j_per_new_token"], "J")


_STACKS = Stacks(tuple(PARTS.values()), _VALUE, lambda row: _number(row) + fit_note(row))


def _draw(rows: Rows) -> Any:
    figure = empty_figure(height_of(rows) + 0.6)
    draw_stacks(figure.add_subplot(), rows, _STACKS, lambda row: True, room=0.55)
    draw_key(figure, rows, _STACKS)
    return figure


def _hover(row: Mapping[str, Any]) -> str:
    return f"{system_label(row)}, {row['part']}: {_number(row)} a new token"


ENERGY_PARTS_FIGURE = Figure(
    "energy-parts", "Energy of a new token by part, each machine on a scale of its own", _rows, _draw, _hover
)
