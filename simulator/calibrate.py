"""Fit engines to published speeds: `python -m bitsim.simulator.calibrate > energy_tables/data/engines.csv`.

The time of a decode step is linear in the four numbers of an engine (see `engine.py`), so a fit is a non-negative least
squares problem on relative errors, re-weighted towards absolute errors so that one odd row does not bend it. What a
byte takes at the peak bandwidth is a floor that no fit can go below. The error on rows left out is found by leaving
out every row of one model at a time.
"""

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar, nnls

from bitsim.energy_tables import EngineFit, HardwareProfile, Provenance, hardware_names, load_hardware
from bitsim.energy_tables.published import DecodeSpeed, decode_speeds, memory_points
from bitsim.energy_tables.tables import ENGINE_COLUMNS

from .engine import Engine, engine_from_fit, resolve_engine
from .estimate import estimate
from .footprint import embedding_and_head_bytes, weight_bytes
from .resolve import resolve_model
from .schemes import get_scheme
from .system import peak_rate

Array = npt.NDArray[np.float64]

# One engine has one set of kernels for each of these groups of schemes; where a group is not listed, it is one scheme.
_FAMILIES = {
    ("t-mac", "raspberry-pi-5"): (("b1.58", "w2a16", "w4a16"),),
    # On the M2 Ultra the published 2- and 4-bit runs used fast aggregation and the ternary ones did not.
    ("t-mac", "m2-ultra"): (("b1.58",), ("w2a16", "w4a16")),
}
DEFAULT_RATE_FRACTION = 0.5  # of peak, in compute-bound phases, where no published prefill speed says better
_RATE_MARGIN = 1.25  # ... but at least this much above what decoding alone shows the software to reach
_REWEIGHTINGS = 40
_ERROR_FLOOR = 0.02  # relative errors below this weigh alike


@dataclass(frozen=True, slots=True)
class Point:
    """One measured decode speed, with what the engine's time depends on."""

    row: DecodeSpeed
    bytes_moved: float
    threads: int
    layers: int
    hidden: int

    @property
    def seconds(self) -> float:
        """Measured time per token."""
        return 1.0 / self.row.tokens_per_s

    def terms(self) -> tuple[float, float, float, float]:
        """What multiplies memory s/byte, thread s/byte, sync s/layer, work s/(layer x element)."""
        return (
            self.bytes_moved,
            self.bytes_moved / self.threads,
            self.layers * (1.0 + math.log2(self.threads)),
            self.layers * float(self.hidden),
        )


def point_of(row: DecodeSpeed) -> Point:
    """Count the bytes of one published row with bitsim's own traffic model."""
    result = estimate(
        row.model,
        row.scheme,
        row.hardware,
        engine="ideal",
        threads=row.threads,
        prompt_tokens=0,
        new_tokens=row.new_tokens or 128,
    )
    return Point(
        row,
        result.traffic_bytes["per_step"],
        result.engine.threads,
        result.model.layers,
        result.model.hidden,
    )


def solve(points: Sequence[Point], peak_s_per_byte: float) -> Array:
    """Return the four engine numbers; the first is at least `peak_s_per_byte`."""
    terms = np.array([point.terms() for point in points])
    seconds = np.array([point.seconds for point in points])
    floor = terms[:, 0] * peak_s_per_byte
    scale = np.maximum(np.abs(terms).max(axis=0), 1e-30)
    weights = 1.0 / seconds
    solution = np.zeros(4)
    for _ in range(_REWEIGHTINGS):
        solution, _ = nnls(terms / scale * weights[:, None], (seconds - floor) * weights)
        error = np.abs(terms @ (solution / scale) + floor - seconds) / seconds
        weights = 1.0 / seconds / np.sqrt(np.maximum(error, _ERROR_FLOOR))
    found: Array = solution / scale
    found[0] += peak_s_per_byte
    return found


def speed_errors(points: Sequence[Point], numbers: Array) -> Array:
    """Relative error of each predicted speed."""
    predicted = np.array([point.terms() for point in points]) @ numbers
    errors: Array = np.array([point.seconds for point in points]) / predicted - 1.0
    return errors


def left_out_errors(points: Sequence[Point], peak_s_per_byte: float) -> Array | None:
    """Relative errors on rows predicted from the rows of other models; None where that cannot be done.

    A model is not left out where the others were only run at one thread count: what threads do could not be known.
    """
    models = sorted({(point.row.model, point.row.scheme) for point in points})
    several_counts = len({point.threads for point in points}) > 1
    parts = []
    for model in models:
        inside = [point for point in points if (point.row.model, point.row.scheme) != model]
        outside = [point for point in points if (point.row.model, point.row.scheme) == model]
        if inside and not (several_counts and len({point.threads for point in inside}) == 1):
            parts.append(speed_errors(outside, solve(inside, peak_s_per_byte)))
    return np.concatenate(parts) if parts else None


def groups() -> dict[tuple[str, str, tuple[str, ...]], list[DecodeSpeed]]:
    """Group the rows that are for fitting by software, hardware and family of schemes."""
    found: dict[tuple[str, str, tuple[str, ...]], list[DecodeSpeed]] = {}
    known = set(hardware_names())
    for row in decode_speeds():
        if row.fit and row.hardware in known:
            families = _FAMILIES.get((row.software, row.hardware), ())
            family = next((family for family in families if row.scheme in family), (row.scheme,))
            found.setdefault((row.software, row.hardware, family), []).append(row)
    return found


def fit_group(software: str, hardware_name: str, schemes: tuple[str, ...], rows: Sequence[DecodeSpeed]) -> EngineFit:
    """Fit one engine on one machine."""
    hardware = load_hardware(hardware_name)
    peak = 1.0 / hardware.value("bandwidth_bytes_per_s").mid
    points = [point_of(row) for row in rows if row.phase == "decode"]
    numbers = solve(points, peak)
    left_out = left_out_errors(points, peak)
    workspace = fit_workspace(hardware_name) if software == "fastertransformer" else (0.0, 0.0)
    fit = EngineFit(
        engine=software,
        hardware=hardware_name,
        schemes=schemes,
        bandwidth_fraction=peak / float(numbers[0]),
        thread_s_per_byte=float(numbers[1]) if hardware.kind == "cpu" else 0.0,
        sync_s_per_layer=float(numbers[2]),
        work_s_per_layer_element=float(numbers[3]),
        rate_fraction=max(DEFAULT_RATE_FRACTION, _RATE_MARGIN * max(_rate_shown(point, hardware) for point in points)),
        workspace_bytes=workspace[0],
        workspace_bytes_per_sqrt_hidden=workspace[1],
        rows=len(points),
        rate_rows=sum(row.phase == "prefill" for row in rows),
        rate_error=None,
        error=float(np.abs(speed_errors(points, numbers)).mean()),
        error_left_out=None if left_out is None else float(np.abs(left_out).mean()),
        provenance=Provenance(
            _sources(rows), "; ".join(dict.fromkeys(row.provenance.locator for row in rows)), "derived"
        ),
    )
    if hardware.kind != "cpu":  # one stream of work: what "threads" took belongs to the memory roof
        fit = fit._replace(bandwidth_fraction=peak / float(numbers[0] + numbers[1]))
    prefill = [row for row in rows if row.phase == "prefill"]
    if not prefill:
        return fit
    fit = fit._replace(rate_fraction=fit_rate(fit, hardware, prefill))
    return fit._replace(rate_error=prefill_error(fit, hardware, prefill))


def _rate_shown(point: Point, hardware: HardwareProfile) -> float:
    """Fraction of the peak rate of its threads that one measured decode speed amounts to."""
    share = point.threads / hardware.cores if hardware.kind == "cpu" else 1.0
    spec = resolve_model(point.row.model)
    return (
        2.0 * spec.parameters_active / point.seconds / (peak_rate(hardware, get_scheme(point.row.scheme).rates) * share)
    )


def fit_rate(fit: EngineFit, hardware: HardwareProfile, rows: Sequence[DecodeSpeed]) -> float:
    """Fit the fraction of the peak rate that prefill reaches."""
    engines = {row.threads: replace(_engine(fit, hardware, row), rate_fraction=1.0) for row in rows}

    def miss(log_fraction: float) -> float:
        return sum(
            abs(
                math.log(
                    _prefill_speed(row, hardware, replace(engines[row.threads], rate_fraction=math.exp(log_fraction)))
                    / row.tokens_per_s
                )
            )
            for row in rows
        )

    best = minimize_scalar(miss, bounds=(math.log(1e-3), 0.0), method="bounded")
    return float(math.exp(best.x))


def prefill_error(fit: EngineFit, hardware: HardwareProfile, rows: Sequence[DecodeSpeed]) -> float:
    """Mean absolute error of the predicted prefill speeds."""
    errors = [_prefill_speed(row, hardware, _engine(fit, hardware, row)) / row.tokens_per_s - 1.0 for row in rows]
    return float(np.abs(errors).mean())


def _engine(fit: EngineFit, hardware: HardwareProfile, row: DecodeSpeed) -> Engine:
    ideal = resolve_engine("ideal", hardware, row.scheme, row.threads)
    return engine_from_fit(fit.engine, fit, "fitted", hardware, ideal.threads)


def _prefill_speed(row: DecodeSpeed, hardware: HardwareProfile, engine: Engine) -> float:
    result = estimate(
        row.model, row.scheme, hardware, engine=engine, prompt_tokens=row.prompt_tokens or 128, new_tokens=0
    )
    return (row.prompt_tokens or 128) / result.prefill_s.mid


def fit_workspace(hardware_name: str) -> tuple[float, float]:
    """Fit what the software sets aside beyond the weights: a + b sqrt(hidden), in bytes.

    Empirical: the papers do not describe their buffers, and of the forms tried (constant, linear in hidden width, in KV
    bytes, in weights) this is the one that holds from 700M to 70B.
    """
    terms, rest, total = [], [], []
    for point in memory_points():
        if point.what != "total" or point.hardware != hardware_name:
            continue
        spec, scheme = resolve_model(point.model), get_scheme(point.scheme)
        terms.append((1.0, math.sqrt(spec.hidden)))
        rest.append(point.value_bytes - weight_bytes(spec, scheme) - embedding_and_head_bytes(spec, scheme))
        total.append(point.value_bytes)
    matrix, scale = np.array(terms), 1.0 / np.array(total)
    solution = np.linalg.lstsq(matrix * scale[:, None], np.array(rest) * scale, rcond=None)[0]
    return float(solution[0]), float(solution[1])


def _sources(rows: Sequence[DecodeSpeed]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for row in rows for key in row.provenance.sources))


def main() -> None:
    """Print engines.csv."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(ENGINE_COLUMNS)
    for (software, hardware, schemes), rows in sorted(groups().items()):
        fit = fit_group(software, hardware, schemes, rows)
        cells = [getattr(fit, name) for name in ENGINE_COLUMNS[:-4]]
        texts = [
            " ".join(cell)
            if isinstance(cell, tuple)
            else f"{cell:.4g}"
            if isinstance(cell, float)
            else ""
            if cell is None
            else cell
            for cell in cells
        ]
        source = fit.provenance
        writer.writerow(
            [
                *texts,
                " ".join(source.sources),
                source.locator,
                source.status,
                "fitted by bitsim.simulator.calibrate",
            ]
        )


if __name__ == "__main__":
    main()
