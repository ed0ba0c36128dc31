"""The screen of `bitsim estimate`: schemes side by side, ratios, what binds, what is left out, sources at the foot."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitsim.energy_tables import Interval, weakest
from bitsim.energy_tables.units import format_count, format_ratio, format_si
from bitsim.simulator import Estimate, ModelSpec

from .headline import shrinkage

LEFT_OUT = (
    "cooling and the rest of the server, loading the model, idle time between requests, and the quality that each "
    "scheme reaches (see --tokens)"
)
_WORTH_A_LINE = 1e-3  # of the energy
_NAME_WIDTH, _VALUE_WIDTH, _RATIO_WIDTH, _BASIS_WIDTH = 30, 20, 17, 11  # columns, gaps included
_WIDE = 1000


def screen(estimates: Sequence[Estimate], chosen_hardware: bool, width: int = _WIDE) -> Group:
    """Return the whole screen.

    Args:
        estimates: all of one model and workload.
        chosen_hardware: the user named the hardware or how many (else the screen says why it is this).
        width: columns of the terminal; on a narrow one what a number rests on goes first, then the ratios.
    """
    first = estimates[0]
    parts: list[Any] = [_model_line(first.model)]
    for _, group in groupby(estimates, key=lambda estimate: estimate.hardware.name):
        parts += _machine_block(list(group), chosen_hardware, width)
    if first.mode == "full":
        parts.append(_headline(estimates))
        parts.append(_paragraph("Left out", LEFT_OUT + "."))
    parts.append(
        _paragraph(
            "Sources",
            ", ".join(dict.fromkeys(key for e in estimates for key in e.sources)) + "  (bitsim cite KEY)",
        )
    )
    return Group(*parts)


def least_width(estimates: Sequence[Estimate]) -> int:
    """Columns below which values would be cropped."""
    return _NAME_WIDTH + _VALUE_WIDTH * len({estimate.scheme.name for estimate in estimates})


def _model_line(spec: ModelSpec) -> Text:
    experts = f", {spec.experts} experts of which {spec.experts_per_token} a token" if spec.experts > 1 else ""
    width = f"{spec.layers} layers x {spec.hidden:,} wide, {spec.heads} heads, FFN {spec.ffn:,}"
    size = format_count(spec.parameters)
    line = Text(f"{size} parameters" if spec.name == size else f"{spec.name}, {size} parameters", style="bold")
    return line.append(f": {width}, vocabulary {spec.vocab:,}{experts}", style="not bold")


def _machine_block(estimates: list[Estimate], chosen_hardware: bool, width: int) -> list[Any]:
    first = estimates[0]
    devices = f"{first.devices} x " if first.devices > 1 else ""
    why = "" if chosen_hardware else f", as many as FP16 needs ({first.split})" if first.devices > 1 else ", by default"
    header = Text(f"{devices}{first.hardware.title}{why}\n{_load(first)}", style="dim")
    notes = [(f"{e.scheme.name}: {note}") for e in estimates for note in e.notes if note != e.engine.note]
    if first.mode == "paper":
        return [header, _paper_table(estimates, width), *(_paragraph("Note", note) for note in notes)]
    engines = dict.fromkeys(f"{e.scheme.name}: {e.engine.name}, {e.engine.note}" for e in estimates)
    if not chosen_hardware:
        notes += _fewer_devices(estimates)
    parts = [header, _full_table(estimates, width), _paragraph("Engine", "; ".join(engines))]
    laws = dict.fromkeys(f"{e.scheme.name} by {e.loss.law}" for e in estimates if e.loss)
    if laws:
        parts.append(_paragraph("Loss", "; ".join(laws)))
    return parts + [_paragraph("Note", note) for note in notes]


def _load(estimate: Estimate) -> str:
    work = estimate.workload
    batch = f", batch {work.batch:,}" if work.batch > 1 else ""
    if estimate.mode == "paper":
        return f"one pass over {work.prompt_tokens:,} tokens, arithmetic at {estimate.node}, as the BitNet papers count"
    earlier = f" after {work.earlier_tokens:,} earlier ones" if work.earlier_tokens else ""
    return f"{work.prompt_tokens:,} prompt + {work.new_tokens:,} new tokens{earlier}{batch}"


def _fewer_devices(estimates: list[Estimate]) -> list[str]:
    """Name the schemes that would do with fewer devices than FP16."""
    needed = {e.scheme.name: math.ceil(e.dram_bytes.total * e.devices / e.capacity_bytes) for e in estimates}
    return [
        f"{name} alone would fit {count} x {estimates[0].hardware.name}"
        for name, count in needed.items()
        if count < estimates[0].devices
    ]


class _Rows:
    """A table to which lines are added: a name, a value per scheme, the first over each other, what they rest on."""

    def __init__(self, estimates: Sequence[Estimate], width: int) -> None:
        self._estimates = estimates
        values = _NAME_WIDTH + _VALUE_WIDTH * len(estimates)
        with_ratios = values + _RATIO_WIDTH * (len(estimates) - 1)
        self._ratios, self._bases = width >= with_ratios, width >= with_ratios + _BASIS_WIDTH
        self.table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        self.table.add_column("", min_width=_NAME_WIDTH - 3, no_wrap=True)
        for estimate in estimates:
            self.table.add_column(estimate.scheme.name, justify="right", min_width=11, no_wrap=True)
        for estimate in estimates[1:] if self._ratios else ():
            name = f"{estimates[0].scheme.name} / {estimate.scheme.name}"
            self.table.add_column(name, justify="right", style="bold green", no_wrap=True)
        if self._bases:
            self.table.add_column("rests on", style="dim", no_wrap=True)

    def text(self, name: str, value: Callable[[Estimate], str], style: str = "") -> None:
        """Add a line of words."""
        self.table.add_row(Text(name, style=style), *(Text(value(e), style=style) for e in self._estimates))

    def number(
        self,
        name: str,
        value: Callable[[Estimate], float],
        show: Callable[[float], str],
        *,
        basis: str = "",
        inverse: bool = False,
        style: str = "",
    ) -> None:
        """Add a line of numbers; `basis` is the label they carry, `inverse` turns the ratio round (speeds)."""
        values = [value(estimate) for estimate in self._estimates]
        ratios = [self._ratio(values[0], other, inverse) for other in values[1:]] if self._ratios else []
        labels = {estimate.labels[basis] for estimate in self._estimates if basis in estimate.labels}
        bases = [weakest(labels) if labels else ""] if self._bases else []
        self.table.add_row(Text(name, style=style), *(Text(show(v), style=style) for v in values), *ratios, *bases)

    def span(self, value: Callable[[Estimate], Interval], show: Callable[[float], str]) -> None:
        """Add the range of the line above."""

        def text(estimate: Estimate) -> str:
            interval = value(estimate)
            return "" if interval.is_exact else f"{show(interval.low)} - {show(interval.high)}"

        self.text("    range", text, style="dim")

    @staticmethod
    def _ratio(base: float, other: float, inverse: bool) -> str:
        top, bottom = (other, base) if inverse else (base, other)
        return "" if bottom == 0 or abs(top / bottom - 1.0) < 5e-3 else format_ratio(top / bottom)


def _joules(value: float) -> str:
    return format_si(value, "J")


def _bytes(value: float) -> str:
    return format_si(value, "B")


def _speed(value: float) -> str:
    return f"{value:,.3g} /s" if value < 1000 else f"{value:,.0f} /s"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def _full_table(estimates: list[Estimate], width: int) -> Table:
    rows = _Rows(estimates, width)
    table = rows.table
    rows.number("Memory", lambda e: e.dram_bytes.total, _bytes, style="bold")
    rows.number("  layer weights", lambda e: e.dram_bytes.weights, _bytes)
    rows.number("  embedding and head", lambda e: e.dram_bytes.embedding_and_head, _bytes)
    rows.number("  KV cache", lambda e: e.dram_bytes.kv_cache, _bytes)
    rows.number("  activations, run time", lambda e: e.dram_bytes.activations + e.dram_bytes.runtime, _bytes)
    rows.text("  longest context that fits", lambda e: f"{e.largest_context:,}")
    table.add_section()
    rows.number("New tokens", lambda e: e.tokens_per_s.mid, _speed, basis="latency", inverse=True, style="bold")
    rows.span(lambda e: e.tokens_per_s, _speed)
    rows.text("  bound by", lambda e: e.bound["decode"])
    rows.number("  read from DRAM a step", lambda e: e.traffic_bytes["per_step"], _bytes)
    if estimates[0].workload.prompt_tokens:
        rows.number("Time to first token", lambda e: e.prefill_s.mid, lambda v: format_si(v, "s"), basis="prefill")
        rows.text("  bound by", lambda e: e.bound["prefill"])
    table.add_section()
    rows.number("Energy of a new token", lambda e: e.token_energy_j["total"].mid, _joules, basis="total", style="bold")
    rows.span(lambda e: e.token_energy_j["total"], _joules)
    rows.number(
        "  arithmetic",
        lambda e: sum(e.token_energy_j[n].mid for n in e.token_energy_j if n.startswith("arithmetic")),
        _joules,
        basis="arithmetic",
    )
    rows.number("  DRAM", lambda e: e.token_energy_j["dram"].mid, _joules, basis="dram")
    rows.number("  on-chip memory", lambda e: e.token_energy_j["on_chip"].mid, _joules, basis="on_chip")
    if any(e.token_energy_j["link"].mid > _WORTH_A_LINE * e.token_energy_j["total"].mid for e in estimates):
        rows.number("  links between devices", lambda e: e.token_energy_j["link"].mid, _joules, basis="link")
    rows.number("  power over time", lambda e: e.token_energy_j["static"].mid, _joules, basis="static")
    table.add_section()
    if all("hardware_usd_per_million_tokens" in e.cost for e in estimates):
        price = "hardware_usd_per_million_tokens"
        rows.number("Hardware, 1M new tokens", lambda e: e.cost[price].mid, _dollars, basis="hardware_usd")
    rows.number(
        "CO2e, 1M new tokens",
        lambda e: e.cost["kg_co2e_per_million_tokens"].mid * 1e3,
        lambda v: format_si(v, "g"),
        basis="total",
    )
    if any(e.loss for e in estimates):
        rows.text("Loss, nats per token", lambda e: f"{e.loss.value:.3f}" if e.loss else "no law")
        rows.text("    range", lambda e: f"{e.loss.low:.3f} - {e.loss.high:.3f}" if e.loss else "", style="dim")
    return table


def _paper_table(estimates: list[Estimate], width: int) -> Table:
    rows = _Rows(estimates, width)
    rows.number("Arithmetic energy", lambda e: e.energy_j["total"].mid, _joules, basis="total", style="bold")
    rows.number("  linear layers", lambda e: e.energy_j["arithmetic_linear"].mid, _joules)
    rows.number("  attention, in FP16", lambda e: e.energy_j["arithmetic_attention"].mid, _joules)
    rows.number("  additions", lambda e: e.paper.add_j if e.paper else 0.0, _joules)
    rows.number("  multiplications", lambda e: e.paper.multiply_j if e.paper else 0.0, _joules)
    return rows.table


def _headline(estimates: Sequence[Estimate]) -> Any:
    """Say how far the papers' ratio shrinks once everything is counted."""
    steps = shrinkage(estimates)
    if not steps:
        return Text()
    text = Text("What is left of the headline", style="bold")
    for ratio, what in steps:
        text.append(f"\n{format_ratio(ratio):>8}  ", style="bold green").append(what, style="not bold")
    return Padding(text, (1, 0, 0, 0), expand=False)


def _paragraph(label: str, text: str) -> Padding:
    return Padding(Text(f"{label}: ", style="bold").append(text, style="not bold"), (1, 0, 0, 0), expand=False)
