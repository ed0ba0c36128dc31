"""What an estimate returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bitsim.energy_tables import EnergyTable, HardwareProfile, Interval
from bitsim.energy_tables.units import format_si

from .engine import Engine
from .footprint import Footprint
from .loss_laws import Loss
from .model_spec import ModelSpec
from .paper_energy import PaperEnergy
from .schemes import Scheme
from .workload import Workload

if TYPE_CHECKING:
    import pandas as pd


class OperationRow(NamedTuple):
    """One line of the per-operation table (mid values; decode: one step)."""

    phase: str
    operation: str
    macs: float
    vector_ops: float
    dram_bytes: float
    on_chip_bytes: float
    latency_s: float
    bound: str
    arithmetic_j: float
    dram_j: float
    on_chip_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one workload costs with one scheme on one machine. Ranges are low, mid, high; units are in the names.

    Attributes:
        energy_j: energy of the workload by part (`cost.ENERGY_PARTS`) and its "total".
        token_energy_j: the same of one new token; empty in "paper" mode.
        traffic_bytes: bytes from and to DRAM in "prefill", "per_step" of decoding, and a step's share "per_new_token".
        cost: per million new tokens, by what it is, with units in the names.
        labels: what each kind of number rests on: measured, datasheet, literature or assumption.
    """

    model: ModelSpec
    workload: Workload
    scheme: Scheme
    hardware: HardwareProfile
    engine: Engine
    table: EnergyTable
    node: str
    mode: str
    devices: int
    split: str
    energy_j: Mapping[str, Interval]
    token_energy_j: Mapping[str, Interval]
    prefill_s: Interval
    per_new_token_s: Interval
    latency_s: Interval
    tokens_per_s: Interval
    bound: Mapping[str, str]
    dram_bytes: Footprint
    capacity_bytes: float
    largest_context: int
    traffic_bytes: Mapping[str, float]
    operations: tuple[OperationRow, ...]
    paper: PaperEnergy | None
    loss: Loss | None
    cost: Mapping[str, Interval]
    labels: Mapping[str, str]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def energy_per_new_token_j(self) -> Interval | None:
        """Energy of one new token (J), None in "paper" mode."""
        return self.token_energy_j.get("total")

    @property
    def fits(self) -> bool:
        """True where the model and its workload fit the devices' memory."""
        return self.dram_bytes.total <= self.capacity_bytes

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per phase and operation, with units in the column names."""
        import pandas as pd  # noqa: PLC0415 - half a second that only this method needs

        return pd.DataFrame([row._asdict() for row in self.operations])

    def __repr__(self) -> str:
        """Say the main things in one line."""
        energy = self.energy_per_new_token_j
        joules = "" if energy is None else f"{format_si(energy.mid, 'J')}/token, "
        return (
            f"<Estimate {self.model.name} {self.scheme.name} on {self.devices} x {self.hardware.name} "
            f"({self.engine.name}): {self.tokens_per_s.mid:.3g} tokens/s ({self.bound['decode']}-bound), {joules}"
            f"{format_si(self.dram_bytes.total, 'B')} of {format_si(self.capacity_bytes, 'B')}>"
        )
