"""What a training run costs: compute, time, energy, money and carbon, in FP16 and as ternary training.

Compute is 6 N D (Kaplan et al. 2020, section 2.1): a multiply and an add for each parameter and token, once forward and
twice backward. N are the parameters that a token passes through, without the embedding look-up.
"""

import math
from dataclasses import dataclass

from bitsim.energy_tables import (
    BitsimError,
    HardwareProfile,
    Interval,
    facility_constants,
    grid_rows,
    load_hardware,
)
from bitsim.energy_tables.errors import suggestion
from bitsim.energy_tables.units import SECONDS_PER_HOUR

from .model_spec import ModelSpec
from .resolve import resolve_size_or_model
from .system import peak_rate
from .workload import check_training_tokens

# Bytes per parameter of mixed-precision training with AdamW: 16-bit weights and gradients, 32-bit master weights and
# two 32-bit moments (rajbhandari2020zero, section 3.1). Ternary training keeps one more 16-bit copy, the quantised
# weights.
TRAINING_BYTES = {"fp16": 16.0, "b1.58": 18.0}


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Cost of one run. `device_s` is the time of all devices added up."""

    scheme: str
    model: ModelSpec
    hardware: HardwareProfile
    devices: int
    tokens: float
    flops: float
    state_bytes: float
    device_s: Interval
    wall_s: Interval
    energy_j: Interval
    usd: Interval | None
    electricity_usd: Interval
    kg_co2e: Interval
    sources: tuple[str, ...]


def training_cost(
    model: str | ModelSpec,
    tokens: float,
    scheme: str = "fp16",
    hardware: str | HardwareProfile = "a100-80gb",
    *,
    devices: int | None = None,
    region: str = "world",
) -> TrainingCost:
    """Estimate one training run.

    Args:
        model: a size, a preset, a file, or a ModelSpec.
        tokens: training tokens.
        scheme: "fp16" (mixed precision) or "b1.58" (ternary, quantisation-aware: forward and backward in 16 bits on
            quantised values, with the measured overhead of quantising).
        hardware: name, file or profile.
        devices: by default as many as hold the training state.
        region: grid for carbon and electricity price.

    Raises:
        BitsimError: an unknown name, or a number out of range.
    """
    if scheme not in TRAINING_BYTES:
        raise BitsimError(f"training: expected the scheme fp16 or b1.58, got '{scheme[:40]}'")
    check_training_tokens(tokens)
    grids = grid_rows()
    if region not in grids:
        raise BitsimError(f"unknown region '{region[:40]}'{suggestion(region, grids)} (known: {', '.join(grids)})")
    spec = model if isinstance(model, ModelSpec) else resolve_size_or_model(model)
    profile = hardware if isinstance(hardware, HardwareProfile) else load_hardware(hardware)
    facility = {name: value for name, (value, _) in facility_constants().items()}
    state_bytes = spec.parameters * TRAINING_BYTES[scheme]
    count = devices or math.ceil(state_bytes / profile.value("capacity_bytes").mid)

    flops = 6.0 * spec.parameters_active * tokens
    peak = peak_rate(profile, ("bf16_flops_per_s", "fp16_flops_per_s", "fp32_flops_per_s"))
    mfu = facility["training_mfu_dense_fp16"]
    overhead = facility["training_qat_overhead"] if scheme == "b1.58" else Interval.exact(0.0)
    device_s = Interval(*(flops / (peak * m) * (1.0 + o) for m, o in zip(reversed(list(mfu)), overhead, strict=True)))
    server_w = facility["server_overhead_w_per_gpu"] if profile.kind == "gpu" else Interval.exact(0.0)
    watts = [profile.value("peak_w").mid + server for server in server_w]
    energy = Interval(*(s * w * pue for s, w, pue in zip(device_s, watts, facility["pue"], strict=True)))
    price = profile.get("price_usd_per_hour")
    grid = grids[region]
    return TrainingCost(
        scheme=scheme,
        model=spec,
        hardware=profile,
        devices=count,
        tokens=tokens,
        flops=flops,
        state_bytes=state_bytes,
        device_s=device_s,
        wall_s=device_s.scaled(1.0 / count),
        energy_j=energy,
        usd=None
        if price is None
        else Interval(*(p * s / SECONDS_PER_HOUR for p, s in zip(price, device_s, strict=True))),
        electricity_usd=energy.scaled(grid.price_usd_per_j),
        kg_co2e=Interval(*(c * j for c, j in zip(grid.carbon_kg_per_j, energy, strict=True))),
        sources=_sources(profile, region),
    )


def _sources(profile: HardwareProfile, region: str) -> tuple[str, ...]:
    found = ["kaplan2020"]
    found += [key for _, provenance in facility_constants().values() for key in provenance.sources]
    found += grid_rows()[region].provenance.sources
    for name in ("bf16_flops_per_s", "peak_w", "price_usd_per_hour"):
        if name in profile.quantities:
            found += profile.quantities[name].provenance.sources
    return tuple(dict.fromkeys(found))
