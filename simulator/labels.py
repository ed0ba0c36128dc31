"""What the numbers of an estimate rest on: a measurement, a data sheet, the literature or an assumption."""

from bitsim.energy_tables import Interval, label, weakest

from .system import System, link_memory

_TRUSTED = 0.25  # a mean error above this is no measurement of anything


def labels_of(system: System, cost: dict[str, Interval], arithmetic_only: bool) -> dict[str, str]:
    """Label the parts of the energy, the total, the times and the costs of an estimate; the weakest input counts.

    Times are measured where the engine was fitted to speeds of this machine and scheme, an assumption where the fit was
    taken from elsewhere, and a data sheet's where there is no engine but the roofs; reading a prompt also rests on the
    fraction of the peak rate that the engine reaches, which few published speeds tell.
    """
    table, node, hardware = system.table, system.node, system.hardware
    steps = system.scheme.products["mid"]
    known = [table.operations[node, name, fmt] for name, fmt, _ in steps if (node, name, fmt) in table.operations]
    arithmetic = weakest(label(energy.provenance) for energy in known) if known else "assumption"
    found = {"arithmetic": arithmetic, "total": arithmetic}
    if not arithmetic_only:
        found["dram"] = label(table.memory(hardware.memory, node).provenance)
        found["on_chip"] = label(table.memory(hardware.on_chip_memory, node).provenance)
        found["static"] = label(hardware.quantities["busy_w"].provenance)
        if system.devices > 1:
            found["link"] = label(table.memory(link_memory(hardware), node).provenance)
        found["total"] = weakest(found.values())
    bandwidth = label(hardware.quantities["bandwidth_bytes_per_s"].provenance)
    found["latency"] = {"fitted": "measured", "transferred": "assumption"}.get(system.engine.fit, bandwidth)
    rate_is_known = system.engine.rate_error is not None and system.engine.rate_error < _TRUSTED
    found["prefill"] = found["latency"] if rate_is_known or system.engine.fit == "ideal" else "assumption"
    if "hardware_usd_per_million_tokens" in cost:
        found["hardware_usd"] = weakest((label(hardware.quantities["price_usd_per_hour"].provenance), found["latency"]))
    return found
