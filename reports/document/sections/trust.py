"""The sections that say how far the numbers can be trusted: errors, assumptions, ranges."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables.units import format_si
from bitsim.simulator import Estimate

from ..parts import Cell, Number, Section, Table
from . import cells
from .case import Case, drawing, on, unique

_UNITS = (
    ("_bytes_per_s", "B/s"), ("_flops_per_s", "FLOP/s"), ("_ops_per_s", "OP/s"), ("_bytes", "B"), ("_w", "W"),
)  # fmt: skip
_RESTS = {
    "arithmetic": "arithmetic", "dram": "DRAM", "on_chip": "on-chip memory", "link": "links",
    "static": "power over time",
    "total": "energy in all", "latency": "time of a new token", "prefill": "time of a prompt", "hardware_usd": "rent",
}  # fmt: skip


def accuracy(case: Case) -> Section:
    """Return the errors of `bitsim validate`, from the numbers of the figure."""
    figure = drawing(
        case.question,
        "validation",
        "Predicted against published, by kind of number.",
        "Predictions over published numbers by kind of number, with the line of equality.",
    )
    checks = figure.rows
    rows: list[list[Cell]] = []
    for group in dict.fromkeys(check["group"] for check in checks):
        for fitted in ("no", "yes"):
            members = [check for check in checks if check["group"] == group and check["seen_by_the_fit"] == fitted]
            if members:
                rows.append(_errors(str(group), fitted, members))
    unseen = sum(check["seen_by_the_fit"] == "no" for check in checks)
    text = (
        f"Every published number that the model covers, {len(checks):,} of them, recomputed by bitsim validate. Those "
        f"that the software's efficiency was fitted to are told apart from the {unseen:,} that it has not seen. Agree: "
        "equal to all published digits, a memory total within 5 %, an energy inside our range; of those so judged.",
    )
    columns = ("what", "seen by the fit", "numbers", "mean error", "largest", "agree")
    tables = (cells.table(columns, rows, "Errors by kind of number."),)
    return Section("accuracy", "Accuracy", text, tables, (figure,))


def _errors(group: str, fitted: str, members: Sequence[Mapping[str, Any]]) -> list[Cell]:
    errors = [abs(check["predicted_over_published"] - 1.0) for check in members]
    mean, largest = sum(errors) / len(errors), max(errors)
    judged = [check["agrees"] == "yes" for check in members if check["agrees"] is not None]
    return [
        group,
        fitted,
        cells.count(len(members)),
        Number(mean, f"{mean:.1%}"),
        Number(largest, f"{largest:.1%}"),
        Number(sum(judged) / len(judged), f"{sum(judged)} of {len(judged)}") if judged else "",
    ]


def assumptions(case: Case) -> Section:
    """Return what is assumed, left out, and the ranges of what the first machine is."""
    first = case.first[0]
    others = [on(group[0]) for group in case.machines[1:]]
    text = (
        "Ranges are low, middle and high of what they follow from, taken all at the low or all at the high end. What "
        "rests on an assumption is called so, however good the rest: the weakest input counts.",
        "Left out: cooling and the rest of the server where the model runs, loading the model, and idle time between "
        "requests.",
    )
    notes = _notes(case)
    if others:
        notes.append(f"The values of {', '.join(others)} are printed by bitsim hardware show.")
    return Section("assumptions", "Assumptions and ranges", text, (_rests(case), _machine(first)), (), unique(notes))


def _notes(case: Case) -> list[str]:
    """Return what must be known of the estimates, each note once, with whom it is about."""
    about: dict[str, list[Estimate]] = {}
    for each in case.estimates:
        for note in each.notes:
            about.setdefault(note, []).append(each)
    found = []
    for note, ones in about.items():
        schemes = ", ".join(dict.fromkeys(one.scheme.name for one in ones))
        machines = list(dict.fromkeys(on(one) for one in ones))
        where = "" if len(machines) == len(case.machines) else f" on {', '.join(machines)}"
        found.append(f"{schemes}{where}: {note}.")
    return found


def _rests(case: Case) -> Table:
    rows = []
    for key, name in _RESTS.items():
        labels = [each.labels.get(key, "") for each in case.first]
        if any(labels):
            rows.append([name, *labels])
    names = [each.scheme.name for each in case.first]
    return cells.table(("number", *names), rows, f"What the numbers of {on(case.first[0])} rest on.")


def _machine(each: Estimate) -> Table:
    """Tell the values of a machine with their ranges and sources."""
    rows: list[list[Cell]] = []
    for name, quantity in each.hardware.quantities.items():
        suffix, unit = next(((end, unit) for end, unit in _UNITS if name.endswith(end)), ("", ""))
        what = name.removesuffix(suffix).replace("_", " ")
        low, mid, high = (_shown(value, unit) for value in quantity.value)
        source = ", ".join(quantity.provenance.sources)
        rows.append([what, mid, cells.span(low, high), source, quantity.provenance.status])
    columns = ("value", "middle", "range", "source", "how it was seen")
    return cells.table(columns, rows, f"What {each.hardware.title} is taken to be.")


def _shown(value: float, unit: str) -> Number:
    return Number(value, format_si(value, unit) if unit else f"{value:,.4g}")


def sources(sections: Sequence[Section]) -> list[str]:
    """Return the keys of the sources of the published numbers that a report compares with."""
    rows = [row for section in sections if section.key == "accuracy" for each in section.drawings for row in each.rows]
    return [key for row in rows for key in str(row["source"]).split()]
