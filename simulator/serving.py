"""Serving many users: the largest batch that fits, and the tokens per second there."""

from dataclasses import dataclass

from bitsim.energy_tables import HardwareProfile, Interval, load_hardware

from .engine import Engine, resolve_engine
from .estimate import devices_needed, estimate
from .footprint import largest_batch
from .model_spec import ModelSpec
from .resolve import resolve_size_or_model
from .result import Estimate
from .schemes import Scheme, get_scheme
from .workload import make_workload

# Share of a GPU's memory that serving software may fill; the rest is fragmentation and the driver's own.
USABLE_MEMORY = 0.95


@dataclass(frozen=True, slots=True)
class Serving:
    """The largest batch that fits and the estimate with it (None where not even one sequence fits)."""

    devices: int
    max_batch: int
    tokens_per_s: Interval | None
    estimate: Estimate | None


def serving(
    model: str | ModelSpec,
    scheme: str | Scheme = "b1.58",
    hardware: str | HardwareProfile = "a100-80gb",
    *,
    devices: int | None = None,
    prompt_tokens: int = 256,
    new_tokens: int = 256,
    engine: str | Engine | None = None,
    split: str = "tensor",
) -> Serving:
    """Fill the memory of one or several devices with sequences and estimate the throughput.

    Every sequence is given room for prompt and new tokens; the speed is that of decoding at the average context. With
    `split="tensor"` all devices read their part of the weights at once, as in a pipeline kept full; `split="pipeline"`
    is one that is not.

    Args:
        model: as in `estimate`.
        scheme: as in `estimate`.
        hardware: as in `estimate`.
        devices: as many as the FP16 model needs, by default.
        prompt_tokens: of each sequence.
        new_tokens: of each sequence.
        engine: as in `estimate`.
        split: as in `estimate`.
    """
    spec = model if isinstance(model, ModelSpec) else resolve_size_or_model(model)
    chosen = scheme if isinstance(scheme, Scheme) else get_scheme(scheme)
    profile = hardware if isinstance(hardware, HardwareProfile) else load_hardware(hardware)
    workload = make_workload(1, prompt_tokens, new_tokens)
    count = devices or devices_needed(spec, profile, workload, USABLE_MEMORY)
    running = engine if isinstance(engine, Engine) else resolve_engine(engine, profile, chosen.name)
    room = USABLE_MEMORY * count * profile.value("capacity_bytes").mid
    batch = largest_batch(spec, chosen, room, prompt_tokens, workload.context, running.workspace(spec.hidden))
    if batch == 0:
        return Serving(count, 0, None, None)
    result = estimate(
        spec,
        chosen,
        profile,
        engine=running,
        batch=batch,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        devices=count,
        split=split,
    )
    return Serving(count, batch, result.tokens_per_s, result)
