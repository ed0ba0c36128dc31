"""The sections on time, on memory, and on both over sizes."""

from collections.abc import Sequence

from bitsim.simulator import Estimate, estimate, spec_for_size

from ..parts import Cell, Number, Section, Table
from . import cells
from .case import Case, load_of, on, unique

_SIZES = ("1B", "3B", "7B", "13B", "30B", "70B", "100B")


def latency(case: Case) -> Section:
    """Return the time of a prompt and of a new token, and what binds it."""
    rows: list[list[Cell]] = []
    for group in case.machines:
        for index, each in enumerate(group):
            speeds = [cells.speed(value) for value in each.tokens_per_s]
            reads = bool(each.workload.prompt_tokens)
            rows.append(
                [
                    on(each) if index == 0 else "",
                    each.scheme.name,
                    cells.si(each.prefill_s.mid, "s") if reads else "",
                    each.bound["prefill"] if reads else "",
                    cells.si(each.per_new_token_s.mid, "s"),
                    each.bound["decode"],
                    speeds[1],
                    cells.span(speeds[0], speeds[2]),
                    cells.si(each.traffic_bytes["per_step"], "B"),
                ]
            )
    columns = (
        "machine",
        "scheme",
        "first token",
        "bound by",
        "a new token",
        "bound by",
        "tokens",
        "range",
        "DRAM a step",
    )
    text = (
        "A new token needs every weight once, so its time is mostly that of reading them from memory; a prompt uses "
        "each weight for all of its tokens, so its time is mostly that of arithmetic. On the roofline a dot is an "
        "operation: under the slope memory binds it, under the flat roof arithmetic.",
    )
    drawings, missing = case.draw(
        (
            "roofline",
            f"The roofs of {case.where} and the model's operations on them.",
            "Operations of prompt and new tokens by products per byte and products per second, under the machine's "
            "roofs.",
        ),
        (
            "latency-parts",
            "Time of a prompt and of a new token by operation.",
            "Bars of the time of a prompt and of a new token by operation, for every scheme.",
        ),
    )
    tables = (cells.table(columns, rows, f"Time for {load_of(case.question)}."), _operations(case.first))
    return Section("latency", "Time, and what binds it", text, tables, drawings, _engines(case) + missing)


def _engines(case: Case) -> tuple[str, ...]:
    return unique(
        [f"{on(each)}, {each.scheme.name}: software {each.engine.name}, {each.engine.note}." for each in case.estimates]
    )


def _operations(estimates: Sequence[Estimate]) -> Table:
    """Tell the time of each operation, of prompt and of a decode step."""
    by_scheme = [{(row.phase, row.operation): row for row in each.operations} for each in estimates]
    rows: list[list[Cell]] = []
    for phase, name in by_scheme[0]:
        found = [operations[phase, name] for operations in by_scheme]
        if any(row.latency_s > 0 for row in found):
            times: list[Cell] = [cell for row in found for cell in (cells.si(row.latency_s, "s"), row.bound)]
            rows.append(["prompt" if phase == "prefill" else "new token", name, *times])
    columns = [text for each in estimates for text in (each.scheme.name, "bound by")]
    step = "a step makes a token of each sequence" if estimates[0].workload.batch > 1 else "one new token"
    return cells.table(("phase", "operation", *columns), rows, f"Time by operation on {on(estimates[0])}; {step}.")


def memory(case: Case) -> Section:
    """Return main memory by part, and against the context."""
    rows: list[list[Cell]] = []
    for group in case.machines:
        for index, each in enumerate(group):
            room = each.dram_bytes
            parts = (room.weights, room.embedding_and_head, room.kv_cache, room.activations + room.runtime, room.total)
            rows.append(
                [
                    on(each) if index == 0 else "",
                    each.scheme.name,
                    *(cells.si(value, "B") for value in parts),
                    cells.si(each.capacity_bytes, "B") if index == 0 else "",
                    "yes" if each.fits else "no",
                    cells.count(each.largest_context),
                ]
            )
    columns = (
        "machine", "scheme", "layers", "embedding, head", "KV cache", "activations, run time", "all", "machine has",
        "fits", "longest context",
    )  # fmt: skip
    text = (
        "Ternary packs the layers' weights; embedding and head stay in 16 bits, and so does the KV cache, which "
        "grows with context and batch and in long contexts is what fills the memory.",
    )
    drawings, missing = case.draw(
        ("memory-parts", "Main memory by part.", "Bars of main memory by part, for every scheme and machine."),
        (
            "memory-context",
            "Main memory against the length of the context; the line is what the machine has.",
            "Main memory over the length of the context for every scheme, and the machine's capacity.",
        ),
    )
    tables = (cells.table(columns, rows, f"Main memory for {load_of(case.question)}."),)
    return Section("memory", "Memory", text, tables, drawings, missing)


def sizes(case: Case) -> Section:
    """Return speed and joules per token of models of 1B to 100B on the first machine."""
    first, work = case.first[0], case.question.workload
    rows: list[list[Cell]] = []
    for size in _SIZES:
        spec = spec_for_size(size)
        found = [
            estimate(
                spec,
                each.scheme,
                each.hardware if case.question.machines else None,
                batch=work.batch,
                prompt_tokens=work.prompt_tokens,
                new_tokens=work.new_tokens,
                context=work.context,
            )
            for each in case.first
        ]
        speeds: list[Cell] = [_if_fits(each, cells.speed(each.tokens_per_s.mid)) for each in found]
        joules: list[Cell] = [_if_fits(each, cells.si(each.token_energy_j["total"].mid, "J")) for each in found]
        rows.append([cells.short_count(spec.parameters), cells.count(found[0].devices), *speeds, *joules])
    names = [each.scheme.name for each in case.first]
    columns = ("size", "machines", *(f"{name}, tokens" for name in names), *(f"{name}, a token" for name in names))
    devices = "one machine" if case.question.machines else "as many machines as FP16 needs"
    text = (
        f"LLaMA shapes of each size, {load_of(case.question)}, on {devices} of {first.hardware.title}. A dash: does "
        "not fit.",
    )
    drawings, missing = case.draw(
        (
            "sizes",
            "Tokens a second and joules a token over sizes, on "
            f"{first.hardware.name if len(case.machines) == 1 else case.where}.",
            "Tokens per second and joules per token of models of 1B to 100B parameters, for every scheme.",
        )
    )
    tables = (cells.table(columns, rows, "Over sizes."),)
    return Section("sizes", "Speed and energy over sizes", text, tables, drawings, missing)


def _if_fits(each: Estimate, cell: Number) -> Cell:
    return cell if each.fits else "–"
