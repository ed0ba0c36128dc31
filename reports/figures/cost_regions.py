"""Carbon of a million new tokens by the region of the electricity grid."""

from collections.abc import Mapping
from typing import Any

from bitsim.energy_tables import Interval, grid_rows
from bitsim.simulator import Estimate

from ..document.question import Question
from ..plot_style import SMALL, empty_figure, literal
from .asked import estimates_of, machine_label, system_columns, system_label
from .figure import Figure, Row, Rows
from .lines import draw_mark, draw_scheme_key, log_frame, scheme_style, span
from .text import broken, with_range

_LINE, _HEAD = 0.2, 0.55  # inches: a region; what is above and below a machine's regions
_VALUE = "kg_co2e_per_million_tokens"
_MILLION = 1e6


def _rows(question: Question) -> list[Row]:
    regions = sorted(grid_rows().items(), key=lambda item: item[1].carbon_kg_per_j.mid, reverse=True)
    return [
        system_columns(estimate)
        | {"region": region, "asked": "yes" if region == question.region else "no"}
        | _columns(estimate, grid.carbon_kg_per_j)
        for estimate in estimates_of(question)
        for region, grid in regions
    ]


def _columns(estimate: Estimate, carbon: Interval) -> Row:
    corners = [c * j * _MILLION for c, j in zip(carbon, estimate.token_energy_j["total"], strict=True)]
    low, mid, high = Interval.spanning(*corners)
    return {_VALUE: mid, "low_kg_co2e_per_million_tokens": low, "high_kg_co2e_per_million_tokens": high}


def _draw(rows: Rows) -> Any:
    machines = list(dict.fromkeys(machine_label(row) for row in rows))
    regions = list(dict.fromkeys(row["region"] for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    columns = min(len(machines), 2)
    lines = -(-len(machines) // columns)
    thin = 0.7 if lines > 2 else 1.0
    figure = empty_figure(lines * (len(regions) * _LINE * thin + _HEAD) + 0.35)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True)
    limits = span([row[end + _VALUE] for row in rows for end in ("low_", "", "high_")])
    for axes in panels.flat[len(machines) :]:
        axes.set_axis_off()
    for number, machine in enumerate(machines):
        axes = panels.flat[number]
        _draw_machine(axes, [(i, row) for i, row in enumerate(rows) if machine_label(row) == machine], regions, schemes)
        log_frame(axes, limits, None)
        axes.set_yticks(range(len(regions)), regions if number % columns == 0 else [""] * len(regions))
        asked = {row["region"] for row in rows if row["asked"] == "yes"}
        for label, region in zip(axes.get_yticklabels(), regions, strict=True):
            label.set_fontweight("bold" if region in asked else "normal")
        axes.set_ylim(len(regions) - 0.5, -0.5)
        axes.set_title(literal(broken(machine, 80 // columns)), fontsize=SMALL, loc="left", fontweight="bold")
        if number + columns >= len(machines):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("kg CO2e per million new tokens", fontsize=SMALL)
    draw_scheme_key(figure, schemes, title="lines: ranges of the energy and of the grid")
    return figure


def _draw_machine(axes: Any, rows: list[tuple[int, Mapping[str, Any]]], regions: list[str], schemes: list[str]) -> None:
    for index, row in rows:
        number = schemes.index(row["scheme"])
        place = regions.index(row["region"]) + (number - (len(schemes) - 1) / 2) * 0.5 / len(schemes)
        ends = [row[end + _VALUE] for end in ("low_", "high_")]
        axes.plot(ends, [place, place], color=scheme_style(number)[0], linewidth=0.9, alpha=0.7, zorder=2)
        draw_mark(axes, row[_VALUE], place, number, f"v{index}", size=4.5)


def _hover(row: Mapping[str, Any]) -> str:
    low, mid, high = (row[end + _VALUE] * 1e3 for end in ("low_", "", "high_"))
    return f"{row['region']}, {system_label(row)}: {with_range(mid, low, high, 'g')} CO2e a million new tokens"


COST_REGIONS = Figure("cost-regions", "Carbon of a million new tokens, by the region of the grid", _rows, _draw, _hover)
