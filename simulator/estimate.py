"""Energy, latency, traffic and memory of one workload on one machine: the front door of the simulator."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bitsim.energy_tables import (
    CORNERS,
    BitsimError,
    Corner,
    HardwareProfile,
    Interval,
    LossLaw,
    energy_table,
    grid_rows,
    load_hardware,
)
from bitsim.energy_tables.errors import shown, suggestion
from bitsim.energy_tables.units import SECONDS_PER_HOUR, format_count, format_si

from .cost import ENERGY_PARTS, PhaseCost, energy_parts, phase_cost, step_energy_parts
from .engine import Engine, resolve_engine
from .footprint import footprint, largest_context, weight_bytes
from .labels import labels_of
from .model_spec import ModelSpec
from .operations import decode_load, prefill_load
from .paper_energy import PaperEnergy, paper_energy
from .resolve import resolve_size_or_model
from .result import Estimate, OperationRow
from .scheme_law import expected_loss
from .schemes import Scheme, get_scheme
from .system import SPLITS, System, machine_of, shape_of, widths_of
from .workload import Workload, check_training_tokens, is_whole, make_workload

DEFAULT_HARDWARE = "a100-80gb"  # the GPU of 2402.17764
MODES = ("full", "paper")
MAX_DEVICES = 1_000_000

Phases = tuple[PhaseCost, PhaseCost]  # prefill, and one decode step


def estimate(  # noqa: PLR0913 - keywords, one for each option of the command
    model: str | ModelSpec,
    scheme: str | Scheme = "b1.58",
    hardware: str | HardwareProfile | None = None,
    *,
    engine: str | Engine | None = None,
    node: str | None = None,
    energy: str = "full",
    batch: int = 1,
    prompt_tokens: int = 512,
    new_tokens: int = 128,
    context: int | None = None,
    devices: int | None = None,
    split: str = "pipeline",
    threads: int | None = None,
    tokens: float | None = None,
    laws: Mapping[str, LossLaw | str] | None = None,
    skip_zeros: bool = False,
    region: str = "world",
    extra_energy_table: str | Path | None = None,
) -> Estimate:
    """Estimate one workload.

    Args:
        model: a size ("70B"), a preset, a folder or file (see `resolve_size_or_model`), or a ModelSpec.
        scheme: name of a scheme, or a Scheme.
        hardware: name or .toml file of a machine; by default `a100-80gb`, as many as the FP16 model needs.
        engine: software whose efficiency to assume (a name or an Engine); by default what people would use there.
        node: process node of the arithmetic energies; by default the machine's.
        energy: "full", or "paper" for what the BitNet papers count: the arithmetic of one pass over the prompt.
        batch: sequences side by side.
        prompt_tokens: tokens read, per sequence.
        new_tokens: tokens generated, per sequence.
        context: tokens in the KV cache at the end; see `Workload`.
        devices: how many of the machine work together.
        split: "pipeline" (each device has some layers) or "tensor" (each has a part of every matrix).
        threads: CPU threads; all by default.
        tokens: training tokens, for the loss.
        laws: loss laws by scheme, in place of those of `expected_loss`.
        skip_zeros: leave out additions of zero weights (hardware that can skip them).
        region: grid whose carbon and electricity price to use.
        extra_energy_table: a CSV of the form of op_energy.csv whose rows replace or add to the built-in ones.

    Raises:
        BitsimError: anything in the request that is unknown or out of range, said in one line.
    """
    spec = model if isinstance(model, ModelSpec) else resolve_size_or_model(model)
    chosen = scheme if isinstance(scheme, Scheme) else get_scheme(scheme)
    profile = hardware if isinstance(hardware, HardwareProfile) else load_hardware(hardware or DEFAULT_HARDWARE)
    workload = make_workload(batch, prompt_tokens, new_tokens, context)
    if tokens is not None:
        check_training_tokens(tokens)
    table = energy_table(None if extra_energy_table is None else Path(extra_energy_table))
    _check_choice("energy", energy, MODES)
    _check_choice("split", split, SPLITS)
    _check_choice("node", node or profile.energy_node, table.nodes)
    _check_choice("region", region, list(grid_rows()))
    if devices is None:
        devices = 1 if hardware else devices_needed(spec, profile, workload)
    if not is_whole(devices) or not 1 <= devices <= MAX_DEVICES:
        raise BitsimError(f"devices: expected 1 to {MAX_DEVICES:,}, got {shown(devices)}")
    if devices > 1 and profile.get("link_bytes_per_s") is None:
        raise BitsimError(f"{profile.name}: link_bytes_per_s: several devices need it, it is missing")
    system = System(
        scheme=chosen,
        hardware=profile,
        engine=engine if isinstance(engine, Engine) else resolve_engine(engine, profile, chosen.name, threads),
        table=table,
        node=node or profile.energy_node,
        devices=devices,
        split=split,
        skip_zeros=skip_zeros,
    )
    result = _evaluate(spec, system, workload, energy)
    loss = None if tokens is None else expected_loss(chosen.name, spec, tokens, laws)
    cost = _running_cost(result, region)
    labels = labels_of(system, workload, cost, arithmetic_only=result.paper is not None)
    result = replace(result, loss=loss, cost=cost, labels=labels)
    return replace(result, notes=tuple(_notes(result, system)))


def devices_needed(spec: ModelSpec, hardware: HardwareProfile, workload: Workload, usable: float = 1.0) -> int:
    """Return how many devices hold the FP16 model and its workload, using a share of their memory."""
    scheme = get_scheme("fp16")
    workspace = resolve_engine(None, hardware, scheme.name).workspace(spec.hidden)
    needed = footprint(spec, scheme, workload.batch, workload.prompt_tokens, workload.context, workspace).total
    return math.ceil(needed / (usable * hardware.value("capacity_bytes").mid))


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        known = f" (known: {', '.join(choices)})"
        raise BitsimError(f"unknown {what} '{value[:40]}'{suggestion(value, choices)}{known}")


def _evaluate(spec: ModelSpec, system: System, workload: Workload, mode: str) -> Estimate:
    """Put the formulas' results at the three corners together."""
    steps = float(workload.new_tokens)
    corners = {corner: _phases(spec, system, workload, corner) for corner in CORNERS}

    def ranged(value: Callable[[PhaseCost, PhaseCost], float]) -> Interval:
        return Interval.spanning(*(value(*corners[corner]) for corner in CORNERS))

    paper = None
    if mode == "paper":
        paper = paper_energy(spec, system.scheme, system.table, system.node, workload.prompt_tokens)
    per_token_s = ranged(lambda _, decode: decode.latency_s)
    workspace = system.engine.workspace(spec.hidden)
    prefill, decode = corners["mid"]
    return Estimate(
        model=spec,
        workload=workload,
        scheme=system.scheme,
        hardware=system.hardware,
        engine=system.engine,
        table=system.table,
        node=system.node,
        mode=mode,
        devices=system.devices,
        split=system.split,
        energy_j=_paper_parts(paper) if paper else _over_corners(corners, lambda p, d: energy_parts(p, d, steps)),
        token_energy_j={} if paper else _over_corners(corners, lambda _, d: step_energy_parts(d), workload.batch),
        prefill_s=ranged(lambda prefill, _: prefill.latency_s),
        per_new_token_s=per_token_s,
        latency_s=ranged(lambda prefill, decode: prefill.latency_s + steps * decode.latency_s),
        tokens_per_s=Interval(*(workload.batch / seconds for seconds in reversed(list(per_token_s)))),
        bound={"prefill": binding_roof(prefill), "decode": binding_roof(decode)},
        dram_bytes=footprint(spec, system.scheme, workload.batch, workload.prompt_tokens, workload.context, workspace),
        capacity_bytes=system.capacity_bytes,
        largest_context=largest_context(spec, system.scheme, system.capacity_bytes, workspace=workspace),
        traffic_bytes={
            "prefill": prefill.sum("dram_bytes"),
            "per_step": decode.sum("dram_bytes"),
            "per_new_token": decode.sum("dram_bytes") / workload.batch,
        },
        operations=tuple(_rows("prefill", prefill) + _rows("decode", decode)),
        paper=paper,
        loss=None,
        cost={},
        labels={},
        sources=_sources(spec, system, arithmetic_only=paper is not None),
    )


def _phases(spec: ModelSpec, system: System, workload: Workload, corner: Corner) -> Phases:
    machine = machine_of(system, corner, system.keeps_on_chip(spec))
    shape, widths = shape_of(spec), widths_of(system.scheme)
    batch = float(workload.batch)
    prefill = prefill_load(batch, float(workload.prompt_tokens), float(workload.earlier_tokens))
    decode = decode_load(batch, float(workload.mean_past))
    return phase_cost(shape, widths, prefill, machine, max, pow), phase_cost(shape, widths, decode, machine, max, pow)


def _over_corners(
    corners: Mapping[Corner, Phases], parts: Callable[[PhaseCost, PhaseCost], Mapping[str, float]], batch: int = 1
) -> dict[str, Interval]:
    found = {corner: parts(*phases) for corner, phases in corners.items()}
    return {name: Interval.spanning(*(found[corner][name] / batch for corner in CORNERS)) for name in found["mid"]}


def _paper_parts(paper: PaperEnergy) -> dict[str, Interval]:
    parts = dict.fromkeys(ENERGY_PARTS, Interval.exact(0.0))
    parts["arithmetic_linear"] = Interval.exact(paper.linear_j)
    parts["arithmetic_attention"] = Interval.exact(paper.attention_j)
    return parts | {"total": Interval.exact(paper.total_j)}


def binding_roof(phase: PhaseCost) -> str:
    """Say what takes most of a phase's time: memory, compute, overhead (of the engine) or link; "none" without work."""
    shares = {
        "memory": sum(cost.latency_s for cost in phase.operations if cost.memory_s >= cost.compute_s),
        "compute": sum(cost.latency_s for cost in phase.operations if cost.memory_s < cost.compute_s),
        "overhead": phase.fixed_s,
        "link": phase.link_s,
    }
    return max(shares, key=lambda name: shares[name]) if any(shares.values()) else "none"


def _rows(phase: str, cost: PhaseCost) -> list[OperationRow]:
    rows = [
        OperationRow(
            phase=phase,
            operation=c.operation.name,
            macs=c.operation.macs,
            vector_ops=c.operation.vector_ops,
            dram_bytes=c.dram_bytes,
            on_chip_bytes=c.on_chip_bytes,
            latency_s=c.latency_s,
            bound="memory" if c.memory_s >= c.compute_s else "compute",
            arithmetic_j=c.arithmetic_j + c.vector_j,
            dram_j=c.dram_j,
            on_chip_j=c.on_chip_j,
        )
        for c in cost.operations
    ]
    engine = OperationRow(phase, "engine", 0.0, 0.0, 0.0, 0.0, cost.fixed_s, "overhead", 0.0, 0.0, 0.0)
    link = OperationRow(phase, "link", 0.0, 0.0, 0.0, 0.0, cost.link_s, "link", 0.0, 0.0, cost.link_j)
    return [*rows, engine, link]


def _running_cost(result: Estimate, region: str) -> dict[str, Interval]:
    """Money and carbon of a million new tokens."""
    grid, million = grid_rows()[region], 1e6
    cost = {}
    price = result.hardware.get("price_usd_per_hour")
    if price is not None:
        scale = result.devices / SECONDS_PER_HOUR / result.workload.batch * million
        rental = Interval.spanning(*(p * s for p, s in zip(price, result.per_new_token_s, strict=True)))
        cost["hardware_usd_per_million_tokens"] = rental.scaled(scale)
    energy = result.energy_per_new_token_j
    if energy is not None:
        cost["electricity_usd_per_million_tokens"] = energy.scaled(grid.price_usd_per_j * million)
        carbon = Interval.spanning(*(c * j for c, j in zip(grid.carbon_kg_per_j, energy, strict=True)))
        cost["kg_co2e_per_million_tokens"] = carbon.scaled(million)
    return cost


def _sources(spec: ModelSpec, system: System, arithmetic_only: bool) -> tuple[str, ...]:
    table, node, hardware = system.table, system.node, system.hardware
    found = [*table.operation(node, "add", "int8").provenance.sources, *system.scheme.sources, *spec.sources]
    if not arithmetic_only:
        for memory in (hardware.memory, hardware.on_chip_memory):
            found += table.memory(memory, node).provenance.sources
        for quantity in hardware.quantities.values():
            found += quantity.provenance.sources
        found += system.engine.provenance.sources if system.engine.provenance else ()
    return tuple(dict.fromkeys(found))


def _notes(result: Estimate, system: System) -> list[str]:
    """Say what a reader of the numbers must know."""
    spec, workload, hardware = result.model, result.workload, result.hardware
    notes = []
    if not result.fits:
        room = f"{format_si(result.dram_bytes.total, 'B')} of {format_si(result.capacity_bytes, 'B')}"
        notes.append(f"does not fit: {room}; speeds are as if it did")
    if spec.max_context and workload.context > spec.max_context:
        built = f"{spec.max_context:,} positions that {spec.name} was built for"
        notes.append(f"context {workload.context:,} is beyond the {built}")
    if hardware.weights_on_chip and not system.keeps_on_chip(spec):
        needed = math.ceil(weight_bytes(spec, result.scheme) / hardware.value("on_chip_bytes").mid)
        notes.append(f"weights do not fit on chip: {needed} devices would hold them, here they come from DRAM")
    if result.engine.fit == "transferred":
        notes.append(result.engine.note)
    if result.loss is not None:
        notes += result.loss.notes
    if spec.experts > 1:
        active = f"{format_count(spec.parameters_active)} of {format_count(spec.parameters)} parameters"
        notes.append(f"mixture of experts: {active} active per token")
    return notes
