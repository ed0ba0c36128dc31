"""Energy of one pass over the prompt at 45 and 7 nm: what the BitNet papers count, and then everything else, in steps.

Each step adds to the one before: the linear layers as the papers count them (Figure 3 of 2402.17764), the papers'
attention, then the same work with sums as wide as exact ones need, all other arithmetic, memory, and power over time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables import Interval, energy_table
from bitsim.energy_tables.units import format_ratio
from bitsim.simulator import Estimate
from bitsim.simulator.paper_energy import paper_energy

from ..document.question import Question
from ..plot_style import SMALL, empty_figure, literal
from .asked import estimate_of, machine_label, machines_of, system_columns
from .figure import Figure, Row, Rows
from .lines import draw_mark, log_frame, scheme_style, span, unit_ticks
from .text import cut, with_range

_TOKENS = 512  # of the papers' pass, where the workload has no prompt
_LINE, _HEAD = 0.165, 0.21  # inches: a scheme; what a count is called
_MEMORY = ("dram", "on_chip", "link")
_ARITHMETIC = ("arithmetic_linear", "arithmetic_attention", "arithmetic_other")


def _rows(question: Question) -> list[Row]:
    tokens = question.workload.prompt_tokens or _TOKENS
    machine = machines_of(question)[0]
    rows: list[Row] = []
    for node in energy_table().nodes:
        firsts: dict[str, float] = {}
        for scheme in dict.fromkeys(question.schemes):
            estimate = estimate_of(
                question, scheme, machine, node=node, batch=1, prompt_tokens=tokens, new_tokens=0, context=None
            )
            for count, energy in _counts(estimate, tokens).items():
                first = firsts.setdefault(count, energy.mid)
                rows.append(_row(estimate, count, energy, first))
    return rows


def _row(estimate: Estimate, count: str, energy: Interval, first: float) -> Row:
    return system_columns(estimate) | {
        "node": estimate.node,
        "tokens": estimate.workload.prompt_tokens,
        "counted": count,
        "energy_j": energy.mid,
        "low_j": energy.low,
        "high_j": energy.high,
        "first_scheme_over_this": first / energy.mid,
    }


def _counts(estimate: Estimate, tokens: int) -> dict[str, Interval]:
    paper = paper_energy(estimate.model, estimate.scheme, estimate.table, estimate.node, tokens)

    def parts(*names: str) -> Interval:
        return sum((estimate.energy_j[name] for name in names), start=Interval.exact(0.0))

    return {
        "linear layers, as the papers count": Interval.exact(paper.linear_j),
        "with attention: the papers' end-to-end": Interval.exact(paper.total_j),
        "linear layers, with sums of full width": parts("arithmetic_linear"),
        "all arithmetic": parts(*_ARITHMETIC),
        "with memory and links": parts(*_ARITHMETIC, *_MEMORY),
        "with power over time: in full": estimate.energy_j["total"],
    }


def _draw(rows: Rows) -> Any:
    nodes = list(dict.fromkeys(row["node"] for row in rows))
    counts = list(dict.fromkeys(row["counted"] for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    height = len(counts) * (_HEAD + len(schemes) * _LINE)
    figure = empty_figure(height + 1.05)
    ends = span([row[name] for row in rows for name in ("low_j", "energy_j", "high_j")])
    for number, node in enumerate(nodes):
        axes = figure.add_subplot(1, len(nodes), number + 1)
        own = [(index, row) for index, row in enumerate(rows) if row["node"] == node]
        log_frame(axes, ends, None, most=(5, 0))
        unit_ticks(axes.xaxis, "J")
        places = _draw_node(axes, own, counts, schemes, heads=number == 0)
        axes.set_ylim(height, 0.0)
        axes.set_yticks(places, [literal(scheme) for scheme in schemes] * len(counts) if number == 0 else [])
        axes.tick_params(axis="y", length=0)
        axes.set_title(_node(node), fontsize=SMALL + 1, loc="left")
        axes.set_xlabel(f"energy of a pass over {rows[0]['tokens']:,} tokens", fontsize=SMALL)
    ratio = f"at the right of each scheme: {schemes[0]} over it; " if len(schemes) > 1 else ""
    figure.suptitle(
        literal(f"{ratio}memory and power of\n{cut(machine_label(rows[0]), 80)}"), fontsize=SMALL, x=0.01, ha="left"
    )
    return figure


def _draw_node(
    axes: Any, rows: Sequence[tuple[int, Mapping[str, Any]]], counts: list[str], schemes: list[str], heads: bool
) -> list[float]:
    """Draw a node, and return where each scheme of each count is."""
    at, places = 0.0, []
    for count in counts:
        if heads:
            axes.annotate(
                count, (0.0, at + _HEAD * 0.55), xycoords=("axes fraction", "data"), fontsize=SMALL, va="center",
                xytext=(3, 0), textcoords="offset points", fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        at += _HEAD
        for number, scheme in enumerate(schemes):
            found = [(index, row) for index, row in rows if (row["counted"], row["scheme"]) == (count, scheme)]
            places.append(at + _LINE / 2)
            for index, row in found:
                _draw_row(axes, index, row, number, places[-1])
            at += _LINE
    return places


def _draw_row(axes: Any, index: int, row: Mapping[str, Any], number: int, place: float) -> None:
    axes.plot([row["low_j"], row["high_j"]], [place, place], color=scheme_style(number)[0], linewidth=1.2, alpha=0.7)
    draw_mark(axes, row["energy_j"], place, number, f"v{index}")
    if number > 0:
        axes.annotate(
            format_ratio(row["first_scheme_over_this"]), (1.0, place), xycoords=("axes fraction", "data"),
            fontsize=SMALL, va="center", xytext=(3, 0), textcoords="offset points", annotation_clip=False,
        )  # fmt: skip


def _node(node: str) -> str:
    return node.replace("nm", " nm")


def _hover(row: Mapping[str, Any]) -> str:
    energy = with_range(row["energy_j"], row["low_j"], row["high_j"], "J")
    return f"{row['scheme']} at {_node(row['node'])}, {row['counted']}: {energy}"


ENERGY_NODES = Figure(
    "energy-nodes", "Energy of a pass at 45 and 7 nm, as the papers count and in full", _rows, _draw, _hover
)
