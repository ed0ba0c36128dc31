"""The first page: what is ternary worth for this model on this machine, in five numbers."""

from collections.abc import Callable
from dataclasses import replace

from bitsim.energy_tables import Interval
from bitsim.energy_tables.units import format_count, format_ratio, format_si
from bitsim.simulator import Estimate

from ...estimate_json import arithmetic
from ...headline import shrinkage
from ..parts import Drawing, Headline, Number, Section
from . import cells
from .case import TERNARY, Case, called, drawing, is_size, load_of, named, on, title_on
from .loss import compare

_EQUAL = 5e-3  # relative difference below which two numbers are called equal
_RENT, _CARBON = "hardware_usd_per_million_tokens", "kg_co2e_per_million_tokens"


def title(case: Case) -> str:
    """Return the question as a title."""
    if case.pair is None:
        return f"What {called(case.question)} costs in {case.first[0].scheme.name}"
    worth = "ternary" if case.pair[1].scheme.name == TERNARY else case.pair[1].scheme.name
    return f"What is {worth} worth for {called(case.question)}?"


def subtitle(case: Case) -> str:
    """Return model, machine and workload in a line."""
    more = len(case.machines) - 1
    others = f" and {more} other machine{'s' if more > 1 else ''}" if more else ""
    return f"{_begun(case)} on {title_on(case.first[0])}{others}; {load_of(case.question)}"


def _begun(case: Case) -> str:
    """Name the model at the beginning of a sentence."""
    model = named(case.question)
    return f"{model[0].upper()}{model[1:]}" if is_size(case.question) else model


def headline(case: Case) -> tuple[Headline, ...]:
    """Return five numbers with their ranges: memory, speed, energy, money or carbon, and loss or time."""
    base, other = case.pair or (case.first[0], None)
    found = [_memory(base, other), _speed(base, other), _energy(base, other), _money(base, other)]
    return (*found, _loss(case, base, other) or _first_token(base, other))


def lead(case: Case) -> Drawing:
    """Return the one figure of the page: where the energy of a new token goes, on the first machine."""
    one = replace(case.question, machines=case.question.machines[:1])
    parts = ", ".join(f"{e.scheme.name} {format_si(e.token_energy_j['total'].mid, 'J')}" for e in case.first)
    return drawing(
        one,
        "energy-parts",
        f"Where the energy of a new token goes, on {on(case.first[0])}: {parts}.",
        f"Bars of the energy of a new token by part on {title_on(case.first[0])}: {parts}.",
    )


def section(case: Case) -> Section:
    """Return the words and the table below the five numbers."""
    tables, text = [], [_answer(case)]
    steps = shrinkage(case.first)
    if steps:
        first, last = steps[0][0], steps[-1][0]
        text.append(
            f"How far the papers' headline shrinks: of the {format_ratio(first)} that an FP16 product costs over a "
            f"ternary one, {format_ratio(last)} is left for a new token here. The headline counts an 8-bit addition "
            "against a 16-bit multiplication and addition, and nothing else; memory, attention, the output head and "
            "the power that a machine draws over time do not shrink as much, or not at all."
        )
        rows = [(cells.ratio(value), what) for value, what in steps]
        tables.append(cells.table(("FP16 over ternary", "what is counted"), rows, "What is left of the headline."))
    notes = [] if case.pair is None else [_about_ranges(case)]
    return Section("question", "The question", tuple(text), tuple(tables), (), tuple(notes))


def _answer(case: Case) -> str:
    first = case.first[0]
    machine = title_on(first)
    if case.pair is None:
        fits = "fits" if first.fits else "does not fit"
        return f"{_begun(case)} in {first.scheme.title} {fits} {machine}; no other scheme was asked about."
    base, other = case.pair
    faster = other.tokens_per_s.mid / base.tokens_per_s.mid
    saved = base.token_energy_j["total"].mid / other.token_energy_j["total"].mid
    memory = base.dram_bytes.total / other.dram_bytes.total
    mind = [f"{e.scheme.name} does not fit (its speed is as if it did)" for e in (base, other) if not e.fits]
    why = (
        "" if case.question.machines else f", as many as {base.scheme.name.upper()} needs" if first.devices > 1 else ""
    )
    return (
        f"On {machine}{why}, {other.scheme.title} in place of {base.scheme.title} takes "
        f"{_times(memory, 'less', 'more')} memory, makes {_times(faster, 'more', 'fewer')} tokens a second and takes "
        f"{_times(saved, 'less', 'more')} energy a "
        f"new token. It holds for {load_of(case.question)}." + "".join(f" Mind: {text}." for text in mind)
    )


def _times(value: float, above: str, below: str) -> str:
    if abs(value - 1.0) < _EQUAL:
        return "as much" if above == "less" else "as many"
    return f"{format_ratio(value)} {above}" if value > 1 else f"{format_ratio(1 / value)} {below}"


def _about_ranges(case: Case) -> str:
    assert case.pair is not None
    base, other = (estimate.scheme.name for estimate in case.pair)
    return (
        f"Numbers in parentheses are ranges. That of a ratio of energies or money takes {base} and {other} at the "
        "same end of what is uncertain to both (watts, joules a byte); that of speeds lets each be off on its own."
    )


def _memory(base: Estimate, other: Estimate | None) -> Headline:
    def text(estimate: Estimate) -> str:
        return format_si(estimate.dram_bytes.total, "B")

    room = f"the machine has {format_si(base.capacity_bytes, 'B')}"
    if other is None:
        return Headline("Memory", text(base), f"for weights, context and run time; {room}")
    value = _times(base.dram_bytes.total / other.dram_bytes.total, "less", "more")
    needed = -(-other.dram_bytes.total * other.devices // other.capacity_bytes)
    fewer = f"; {needed:.0f} of the {base.devices} machines would hold it" if needed < base.devices else ""
    return Headline("Memory", value, f"{text(other)} in place of {text(base)}; {room}{fewer}")


def _speed(base: Estimate, other: Estimate | None) -> Headline:
    def text(estimate: Estimate) -> str:
        low, mid, high = (cells.speed(value) for value in estimate.tokens_per_s)
        return cells.with_range(mid, low, high)

    if other is None:
        return Headline("Tokens a second", text(base), f"bound by {base.bound['decode']}")
    found = cells.apart(other.tokens_per_s, base.tokens_per_s)
    why = f"bound by {other.bound['decode']}, {base.scheme.name} by {base.bound['decode']}"
    return Headline("Speed of new tokens", _factor(found, "as fast"), f"{text(other)} in place of {text(base)}; {why}")


def _energy(base: Estimate, other: Estimate | None) -> Headline:
    label = "Energy of a new token"
    joules = [cells.si_range(e.token_energy_j["total"], "J") for e in (base, other) if e]
    if other is None:
        return Headline(label, joules[0], "arithmetic, memory, and the power that the machine draws over time")
    found = cells.together(base.token_energy_j["total"], other.token_energy_j["total"])
    only = arithmetic(base).mid / arithmetic(other).mid
    return Headline(
        label,
        _factor(found, "less"),
        f"{joules[1]} in place of {joules[0]}; arithmetic alone {_times(only, 'less', 'more')}",
    )


def _money(base: Estimate, other: Estimate | None) -> Headline:
    """Rent where the machine has a price, else carbon."""
    key = _RENT if _RENT in base.cost else _CARBON
    show: Callable[[float], Number] = cells.dollars if key == _RENT else cells.grams
    label = "Rent for a million new tokens" if key == _RENT else "CO2e of a million new tokens"

    def text(estimate: Estimate) -> str:
        low, mid, high = (show(value) for value in estimate.cost[key])
        return cells.with_range(mid, low, high)

    if other is None:
        return Headline(label, text(base), "")
    if key == _CARBON:  # the grid is the same for both: only the joules differ
        found = cells.together(base.token_energy_j["total"], other.token_energy_j["total"])
    else:
        found = cells.apart(base.per_new_token_s, other.per_new_token_s)
    return Headline(label, _factor(found, "less"), f"{text(other)} in place of {text(base)}")


def _loss(case: Case, base: Estimate, other: Estimate | None) -> Headline | None:
    label = "Loss after training"
    trained = f"after {format_count(case.tokens)} tokens"
    if base.loss is None or (other is not None and not compare(case, base.scheme.name, other.scheme.name)):
        return None
    texts = [f"{e.loss.value:.3f} ({e.loss.low:.3f} to {e.loss.high:.3f})" for e in (base, other) if e and e.loss]
    if other is None or other.loss is None:
        return Headline(label, texts[0], f"nats per token, {trained}, by {base.loss.law}")
    ours, theirs = (Interval.spanning(loss.low, loss.value, loss.high) for loss in (other.loss, base.loss))
    ends = [one - two for one, two in zip(ours, theirs, strict=True)]
    if case.question.laws:  # fits of their own, which may be off each on its own
        ends = [ours.low - theirs.high, ends[1], ours.high - theirs.low]
    value = f"{ends[1]:+.3f} ({min(ends):+.3f} to {max(ends):+.3f})"
    return Headline(label, value, f"nats per token: {texts[1]} in place of {texts[0]}, {trained}; lower is better")


def _first_token(base: Estimate, other: Estimate | None) -> Headline:
    label = "Time to the first token"
    texts = [cells.si_range(e.prefill_s, "s") for e in (base, other) if e]
    if other is None:
        return Headline(label, texts[0], f"to read the prompt, bound by {base.bound['prefill']}")
    found = cells.apart(base.prefill_s, other.prefill_s)
    return Headline(label, _factor(found, "less"), f"{texts[1]} in place of {texts[0]}")


def _factor(interval: Interval | None, what: str) -> str:
    if interval is None:
        return "no ratio"
    return f"{cells.factor(interval)} {what}"
