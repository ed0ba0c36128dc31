"""What a FLOP of training and a served token cost (joules, dollars): the prices that a plan weighs against each other.

Both are of the same boundary: the device, its share of the server (GPUs), and the building's overhead (PUE).
"""

import bisect
import math
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, HardwareProfile, Interval, facility_constants
from bitsim.energy_tables.units import SECONDS_PER_HOUR

from .estimate import estimate
from .result import Estimate
from .serving import USABLE_MEMORY
from .sizes import MAX_PARAMETERS, MIN_PARAMETERS, spec_for_size
from .training_cost import TRAINING_BYTES, training_cost
from .workload import Workload

FORWARD_FLOPS = 2.0  # per parameter and token (kaplan2020, section 2.1)
_SIZES_PER_DECADE = 4


@dataclass(frozen=True, slots=True)
class TrainingPrice:
    """What one FLOP of training costs with a scheme on a machine; it does not depend on the size.

    Attributes:
        scheme: name of the scheme.
        hardware: the machine that trains.
        joules: energy (J per FLOP).
        usd: rental of the machine (dollars per FLOP), None where no price is known.
        device_s: time of one device (s per FLOP).
        sources: keys of `sources.csv`.
    """

    scheme: str
    hardware: HardwareProfile
    joules: Interval
    usd: Interval | None
    device_s: Interval
    sources: tuple[str, ...]

    def devices_at(self, parameters: float) -> int:
        """Return how many of the machine hold weights, gradients and optimiser state."""
        return math.ceil(parameters * TRAINING_BYTES[self.scheme] / self.hardware.value("capacity_bytes").mid)


@dataclass(frozen=True, slots=True)
class ServingPrice:
    """What a served token costs by the model's size: estimates at sizes of a grid, between them straight in logarithms.

    A served token is a generated one with its share of the prompt. Sizes are in parameters, rising.

    Attributes:
        scheme: name of the scheme.
        hardware: the machine that serves.
        workload: sequences side by side, tokens read and generated of each.
        sizes: the grid.
        joules: energy of a served token (J) at each size.
        device_s: time of one device for a served token (s) at each size.
        sources: keys of `sources.csv`.
    """

    scheme: str
    hardware: HardwareProfile
    workload: Workload
    sizes: tuple[float, ...]
    joules: tuple[Interval, ...]
    device_s: tuple[Interval, ...]
    sources: tuple[str, ...]

    def joules_at(self, parameters: float) -> Interval:
        """Return the energy of a served token (J)."""
        return _between(self.sizes, self.joules, parameters)

    def usd_at(self, parameters: float) -> Interval | None:
        """Return the rental for a served token (dollars), None where no price is known."""
        price = self.hardware.get("price_usd_per_hour")
        if price is None:
            return None
        seconds = _between(self.sizes, self.device_s, parameters)
        return Interval(*(p * s / SECONDS_PER_HOUR for p, s in zip(price, seconds, strict=True)))

    def flops_at(self, parameters: float) -> float:
        """Return the compute of a served token, 2 N for every token read or generated (FLOPs)."""
        tokens = self.workload.prompt_tokens + self.workload.new_tokens
        return FORWARD_FLOPS * parameters * tokens / self.workload.new_tokens

    def devices_at(self, parameters: float) -> int:
        """Return how many of the machine hold a model and the workload."""
        found = _served(parameters, self.scheme, self.hardware, self.workload)
        return math.ceil(found.dram_bytes.total / (USABLE_MEMORY * found.capacity_bytes))


def training_price(scheme: str, hardware: HardwareProfile) -> TrainingPrice:
    """Return the price of training, from `training_cost`.

    Raises:
        BitsimError: a scheme that is neither fp16 nor b1.58.
    """
    cost = training_cost(spec_for_size(1e9), 1e9, scheme, hardware, devices=1)
    share = 1.0 / cost.flops
    usd = None if cost.usd is None else cost.usd.scaled(share)
    return TrainingPrice(scheme, hardware, cost.energy_j.scaled(share), usd, cost.device_s.scaled(share), cost.sources)


def serving_price(scheme: str, hardware: HardwareProfile, workload: Workload) -> ServingPrice:
    """Return the price of serving, from `estimate` at sizes from 100K to 1000T.

    Each size is estimated as if one device held it: what several devices exchange is left out, so that the price is
    smooth in the size. Energies are of the device, its share of the server and the building, as those of training.

    Raises:
        BitsimError: a workload that generates nothing.
    """
    if workload.new_tokens < 1:
        raise BitsimError(f"new tokens: expected at least 1 for a model that serves, got {workload.new_tokens}")
    facility = facility_constants()
    server_w = facility["server_overhead_w_per_gpu"][0] if hardware.kind == "gpu" else Interval.exact(0.0)
    decades = round(math.log10(MAX_PARAMETERS / MIN_PARAMETERS))
    sizes = [MIN_PARAMETERS * 10 ** (step / _SIZES_PER_DECADE) for step in range(decades * _SIZES_PER_DECADE)]
    sizes.append(MAX_PARAMETERS)
    results = [_served(size, scheme, hardware, workload) for size in sizes]
    share = 1.0 / (workload.batch * workload.new_tokens)
    joules = [
        Interval(
            *(
                (energy + watts * seconds) * pue * share
                for energy, watts, seconds, pue in zip(
                    result.energy_j["total"], server_w, result.latency_s, facility["pue"][0], strict=True
                )
            )
        )
        for result in results
    ]
    seconds = [result.latency_s.scaled(share) for result in results]
    used = [facility["pue"][1], *([facility["server_overhead_w_per_gpu"][1]] if hardware.kind == "gpu" else [])]
    keys = [*results[0].sources, *(key for provenance in used for key in provenance.sources)]
    return ServingPrice(
        scheme, hardware, workload, tuple(sizes), tuple(joules), tuple(seconds), tuple(dict.fromkeys(keys))
    )


def _served(parameters: float, scheme: str, hardware: HardwareProfile, workload: Workload) -> Estimate:
    return estimate(
        spec_for_size(parameters),
        scheme,
        hardware,
        batch=workload.batch,
        prompt_tokens=workload.prompt_tokens,
        new_tokens=workload.new_tokens,
        devices=1,
    )


def _between(sizes: tuple[float, ...], values: tuple[Interval, ...], at: float) -> Interval:
    """Interpolate on logarithmic axes; outside the sizes the nearest two are extended."""
    index = min(max(bisect.bisect(sizes, at), 1), len(sizes) - 1)
    share = math.log(at / sizes[index - 1]) / math.log(sizes[index] / sizes[index - 1])
    pairs = zip(values[index - 1], values[index], strict=True)
    return Interval.spanning(*(left * (right / left) ** share for left, right in pairs))
