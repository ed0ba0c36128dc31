"""What `bitsim estimate` does once its options are read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from bitsim.energy_tables import Interval, load_hardware
from bitsim.energy_tables.units import SECONDS_PER_HOUR, format_count, format_si
from bitsim.simulator import Estimate, ModelSpec, Scheme, estimate, get_scheme
from bitsim.simulator.estimate import DEFAULT_HARDWARE

from ..estimate_json import estimate_payload, model_payload, payload
from ..text import console, print_json, print_rows

if TYPE_CHECKING:
    from ..chosen_laws import ChosenLaws

_DEFAULT_SCHEMES = ("fp16", "b1.58")


def inference(spec: ModelSpec, form: str, by_operation: bool, request: Mapping[str, Any]) -> None:
    """Print estimates of every scheme on every machine."""
    estimates = run_estimates(spec, request)
    if by_operation:
        print_operations(estimates, form)
    elif form == "json":
        print_json(payload(estimates))
    elif form == "table":
        from ..estimate_screen import least_width, screen

        terminal = console()
        terminal.width = max(terminal.width, least_width(estimates))
        named = bool(request["machines"] or request["devices"])
        terminal.print(screen(estimates, chosen_hardware=named, width=terminal.width))
    else:
        print_rows([_flat(estimate) for estimate in estimates], form)


def run_estimates(spec: ModelSpec, request: Mapping[str, Any]) -> list[Estimate]:
    """Estimate every scheme on every machine of a request."""
    names = (
        "engine",
        "node",
        "energy",
        "batch",
        "prompt_tokens",
        "new_tokens",
        "context",
        "devices",
        "split",
        "threads",
        "tokens",
        "skip_zeros",
        "region",
    )
    options = {name: request[name] for name in names}
    machines: Sequence[str | None] = request["machines"] or (None,)
    schemes = _schemes(request)
    laws = _chosen_laws(request, [scheme.name for scheme in schemes])
    found = [
        estimate(
            spec,
            scheme,
            machine,
            extra_energy_table=request["energy_table"],
            laws=None if laws is None else laws.of(scheme.name),
            **options,
        )
        for machine in machines
        for scheme in schemes
    ]
    return found if laws is None else [_with_interval(each, laws, request["tokens"]) for each in found]


def _chosen_laws(request: Mapping[str, Any], schemes: Sequence[str]) -> "ChosenLaws | None":
    if not request["laws"]:
        return None
    if request["tokens"] is None:
        raise click.UsageError("--law says the loss after some training: it needs --tokens")
    from ..chosen_laws import choose_laws

    return choose_laws(request["laws"], schemes)


def _with_interval(estimate: Estimate, laws: "ChosenLaws", tokens: float) -> Estimate:
    if estimate.loss is None or estimate.scheme.name not in laws.laws:
        return estimate
    spec, name = estimate.model, estimate.scheme.name
    counted = spec.parameters_linear if laws.laws[name].counts == "non_embedding" else spec.parameters
    loss = laws.with_interval(estimate.loss, name, counted, tokens)
    new = tuple(note for note in loss.notes if note not in estimate.loss.notes)
    return replace(estimate, loss=loss, notes=estimate.notes + new)


def _schemes(request: Mapping[str, Any]) -> list[Scheme]:
    schemes = dict.fromkeys(request["schemes"] or _DEFAULT_SCHEMES)  # each once
    return [get_scheme(name, request["packing"], request["kv_bits"]) for name in schemes]


def print_operations(estimates: Sequence[Estimate], form: str) -> None:
    """Print one row per phase and operation; on the screen a table per estimate, without what takes nothing."""
    if form != "table":
        rows = [
            {"hardware": e.hardware.name, "scheme": e.scheme.name} | row._asdict()
            for e in estimates
            for row in e.operations
        ]
        print_rows(rows, form)
        return
    for result in estimates:
        lines = [
            {
                "phase": row.phase,
                "operation": row.operation,
                "products": format_si(row.macs, ""),
                "other": format_si(row.vector_ops, ""),
                "DRAM": format_si(row.dram_bytes, "B"),
                "on-chip": format_si(row.on_chip_bytes, "B"),
                "time": format_si(row.latency_s, "s"),
                "bound by": row.bound,
                "arithmetic": format_si(row.arithmetic_j, "J"),
                "DRAM ": format_si(row.dram_j, "J"),
                "on-chip ": format_si(row.on_chip_j, "J"),
            }
            for row in result.operations
            if row.latency_s > 0 or row.vector_ops > 0
        ]
        title = f"{result.model.name} {result.scheme.name} on {result.hardware.name}; decode: one step"
        right = [name for name in lines[0] if name not in ("phase", "operation", "bound by")]
        print_rows(lines, form, title=title, right=right)


def _flat(result: Estimate) -> dict[str, Any]:
    """One row per estimate: the single numbers and strings of its JSON, nested names joined by a dot."""
    row: dict[str, Any] = {"model": result.model.name}
    for name, value in estimate_payload(result).items():
        if isinstance(value, dict):
            row |= {f"{name}.{key}": cell for key, cell in value.items() if not isinstance(cell, dict)}
        elif not isinstance(value, list):
            row[name] = value
    return row


def serving(spec: ModelSpec, form: str, request: Mapping[str, Any]) -> None:
    """Print the largest batch and the throughput there."""
    from bitsim.simulator.serving import serving as serve

    rows = []
    for machine in request["machines"] or (DEFAULT_HARDWARE,):
        for scheme in _schemes(request):
            found = serve(
                spec,
                scheme,
                machine,
                devices=request["devices"],
                prompt_tokens=request["prompt_tokens"],
                new_tokens=request["new_tokens"],
                engine=request["engine"],
                split="tensor",
            )
            result = found.estimate
            energy = result.energy_per_new_token_j if result else None
            rows.append(
                {
                    "scheme": scheme.name,
                    "hardware": load_hardware(machine).name,
                    "devices": found.devices,
                    "kv_bits": scheme.kv_bits,
                    "max_batch": found.max_batch,
                    "tokens_per_s": found.tokens_per_s.mid if found.tokens_per_s else None,
                    "tokens_per_s_low": found.tokens_per_s.low if found.tokens_per_s else None,
                    "tokens_per_s_high": found.tokens_per_s.high if found.tokens_per_s else None,
                    "bound": result.bound["decode"] if result else "does not fit",
                    "energy_per_new_token_j": energy.mid if energy else None,
                }
            )
    if form == "table":
        rows = [_serving_line(row) for row in rows]
    tokens = f"{request['prompt_tokens']:,} prompt + {request['new_tokens']:,} new tokens a sequence"
    print_rows(rows, form, title=f"{spec.name}: the largest batch that fits, {tokens}", right=tuple(rows[0])[2:])


def _serving_line(row: Mapping[str, Any]) -> dict[str, Any]:
    energy, speed = row["energy_per_new_token_j"], row["tokens_per_s"]
    return {
        "scheme": row["scheme"],
        "hardware": row["hardware"],
        "devices": row["devices"],
        "KV bits": f"{row['kv_bits']:g}",
        "largest batch": f"{row['max_batch']:,}",
        "tokens/s": "-" if speed is None else f"{speed:,.0f}",
        "range": "-" if speed is None else f"{row['tokens_per_s_low']:,.0f} - {row['tokens_per_s_high']:,.0f}",
        "bound by": row["bound"],
        "per token": "-" if energy is None else format_si(energy, "J"),
    }


def training(spec: ModelSpec, form: str, request: Mapping[str, Any]) -> None:
    """Print the cost of a training run in FP16 and as ternary quantisation-aware training."""
    from bitsim.simulator.training_cost import TrainingCost, training_cost

    tokens = request["tokens"]
    if tokens is None:
        raise click.UsageError("--training needs --tokens, such as --tokens 2T")
    machines = request["machines"] or (DEFAULT_HARDWARE,)
    runs: list[TrainingCost] = [
        training_cost(spec, tokens, scheme, machine, devices=request["devices"], region=request["region"])
        for machine in machines
        for scheme in request["schemes"] or _DEFAULT_SCHEMES
    ]
    if form == "json":
        print_json(
            {
                "model": model_payload(spec),
                "tokens": tokens,
                "training": [_training_payload(run) for run in runs],
            }
        )
    elif form == "table":
        _training_screen(spec, runs)
    else:
        print_rows(
            [{k: v for k, v in _training_payload(run).items() if not isinstance(v, dict | list)} for run in runs],
            form,
        )


_TRAINING_RANGES = ("device_s", "wall_s", "energy_j", "usd", "electricity_usd", "kg_co2e")


def _training_payload(run: Any) -> dict[str, Any]:
    found = {
        "scheme": run.scheme,
        "hardware": run.hardware.name,
        "devices": run.devices,
        "flops": run.flops,
        "state_bytes": run.state_bytes,
    }
    for name in _TRAINING_RANGES:
        value: Interval | None = getattr(run, name)
        found[name] = None if value is None else value.mid
        found[f"{name}_range"] = None if value is None else {"low": value.low, "mid": value.mid, "high": value.high}
    return found | {"sources": list(run.sources)}


def _training_screen(spec: ModelSpec, runs: Sequence[Any]) -> None:
    def span(interval: Interval | None, factor: float, unit: str) -> str:
        if interval is None:
            return "unknown"
        low, mid, high = (format_si(value * factor, unit) for value in interval)
        return f"{mid}  ({low} - {high})"

    days = 1 / 24 / SECONDS_PER_HOUR
    rows = [
        {
            "": f"{run.scheme} on {run.devices:,} x {run.hardware.name}",
            "compute": f"{run.flops:.3g} FLOP",
            "training state": format_si(run.state_bytes, "B"),
            "wall time": "{1:,.1f} days  ({0:,.1f} - {2:,.1f})".format(*run.wall_s.scaled(days)),
            "device hours": f"{run.device_s.mid / SECONDS_PER_HOUR:,.0f}",
            "energy": span(run.energy_j, 1 / 3600, "Wh"),
            "rental": "unknown"
            if run.usd is None
            else f"${run.usd.mid:,.0f}  (${run.usd.low:,.0f} - ${run.usd.high:,.0f})",
            "CO2e": "{1:,.4g} t  ({0:,.4g} - {2:,.4g})".format(*run.kg_co2e.scaled(1e-3)),
        }
        for run in runs
    ]
    turned = [{"": name} | {row[""]: row[name] for row in rows} for name in rows[0] if name]
    compute = f"6 x {format_count(spec.parameters_active)} active parameters x tokens"
    title = f"Training {spec.name} on {format_count(runs[0].tokens)} tokens: {compute}"
    print_rows(turned, "table", title=title, right=[row[""] for row in rows])
    console().print(
        "Ternary training computes in 16 bits on quantised values: it costs more; the saving comes at inference."
    )
    console().print(
        "Sources: " + ", ".join(dict.fromkeys(key for run in runs for key in run.sources)) + "  (bitsim cite KEY)"
    )
