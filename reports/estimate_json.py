"""Estimates as JSON: the keys are a contract (see the README), the units are SI."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables import Interval
from bitsim.simulator import Estimate, ModelSpec, Workload


def payload(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the JSON of `bitsim estimate`: one model and workload, several schemes and machines."""
    first = estimates[0]
    return {
        "model": model_payload(first.model),
        "workload": workload_payload(first.workload),
        "estimates": [estimate_payload(estimate) for estimate in estimates],
        "ratios": ratios(estimates),
    }


def model_payload(spec: ModelSpec) -> dict[str, Any]:
    """Return the shape and the parameter counts."""
    shape = {name: getattr(spec, name) for name in spec.__slots__ if name != "sources"}
    counts = (
        "parameters",
        "parameters_linear",
        "parameters_embedding",
        "parameters_other",
        "parameters_active",
    )
    return {"name": shape.pop("name")} | {name: getattr(spec, name) for name in counts} | shape


def workload_payload(workload: Workload) -> dict[str, Any]:
    """Return the workload."""
    return {name: getattr(workload, name) for name in workload.__slots__}


def estimate_payload(estimate: Estimate) -> dict[str, Any]:
    """Return one estimate."""
    memory = estimate.dram_bytes
    paper = estimate.paper
    energy = _ranged(dict(estimate.energy_j)) | _ranged({"per_new_token": estimate.energy_per_new_token_j})
    if paper is not None:
        energy |= {key: None for key in energy if key.startswith(("dram", "on_chip", "link", "static"))}  # not counted
        energy |= {"arithmetic_add": paper.add_j, "arithmetic_multiply": paper.multiply_j}
    seconds = {
        "prefill": estimate.prefill_s,
        "per_new_token": estimate.per_new_token_s,
        "total": estimate.latency_s,
    }
    return {
        "scheme": estimate.scheme.name,
        "hardware": estimate.hardware.name,
        "engine": estimate.engine.name,
        "engine_fit": estimate.engine.fit,
        "threads": estimate.engine.threads,
        "devices": estimate.devices,
        "split": estimate.split,
        "node": estimate.node,
        "energy_mode": estimate.mode,
        "energy_j": energy,
        "latency_s": _ranged(seconds),
        "tokens_per_s": estimate.tokens_per_s.mid,
        "tokens_per_s_range": _range(estimate.tokens_per_s),
        "bound": dict(estimate.bound),
        "dram_bytes": {name: getattr(memory, name) for name in (*memory.__slots__, "total")},
        "capacity_bytes": estimate.capacity_bytes,
        "fits": estimate.fits,
        "largest_context": estimate.largest_context,
        "traffic_bytes": dict(estimate.traffic_bytes),
        "operations": [row._asdict() for row in estimate.operations],
        "loss": None
        if estimate.loss is None
        else {name: getattr(estimate.loss, name) for name in ("law", "value", "low", "high")},
        "cost": _ranged(dict(estimate.cost)),
        "weight_bits": estimate.scheme.weight_bits,
        "kv_bits": estimate.scheme.kv_bits,
        "labels": dict(estimate.labels),
        "notes": list(estimate.notes),
        "sources": list(estimate.sources),
    }


def ratios(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    """Return, per machine, the first scheme over each of the others."""
    found = []
    for base, other in comparable(estimates):
        found.append(
            {
                "of": base.scheme.name,
                "to": other.scheme.name,
                "hardware": base.hardware.name,
                "energy_total": _over(base.energy_j["total"], other.energy_j["total"]),
                "energy_arithmetic": _over(arithmetic(base), arithmetic(other)),
                "energy_per_new_token": _over(base.energy_per_new_token_j, other.energy_per_new_token_j),
                "latency_per_new_token": _over(base.per_new_token_s, other.per_new_token_s),
                "latency_prefill": _over(base.prefill_s, other.prefill_s),
                "traffic_per_new_token": base.traffic_bytes["per_new_token"] / other.traffic_bytes["per_new_token"],
                "dram_total": base.dram_bytes.total / other.dram_bytes.total,
            }
        )
    return found


def comparable(estimates: Sequence[Estimate]) -> list[tuple[Estimate, Estimate]]:
    """Pair the first scheme on each machine with the others there."""
    firsts: dict[str, Estimate] = {}
    pairs = []
    for estimate in estimates:
        base = firsts.setdefault(estimate.hardware.name, estimate)
        if base is not estimate:
            pairs.append((base, estimate))
    return pairs


def arithmetic(estimate: Estimate) -> Interval:
    """Energy of all arithmetic (J)."""
    parts = ("arithmetic_linear", "arithmetic_attention", "arithmetic_other")
    return sum((estimate.energy_j[name] for name in parts), start=Interval.exact(0.0))


def _over(base: Interval | None, other: Interval | None) -> float | None:
    return None if base is None or other is None or other.mid == 0 else base.mid / other.mid


def _ranged(values: Mapping[str, Interval | None]) -> dict[str, Any]:
    """Return mid values, each with its range under `NAME_range`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found[name] = None if value is None else value.mid
        found[f"{name}_range"] = None if value is None else _range(value)
    return found


def _range(value: Interval) -> dict[str, float]:
    return {"low": value.low, "mid": value.mid, "high": value.high}
