"""What the numbers of an estimate rest on: a measurement, a data sheet, the literature or an assumption."""

from bitsim.energy_tables import Interval, label, weakest

from .system import System, link_memory
from .workload import Workload

_FITTED_GPUS = 2  # the 70B of 2402.17764 ran on as many
_TRUSTED = 0.25  # a mean error above this is no measurement of anything


def labels_of(system: System, workload: Workload, cost: dict[str, Interval], arithmetic_only: bool) -> dict[str, str]:
    """Label the parts of the energy, the total, the times and the costs of an estimate; the weakest input counts.

    Times are measured where the engine was fitted to speeds of this machine and scheme, of one sequence and as many
    devices; an assumption elsewhere; and a data sheet's where there is no engine but the roofs. Reading a prompt also
    rests on the fraction of the peak rate that the engine reaches, which few published speeds tell.
    """
    table, node, hardware, engine = system.table, system.node, system.hardware, system.engine
    steps = system.scheme.products["mid"]
    known = [table.operations[node, name, fmt] for name, fmt, _ in steps if (node, name, fmt) in table.operations]
    arithmetic = weakest(label(energy.provenance) for energy in known) if known else "assumption"
    found = {"arithmetic": arithmetic, "total": arithmetic}
    bandwidth = label(hardware.quantities["bandwidth_bytes_per_s"].provenance)
    like_the_fit = workload.batch == 1 and system.devices <= (_FITTED_GPUS if hardware.kind == "gpu" else 1)
    fitted = "measured" if like_the_fit else "assumption"
    found["latency"] = {"fitted": fitted, "transferred": "assumption"}.get(engine.fit, bandwidth)
    rate_is_known = engine.rate_error is not None and engine.rate_error < _TRUSTED
    found["prefill"] = found["latency"] if rate_is_known or engine.fit == "ideal" else "assumption"
    if not arithmetic_only:
        found["dram"] = label(table.memory(hardware.memory, node).provenance)
        found["on_chip"] = label(table.memory(hardware.on_chip_memory, node).provenance)
        found["static"] = weakest((label(hardware.quantities["busy_w"].provenance), found["latency"]))
        if system.devices > 1:
            found["link"] = label(table.memory(link_memory(hardware), node).provenance)
        found["total"] = weakest(found[name] for name in found if name not in ("latency", "prefill"))
    if "hardware_usd_per_million_tokens" in cost:
        found["hardware_usd"] = weakest((label(hardware.quantities["price_usd_per_hour"].provenance), found["latency"]))
    return found
