"""The section on energy: by component, by operation, at 45 and 7 nm, in the paper's sense and in full."""

from collections.abc import Sequence

from bitsim.simulator import Estimate, estimate
from bitsim.simulator.paper_energy import paper_energy

from ...estimate_json import arithmetic
from ...headline import PAPER_TOKENS
from ..parts import Cell, Section, Table
from . import cells
from .case import Case, on

_PARTS = {
    "arithmetic_linear": "layers",
    "arithmetic_attention": "attention",
    "arithmetic_other": "head, norms",
    "dram": "DRAM",
    "on_chip": "on-chip",
    "link": "links",
    "static": "power over time",
}
_FEW = 2  # schemes whose operations a table holds by component


def section(case: Case) -> Section:
    """Return what a new token, and its parts, cost in joules."""
    first = case.first[0]
    wanted = [
        (
            "energy-nodes",
            "Energy of a pass over the prompt at 45 and 7 nm, from what the papers count to everything.",
            "Energy of a pass at two process nodes by what is counted, for every scheme.",
        )
    ]
    if len(case.machines) > 1:
        about = "Bars of the energy of a new token by part, for every scheme on every machine."
        wanted.insert(0, ("energy-parts", "Energy of a new token by part, machine by machine.", about))
    drawings, missing = case.draw(*wanted)
    text = (
        "Energy has three origins: arithmetic (an addition for a ternary weight, a multiplication and an addition "
        "for an FP16 one), bytes that move through memory, and the power that the machine draws as long as it runs. "
        "Only the first shrinks by the papers' headline; the second shrinks with the bytes, the third with the time.",
        f"The BitNet papers count the arithmetic of one pass over {PAPER_TOKENS} tokens, with attention in FP16, and "
        "no memory (their equations 16 to 18). In full, sums are kept in 32 bits where the scheme says so, the "
        "output head, norms and rescaling are counted, and so are memory and power.",
    )
    tables = (_components(case), _nodes(case.first), _operations(case.first))
    rests = f"What the numbers of {on(first)} rest on: " + ", ".join(
        f"{name.replace('_', '-')} {first.labels[name]}"
        for name in ("arithmetic", "dram", "on_chip", "static", "total")
        if name in first.labels
    )
    return Section("energy", "Energy", text, tables, drawings, (f"{rests}.", *missing))


def _components(case: Case) -> Table:
    columns = ("machine", "scheme", *_PARTS.values(), "new token", "range")
    rows: list[list[Cell]] = []
    for group in case.machines:
        for index, each in enumerate(group):
            energy = each.token_energy_j
            parts = [cells.si(energy[name].mid, "J") for name in _PARTS]
            total = energy["total"]
            where = on(each) if index == 0 else ""
            rows.append([where, each.scheme.name, *parts, cells.si(total.mid, "J"), cells.si_span(total, "J")])
    keep = [index for index in range(len(columns)) if _has_something(rows, index)]
    return cells.table(
        [columns[index] for index in keep],
        [[row[index] for index in keep] for row in rows],
        "Energy of a new token by component.",
    )


def _has_something(rows: Sequence[Sequence[Cell]], index: int) -> bool:
    return any(isinstance(row[index], str) or row[index].value != 0 for row in rows)  # type: ignore[union-attr]


def _nodes(estimates: Sequence[Estimate]) -> Table:
    """Tell the energies at each node, as the papers count and in full, on one machine."""
    first = estimates[0]
    base = first.scheme.name
    rows: list[list[Cell]] = []
    for node in reversed(first.table.nodes[:]):
        papers = [paper_energy(e.model, e.scheme, e.table, node, PAPER_TOKENS).total_j for e in estimates]
        rows.append([node, f"the papers' pass over {PAPER_TOKENS} tokens", *_with_ratios(papers)])
        there = [_at_node(e, node) for e in estimates]
        linear = [e.energy_j["arithmetic_linear"].mid for e in there]
        rows.append([node, "this workload: the layers' products", *_with_ratios(linear)])
        rows.append([node, "this workload: all arithmetic", *_with_ratios([arithmetic(e).mid for e in there])])
        rows.append([node, "this workload: everything", *_with_ratios([e.energy_j["total"].mid for e in there])])
    names = [each.scheme.name for each in estimates]
    columns = ("node", "what is counted", *names, *(f"{base} / {name}" for name in names[1:]))
    return cells.table(columns, rows, f"Energy at both process nodes, on {on(first)}.")


def _at_node(each: Estimate, node: str) -> Estimate:
    work = each.workload
    return estimate(
        each.model,
        each.scheme,
        each.hardware,
        engine=each.engine,
        node=node,
        batch=work.batch,
        prompt_tokens=work.prompt_tokens,
        new_tokens=work.new_tokens,
        context=work.context,
        devices=each.devices,
        split=each.split,
    )


def _with_ratios(joules: Sequence[float]) -> list[Cell]:
    ratios: list[Cell] = [cells.ratio(joules[0] / other) if other else "" for other in joules[1:]]
    return [*(cells.si(value, "J") for value in joules), *ratios]


def _operations(estimates: Sequence[Estimate]) -> Table:
    """Tell the energy of one decode step by operation; by component too where there are few schemes."""
    parts = {"arithmetic": "arithmetic_j", "DRAM": "dram_j", "on-chip": "on_chip_j"}
    by_scheme = [{row.operation: row for row in each.operations if row.phase == "decode"} for each in estimates]
    rows: list[list[Cell]] = []
    for name in by_scheme[0]:
        found = [operations[name] for operations in by_scheme]
        if not any(row.arithmetic_j + row.dram_j + row.on_chip_j for row in found):
            continue
        if len(estimates) <= _FEW:
            rows.append([name, *(cells.si(getattr(row, key), "J") for row in found for key in parts.values())])
        else:
            rows.append([name, *(cells.si(row.arithmetic_j + row.dram_j + row.on_chip_j, "J") for row in found)])
    names = [each.scheme.name for each in estimates]
    columns = [f"{name} {part}" for name in names for part in parts] if len(estimates) <= _FEW else names
    batch = estimates[0].workload.batch
    step = "a new token" if batch == 1 else f"a step of {batch:,} new tokens"
    caption = f"Energy of {step} by operation, on {on(estimates[0])}, without power over time."
    return cells.table(("operation", *columns), rows, caption)


def sources(case: Case) -> list[str]:
    """Return the keys of the sources of the energies of arithmetic, at every node."""
    return [key for energy in case.first[0].table.operations.values() for key in energy.provenance.sources]
