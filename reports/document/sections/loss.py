"""The sections on the loss that training leads to, and on what the training costs."""

from bitsim.energy_tables import BitsimError, load_hardware
from bitsim.energy_tables.units import format_count
from bitsim.simulator.estimate import DEFAULT_HARDWARE
from bitsim.simulator.scheme_law import SchemeLaw, comparison_notes, scheme_laws
from bitsim.simulator.training_cost import TRAINING_BYTES, TrainingCost, training_cost

from ..parts import Cell, Number, Section, Table
from . import cells
from .case import Case, unique


def loss(case: Case) -> Section | str:
    """Return the laws and what they predict; a line that says why where no scheme has a law."""
    known = [each for each in case.first if each.loss is not None]
    if not known:
        return f"Loss: no law is known of {', '.join(each.scheme.name for each in case.first)}; give one with --law."
    rows: list[list[Cell]] = []
    for each in case.first:
        found = each.loss
        if found is None:
            rows.append([each.scheme.name, "no law", "", "", ""])
            continue
        middle = Number(found.value, f"{found.value:.3f}")
        limits = Number(found.low, f"{found.low:.3f} – {found.high:.3f}")
        rows.append([each.scheme.name, found.law, middle, limits, _against(case, each.scheme.name, found.value)])
    tables = [
        cells.table(
            ("scheme", "law", "loss, nats per token", "range", f"against {case.first[0].scheme.name}"),
            rows,
            f"Loss of {format_count(case.question.spec.parameters)} parameters after {format_count(case.tokens)} "
            "tokens.",
        )
    ]
    equal = _equal_sizes(case)
    if equal is not None:
        tables.append(equal)
    asked = "" if case.question.tokens else ", 20 per parameter, since no --tokens were given"
    text = (
        f"The loss is that of a model trained on {format_count(case.tokens)} tokens{asked}. It is what laws fitted to "
        "smaller runs say; lower is better, and losses compare only where laws were fitted on the same data.",
    )
    runs = ", and the runs." if case.question.runs else "."
    figures, missing = case.draw(
        (
            "loss-law",
            f"Loss over size by each law, with bands and the prediction{runs}",
            "Loss over the number of parameters for every scheme, with the range of each law and the model asked "
            "about.",
        )
    )
    notes = [note + "." for each in known if each.loss for note in each.loss.notes]
    said = unique([*notes, *_basis(case), *missing])
    return Section("loss", "Quality: the loss after training", text, tuple(tables), figures, said)


def _against(case: Case, scheme: str, value: float) -> Cell:
    base = case.first[0].loss
    if base is None or not compare(case, scheme, case.first[0].scheme.name):
        return ""
    return Number(value - base.value, f"{value - base.value:+.3f}")


def compare(case: Case, *schemes: str) -> bool:
    """Tell whether losses of schemes compare: those of laws of sizes alone, fitted on data of their own, do not."""
    laws = _laws(case)
    return all(scheme in laws for scheme in schemes)


def _laws(case: Case) -> dict[str, SchemeLaw]:
    from ...chosen_laws import choose_laws

    schemes = [each.scheme.name for each in case.first if each.loss is not None]
    laws = choose_laws(case.question.laws, schemes).laws if case.question.laws else None
    found: dict[str, SchemeLaw] = {}
    for scheme in schemes:
        try:
            own = None if laws is None else {kind: law for kind, law in laws.items() if kind in (scheme, "fp16")}
            found[scheme] = scheme_laws((scheme,), own)[scheme]
        except BitsimError:
            continue  # its published law knows sizes alone: there is nothing to compare
    return found


def _basis(case: Case) -> list[str]:
    return [note + "." for note in comparison_notes(_laws(case))]


def _equal_sizes(case: Case) -> Table | None:
    """Tell which FP16 size each low-bit scheme equals, where a law by twins says so."""
    rows: list[list[Cell]] = []
    size = case.question.spec.parameters
    for scheme, law in _laws(case).items():
        if law.twins is not None:
            equal = law.equal_size(size)
            rows.append([scheme, cells.short_count(size), cells.short_count(equal), cells.ratio(size / equal)])
    if not rows:
        return None
    columns = ("scheme", "its size", "FP16 size of the same loss", "size over FP16's")
    return cells.table(columns, rows, "Which FP16 model has the same loss.")


def training(case: Case) -> Section | str:
    """Return the cost of the training run on the first machine that trains, or why there is none."""
    schemes = [each.scheme.name for each in case.first if each.scheme.name in TRAINING_BYTES]
    if not schemes:
        return f"Training cost: known for {' and '.join(TRAINING_BYTES)}, of which none was asked."
    runs = _runs(case)
    machine = runs[0].hardware
    named = [load_hardware(name).name for name in case.question.machines]
    why = ", since no GPU is among the machines asked about" if named and machine.name not in named else ""
    text = (
        f"Training on {format_count(case.tokens)} tokens with {machine.title}{why}: 6 operations for each parameter "
        "that a token passes through and each token. Ternary training computes in 16 bits on quantised values: it "
        "costs more than FP16's; what is saved is saved when the model runs.",
    )
    caption = f"One training run, on as many {machine.name} as hold its state."
    return Section("training-cost", "Training cost", text, (_training_table(runs, caption),))


def _runs(case: Case) -> list[TrainingCost]:
    """Return the training in each scheme that is known, on the first GPU of the machines or else the papers'."""
    schemes = [each.scheme.name for each in case.first if each.scheme.name in TRAINING_BYTES]
    profiles = [load_hardware(name) for name in case.question.machines]
    machine = next((profile for profile in profiles if profile.kind == "gpu"), load_hardware(DEFAULT_HARDWARE))
    return [
        training_cost(case.question.spec, case.tokens, scheme, machine, region=case.question.region)
        for scheme in schemes
    ]


def _training_table(runs: list[TrainingCost], caption: str) -> Table:
    lines: list[tuple[str, list[Cell]]] = [
        ("machines", [cells.count(run.devices) for run in runs]),
        ("compute, FLOP", [Number(run.flops, f"{run.flops:.3g}") for run in runs]),
        ("training state", [cells.si(run.state_bytes, "B") for run in runs]),
        ("time on all machines", [cells.duration(run.wall_s.mid) for run in runs]),
        ("    range", [cells.span(*map(cells.duration, (run.wall_s.low, run.wall_s.high))) for run in runs]),
        ("energy", [cells.kwh(run.energy_j.mid) for run in runs]),
        ("    range", [cells.span(*map(cells.kwh, (run.energy_j.low, run.energy_j.high))) for run in runs]),
    ]
    if all(run.usd is not None for run in runs):
        rents = [run.usd for run in runs if run.usd is not None]
        lines.append(("rent", [cells.dollars(usd.mid) for usd in rents]))
        lines.append(("    range", [cells.span(*map(cells.dollars, (usd.low, usd.high))) for usd in rents]))
    lines.append(("CO2e", [cells.grams(run.kg_co2e.mid) for run in runs]))
    lines.append(("    range", [cells.span(*map(cells.grams, (run.kg_co2e.low, run.kg_co2e.high))) for run in runs]))
    return cells.table(("what", *(run.scheme for run in runs)), [[name, *row] for name, row in lines], caption)


def sources(case: Case) -> list[str]:
    """Return the keys of the sources of laws and of the training's cost."""
    keys = [key for law in _laws(case).values() for key in law.sources]
    found = _runs(case)
    return keys + [key for run in found for key in run.sources]
