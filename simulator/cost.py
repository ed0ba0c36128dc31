"""Time and energy of a phase from its operations: a roofline with an engine's efficiency, and energies per operation.

Like `operations.py`, plain arithmetic on floats or numpy arrays.
"""

from collections.abc import Callable
from typing import NamedTuple

from .operations import Load, Number, Operation, Shape, Widths, operations

ENERGY_PARTS = (
    "arithmetic_linear",
    "arithmetic_attention",
    "arithmetic_other",
    "dram",
    "on_chip",
    "link",
    "static",
)
SRAM_PASSES = 2.0  # a byte from DRAM is written to on-chip memory once and read from it once
HIDDEN_EXCHANGES = 2.0  # all-reduces per layer of a tensor split: after attention and after the FFN


class Machine(NamedTuple):
    """Hardware, engine and energy table as numbers, for one scheme.

    Times are in seconds per unit of work, of all the devices that work at once; `tensor` is 1 where devices split each
    matrix (and exchange hidden states in every layer) and 0 where they split the layers.
    """

    memory_s_per_byte: Number
    on_chip_s_per_byte: Number
    linear_s_per_mac: Number
    attention_s_per_mac: Number
    head_s_per_mac: Number
    sync_s_per_layer: Number
    work_s_per_layer_element: Number
    link_s_per_byte: Number
    link_s_per_message: Number
    on_chip_bytes: Number
    weights_on_chip: Number
    devices: Number
    tensor: Number
    linear_j_per_mac: Number
    attention_j_per_mac: Number
    head_j_per_mac: Number
    vector_j_per_op: Number
    dram_j_per_byte: Number
    on_chip_j_per_byte: Number
    link_j_per_byte: Number
    static_w: Number
    idle_w: Number
    peak_w: Number


class OperationCost(NamedTuple):
    """Time (s), traffic (bytes) and energy (J) of one operation, and how its time splits by what binds."""

    operation: Operation
    dram_bytes: Number
    on_chip_bytes: Number
    compute_s: Number
    memory_s: Number
    latency_s: Number
    arithmetic_j: Number
    vector_j: Number
    dram_j: Number
    on_chip_j: Number


class PhaseCost(NamedTuple):
    """All operations of a phase, the fixed time of the engine and the exchange between devices."""

    operations: list[OperationCost]
    fixed_s: Number
    link_s: Number
    link_bytes: Number
    link_j: Number
    latency_s: Number
    static_j: Number

    def sum(self, field: str) -> Number:
        """Add one field up over the operations, in their order."""
        total: Number = 0.0
        for cost in self.operations:
            total = total + getattr(cost, field)
        return total


def phase_cost(
    shape: Shape,
    widths: Widths,
    load: Load,
    machine: Machine,
    maximum: Callable[[Number, Number], Number],
    power: Callable[[Number, Number], Number],
) -> PhaseCost:
    """Cost of one phase.

    Args:
        shape: the model.
        widths: the scheme's bytes.
        load: the phase.
        machine: roofs and energies.
        maximum: `max` of two numbers of the kind in use.
        power: `pow` of two numbers of the kind in use.
    """
    costs = [_operation_cost(operation, machine, maximum) for operation in operations(shape, widths, load, power)]
    rows = load.sequences * load.tokens
    works = 1.0 * (rows > 0)
    fixed_s = works * shape.layers * (machine.sync_s_per_layer + machine.work_s_per_layer_element * shape.hidden)
    link_bytes, link_s = _exchange(shape.layers, rows * shape.hidden * widths.hidden, works, machine)
    latency: Number = fixed_s + link_s
    for cost in costs:
        latency = latency + cost.latency_s
    link_j = link_bytes * machine.link_j_per_byte
    dynamic_j = link_j + sum(cost.arithmetic_j + cost.vector_j + cost.dram_j + cost.on_chip_j for cost in costs)
    return PhaseCost(
        operations=costs,
        fixed_s=fixed_s,
        link_s=link_s,
        link_bytes=link_bytes,
        link_j=link_j,
        latency_s=latency,
        static_j=_static_j(machine, latency, dynamic_j, maximum),
    )


def _exchange(layers: Number, hidden_bytes: Number, works: Number, machine: Machine) -> tuple[Number, Number]:
    """Bytes and seconds of passing hidden states between devices.

    A pipeline hands them over d - 1 times, one after another. A tensor split adds them up 2 times a layer in a ring:
    2 (d - 1) times the bytes, sent by all devices at once.
    """
    others, tensor = machine.devices - 1.0, machine.tensor
    exchanges = HIDDEN_EXCHANGES * layers
    link_bytes = hidden_bytes * others * (1.0 + tensor * (2.0 * exchanges - 1.0))
    at_once = 1.0 + tensor * (machine.devices - 1.0)
    messages = works * (others * (1.0 - tensor) + tensor * exchanges * (others > 0))
    return link_bytes, link_bytes * machine.link_s_per_byte / at_once + messages * machine.link_s_per_message


def _static_j(
    machine: Machine, seconds: Number, dynamic_j: Number, maximum: Callable[[Number, Number], Number]
) -> Number:
    """Energy of power over time; together with the rest it is never above what the devices can draw.

    In a pipeline one device works and the others wait.
    """
    working = 1.0 + machine.tensor * (machine.devices - 1.0)
    waiting = machine.devices - working
    drawn = (machine.static_w * working + machine.idle_w * waiting) * seconds
    most = maximum((machine.peak_w * working + machine.idle_w * waiting) * seconds - dynamic_j, 0.0 * seconds)
    return 0.0 - maximum(0.0 - drawn, 0.0 - most)  # the smaller of the two


def _operation_cost(
    operation: Operation, machine: Machine, maximum: Callable[[Number, Number], Number]
) -> OperationCost:
    resident = operation.weight_bytes * (machine.weights_on_chip if operation.kind == "linear" else 0.0)
    # One layer's activations are there at a time; devices that split a matrix split them too.
    room = operation.repeats * machine.on_chip_bytes * (1.0 + machine.tensor * (machine.devices - 1.0))
    spilled = maximum(operation.activation_bytes - room, 0.0 * operation.activation_bytes)
    dram_bytes = (operation.weight_bytes - resident) + operation.kv_bytes + spilled
    on_chip_bytes = resident + operation.activation_bytes + SRAM_PASSES * (dram_bytes - spilled) + spilled
    per_mac_s = getattr(machine, f"{operation.kind}_s_per_mac")
    compute_s = operation.macs * per_mac_s
    memory_s = maximum(dram_bytes * machine.memory_s_per_byte, resident * machine.on_chip_s_per_byte)
    return OperationCost(
        operation=operation,
        dram_bytes=dram_bytes,
        on_chip_bytes=on_chip_bytes,
        compute_s=compute_s,
        memory_s=memory_s,
        latency_s=maximum(compute_s, memory_s),
        arithmetic_j=operation.macs * getattr(machine, f"{operation.kind}_j_per_mac"),
        vector_j=operation.vector_ops * machine.vector_j_per_op,
        dram_j=dram_bytes * machine.dram_j_per_byte,
        on_chip_j=on_chip_bytes * machine.on_chip_j_per_byte,
    )


def energy_parts(prefill: PhaseCost, decode: PhaseCost, steps: Number) -> dict[str, Number]:
    """Energy (J) of a prefill and `steps` decode steps by part, and their "total"."""

    def of_kind(phase: PhaseCost, kind: str) -> Number:
        return sum(cost.arithmetic_j for cost in phase.operations if cost.operation.kind == kind)

    def parts_of(phase: PhaseCost) -> tuple[Number, ...]:
        return (
            of_kind(phase, "linear"),
            of_kind(phase, "attention"),
            of_kind(phase, "head") + phase.sum("vector_j"),
            phase.sum("dram_j"),
            phase.sum("on_chip_j"),
            phase.link_j,
            phase.static_j,
        )

    pairs = zip(ENERGY_PARTS, parts_of(prefill), parts_of(decode), strict=True)
    parts = {name: before + steps * each for name, before, each in pairs}
    return parts | {"total": sum(parts.values())}


def step_energy_parts(decode: PhaseCost) -> dict[str, Number]:
    """Energy (J) of one decode step by part, and their "total"."""
    none = decode.latency_s * 0.0
    return energy_parts(decode._replace(operations=[], link_j=none, static_j=none), decode, 1.0)
