"""Engines: how near a piece of software comes to the roofs of a machine.

Time to stream a byte of weights with t threads, and fixed time per layer of width h:

    s_per_byte = 1 / (peak bandwidth x bandwidth_fraction) + thread_s_per_byte / t
    s_per_layer = sync_s_per_layer x (1 + log2 t) + work_s_per_layer_element x h

The first is the memory roof in series with what t cores can unpack; the second is the hand-over between threads at
each layer and the work that is not spread over them. `calibrate.py` fits the four numbers to published speeds.
"""

import math
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, EngineFit, HardwareProfile, Interval, Provenance, engine_fits
from bitsim.energy_tables.errors import shown, suggestion

from .workload import is_whole

ENGINES = ("ideal", "bitsim", "llama.cpp", "bitnet.cpp", "t-mac", "fastertransformer")
# Which software people would use; the first that is fitted for the machine and scheme is taken.
_CANDIDATES = {"gpu": ("fastertransformer",), "cpu": ("bitnet.cpp", "t-mac", "llama.cpp"), "asic": ("ideal",)}
_RUNS_ON = {"gpu": ("fastertransformer",), "cpu": ("bitsim", "llama.cpp", "bitnet.cpp", "t-mac"), "asic": ()}
_FLOAT_SCHEMES = ("fp32", "fp16", "bf16")
# Rooflines without a fit were found 1.4 to 1.9 times too fast by their users (hahnyuan/LLM-Viewer issue 4).
_UNFITTED = Interval(1.0, 1.0, 1.9)
_TRANSFERRED = Interval(1 / 1.9, 1.0, 1.9)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine on one machine with a number of threads, ready to use.

    `slowdown` is the range of its times, `rate_slowdown` of those that the peak rate bounds; `rate_error` is None where
    no published prefill speed stands behind the fraction of the peak rate.
    """

    name: str
    fit: str  # "fitted", "transferred" (fitted on another machine or scheme) or "ideal"
    threads: int
    s_per_byte: float
    s_per_layer: float
    s_per_layer_element: float
    rate_fraction: float
    rate_error: float | None
    slowdown: Interval
    rate_slowdown: Interval
    workspace_bytes: float
    workspace_bytes_per_sqrt_hidden: float
    note: str
    provenance: Provenance | None = None

    def workspace(self, hidden: int) -> float:
        """Memory that the software sets aside at start (bytes), out of which KV cache and activations are served."""
        return max(self.workspace_bytes + self.workspace_bytes_per_sqrt_hidden * math.sqrt(hidden), 0.0)


def resolve_engine(name: str | None, hardware: HardwareProfile, scheme: str, threads: int | None = None) -> Engine:
    """Return the named engine for a machine and scheme, or the one people would use there.

    Args:
        name: one of `ENGINES`; None takes the best fitted for this machine and scheme.
        hardware: the machine.
        scheme: the scheme's name; an engine fitted on other schemes is transferred.
        threads: CPU threads; all cores by default. Ignored on GPUs.

    Raises:
        BitsimError: unknown engine, or a thread count outside 1 to 4,096.
    """
    if name is not None and name.casefold() not in ENGINES:
        raise BitsimError(f"unknown engine '{name[:60]}'{suggestion(name, ENGINES)} (known: {', '.join(ENGINES)})")
    if threads is not None and not (is_whole(threads) and 1 <= threads <= 4096):
        raise BitsimError(f"threads: expected 1 to 4096, got {shown(threads)}")
    parallel = min(threads or hardware.cores, hardware.cores) if hardware.kind == "cpu" else 1
    wanted = name.casefold() if name else _default_engine(hardware, scheme)
    if wanted == "ideal":
        return _ideal(hardware, parallel)
    fit, how = _nearest_fit(wanted, hardware, scheme) if wanted in _RUNS_ON[hardware.kind] else (None, "")
    if fit is None:
        note = f"no published speed of {wanted} on a machine of this kind: roofline with a range"
        return _ideal(hardware, parallel, name=wanted, note=note)
    return engine_from_fit(wanted, fit, how, hardware, parallel)


def _default_engine(hardware: HardwareProfile, scheme: str) -> str:
    candidates = _CANDIDATES[hardware.kind]
    here = [fit for fit in engine_fits() if fit.hardware == hardware.name]
    exact = [fit for fit in here if scheme in fit.schemes]
    for fits in (exact, [fit for fit in here if _near(scheme, fit)]):
        for name in candidates:
            if any(fit.engine == name for fit in fits):
                return name
    return "llama.cpp" if hardware.kind == "cpu" and scheme in _FLOAT_SCHEMES else candidates[0]


def _near(scheme: str, fit: EngineFit) -> bool:
    return scheme in fit.schemes or (scheme in _FLOAT_SCHEMES) == any(
        fitted in _FLOAT_SCHEMES for fitted in fit.schemes
    )


def _nearest_fit(name: str, hardware: HardwareProfile, scheme: str) -> tuple[EngineFit | None, str]:
    """Take the engine's fit for this machine and scheme, else for a scheme of the same kind, here or elsewhere."""
    fits = [fit for fit in engine_fits() if fit.engine == name]
    if not fits:
        return None, ""
    best = max(
        fits,
        key=lambda fit: (_near(scheme, fit), fit.hardware == hardware.name, scheme in fit.schemes, fit.rows),
    )
    if best.hardware == hardware.name and scheme in best.schemes:
        return best, "fitted"
    origin = "" if best.hardware == hardware.name else f" on {best.hardware}"
    schemes = "" if scheme in best.schemes else f" for {', '.join(best.schemes)}"
    return best, f"transferred: {name} was fitted{schemes}{origin}"


def engine_from_fit(name: str, fit: EngineFit, how: str, hardware: HardwareProfile, threads: int) -> Engine:
    """Make an engine from a fit; `how` is "fitted", or "transferred: ..." with the reason."""
    bandwidth = hardware.value("bandwidth_bytes_per_s").mid
    error = max(fit.error_left_out or 0.0, fit.error)
    return Engine(
        name=name,
        fit=how.split(":", maxsplit=1)[0],
        threads=threads,
        s_per_byte=1.0 / (bandwidth * fit.bandwidth_fraction) + fit.thread_s_per_byte / threads,
        s_per_layer=fit.sync_s_per_layer * (1.0 + math.log2(threads)),
        s_per_layer_element=fit.work_s_per_layer_element,
        rate_fraction=fit.rate_fraction,
        rate_error=fit.rate_error,
        slowdown=_around(error) if how == "fitted" else _TRANSFERRED,
        rate_slowdown=_TRANSFERRED if fit.rate_error is None or how != "fitted" else _around(fit.rate_error),
        workspace_bytes=fit.workspace_bytes,
        workspace_bytes_per_sqrt_hidden=fit.workspace_bytes_per_sqrt_hidden,
        note=f"fitted on {fit.rows} published speeds, mean error {fit.error:.0%}" if how == "fitted" else how,
        provenance=fit.provenance,
    )


def _around(error: float) -> Interval:
    return Interval(1.0 / (1.0 + error), 1.0, 1.0 + error)


def _ideal(
    hardware: HardwareProfile,
    threads: int,
    name: str = "ideal",
    note: str = "roofline: no software is this fast",
) -> Engine:
    return Engine(
        name=name,
        fit="ideal",
        threads=threads,
        s_per_byte=1.0 / hardware.value("bandwidth_bytes_per_s").mid,
        s_per_layer=0.0,
        s_per_layer_element=0.0,
        rate_fraction=1.0,
        rate_error=None,
        slowdown=_UNFITTED,
        rate_slowdown=_UNFITTED,
        workspace_bytes=0.0,
        workspace_bytes_per_sqrt_hidden=0.0,
        note=note,
    )
