"""Model, scheme and machine turned into the plain numbers that the formulas take."""

from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, Corner, EnergyTable, HardwareProfile, Interval, facility_constants

from .cost import Machine
from .engine import Engine
from .footprint import weight_bytes
from .model_spec import ModelSpec
from .operations import Shape, Widths
from .schemes import Scheme

SPLITS = ("pipeline", "tensor")
_LINKS = {"gpu": "nvlink", "asic": "pcie", "cpu": "network"}  # rows of memory_energy.csv
_BITS_PER_BYTE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A scheme on `devices` machines under an engine.

    `split` is "pipeline" (each device has some of the layers) or "tensor" (each has a part of every matrix);
    `skip_zeros` leaves out additions of zero weights.
    """

    scheme: Scheme
    hardware: HardwareProfile
    engine: Engine
    table: EnergyTable
    node: str
    devices: int = 1
    split: str = "pipeline"
    skip_zeros: bool = False

    @property
    def capacity_bytes(self) -> float:
        """Main memory of all devices."""
        return self.devices * self.hardware.value("capacity_bytes").mid

    def keeps_on_chip(self, spec: ModelSpec) -> bool:
        """True where the machine keeps weights on chip and the packed weights of the model fit there."""
        room = self.devices * self.hardware.value("on_chip_bytes").mid
        return self.hardware.weights_on_chip and weight_bytes(spec, self.scheme) <= room


def shape_of(spec: ModelSpec) -> Shape:
    """Return a ModelSpec as numbers."""
    norms = (4.0 if spec.post_norms else 2.0) * spec.hidden
    norms += (spec.query_width + spec.ffn) * spec.sub_norms + (spec.query_width + spec.kv_width) * spec.qk_norm
    return Shape(
        layers=float(spec.layers),
        hidden=float(spec.hidden),
        query=float(spec.query_width),
        kv=float(spec.kv_width),
        heads=float(spec.heads),
        ffn=float(spec.ffn),
        up_matrices=2.0 if spec.gated_ffn else 1.0,
        norm_elements=norms,
        other_parameters=float(spec.parameters_other),
        vocab=float(spec.vocab),
        experts=float(spec.experts),
        experts_per_token=float(spec.experts_per_token),
    )


def widths_of(scheme: Scheme) -> Widths:
    """Return a scheme as bytes per element."""
    return Widths(
        weight=scheme.weight_bits / _BITS_PER_BYTE,
        embedding=scheme.embedding_bits / _BITS_PER_BYTE,
        head=scheme.head_bits / _BITS_PER_BYTE,
        activation=scheme.activation_bits / _BITS_PER_BYTE,
        hidden=scheme.hidden_bits / _BITS_PER_BYTE,
        kv=scheme.kv_bits / _BITS_PER_BYTE,
        quantised=1.0 if scheme.scaled else 0.0,
    )


def machine_of(system: System, corner: Corner, on_chip: bool = False) -> Machine:
    """Return a system as numbers at one corner of all its ranges: "low" takes the least of each energy and time.

    Args:
        system: machine, engine and scheme.
        corner: which end of the ranges.
        on_chip: the packed weights stay in on-chip memory.
    """
    hardware, engine, scheme, table, node = system.hardware, system.engine, system.scheme, system.table, system.node
    slowdown = engine.slowdown.at(corner)
    together = float(system.devices if system.split == "tensor" else 1)
    on_chip_rate, link_rate = hardware.get("on_chip_bandwidth_bytes_per_s"), hardware.get("link_bytes_per_s")
    floats = (f"{scheme.float_format}_flops_per_s", "fp16_flops_per_s", "fp32_flops_per_s")
    rate_slowdown = engine.rate_slowdown.at(corner)
    float_s_per_mac = rate_slowdown / mac_rate(system, floats) / together
    product_j = scheme.product_energy_j(table, node).at(corner)
    float_j = scheme.float_energy_j(table, node).at(corner)
    return Machine(
        memory_s_per_byte=slowdown * engine.s_per_byte / together,
        on_chip_s_per_byte=slowdown / on_chip_rate.mid / together if on_chip_rate else 0.0,
        linear_s_per_mac=rate_slowdown / mac_rate(system, scheme.rates) / together,
        attention_s_per_mac=float_s_per_mac,
        head_s_per_mac=float_s_per_mac,
        sync_s_per_layer=slowdown * engine.s_per_layer,
        work_s_per_layer_element=slowdown * engine.s_per_layer_element,
        link_s_per_byte=slowdown / link_rate.mid if link_rate else 0.0,
        link_s_per_message=facility_constants()[f"link_latency_{hardware.kind}"][0].at(corner),
        on_chip_bytes=hardware.value("on_chip_bytes").mid,
        weights_on_chip=1.0 if on_chip else 0.0,
        devices=float(system.devices),
        tensor=1.0 if system.split == "tensor" else 0.0,
        linear_j_per_mac=product_j * (1.0 - scheme.zero_fraction if system.skip_zeros else 1.0),
        attention_j_per_mac=float_j,
        head_j_per_mac=float_j,
        vector_j_per_op=_vector_energy_j(table, node).at(corner),
        dram_j_per_byte=table.memory(hardware.memory, node).energy_j.at(corner),
        on_chip_j_per_byte=table.memory(hardware.on_chip_memory, node).energy_j.at(corner),
        link_j_per_byte=table.memory(link_memory(hardware), node).energy_j.at(corner),
        static_w=_static_w(hardware, engine.threads).at(corner),
        idle_w=hardware.value("idle_w").mid,
        peak_w=hardware.value("peak_w").mid,
    )


def link_memory(hardware: HardwareProfile) -> str:
    """Return the row of memory_energy.csv for the links between devices of this kind."""
    return _LINKS[hardware.kind]


def mac_rate(system: System, rates: tuple[str, ...]) -> float:
    """Return the products per second that the engine reaches with its threads, from the first rate the machine has.

    Raises:
        BitsimError: the machine has none of them.
    """
    hardware, engine = system.hardware, system.engine
    share = engine.threads / hardware.cores if hardware.kind == "cpu" else 1.0
    return peak_rate(hardware, rates) * engine.rate_fraction * share / 2.0  # a product is a multiply and an add


def peak_rate(hardware: HardwareProfile, rates: tuple[str, ...]) -> float:
    """Return the first rate of the list that the machine has (operations per second).

    Raises:
        BitsimError: it has none of them.
    """
    for name in rates:
        found = hardware.get(name)
        if found is not None:
            return found.mid
    known = [name for name in hardware.quantities if name.endswith(("flops_per_s", "ops_per_s"))]
    raise BitsimError(f"{hardware.name}: has no {' or '.join(rates)}; its rates: {', '.join(known) or 'none'}")


def _vector_energy_j(table: EnergyTable, node: str) -> Interval:
    """Energy of one elementwise operation: between an FP16 addition and an FP32 multiplication (J)."""
    low = table.operation(node, "add", "fp16").energy_j.low
    add, multiply = table.operation(node, "add", "fp32").energy_j, table.operation(node, "multiply", "fp32").energy_j
    return Interval.spanning(low, (add.mid + multiply.mid) / 2.0, multiply.high)


def _static_w(hardware: HardwareProfile, threads: int) -> Interval:
    """Power that a device draws over time, besides what its DRAM and arithmetic take: idle, busy, all of it (W).

    A CPU with only some of its cores at work is busy to that share.
    """
    idle, busy, peak = (hardware.value(name).mid for name in ("idle_w", "busy_w", "peak_w"))
    share = threads / hardware.cores if hardware.kind == "cpu" else 1.0
    return Interval.spanning(idle, idle + (busy - idle) * share, idle + (peak - idle) * share)
