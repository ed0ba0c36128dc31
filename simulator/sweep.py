"""A grid of designs at once, by vectorised numpy: the same formulas as `estimate`, and bit for bit its mid values."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bitsim.energy_tables import BitsimError, HardwareProfile, energy_table, load_hardware

from .cost import Machine, energy_parts, phase_cost, step_energy_parts
from .engine import resolve_engine
from .footprint import (
    PREFILL_ROWS,
    embedding_and_head_bytes,
    kv_bytes_per_token,
    weight_bytes,
    widest_elements,
)
from .model_spec import ModelSpec
from .operations import Shape, Widths, decode_load, prefill_load
from .resolve import resolve_size_or_model
from .schemes import Scheme, get_scheme
from .system import System, machine_of, shape_of, widths_of
from .workload import make_workload

Array = npt.NDArray[np.float64]
Bundle = TypeVar("Bundle", Shape, Widths, Machine)

MAX_POINTS = 50_000_000
_CHUNK = 8192  # points evaluated together: their arrays stay in cache
OBJECTIVES = ("energy_per_new_token_j", "per_new_token_s", "dram_bytes")


@dataclass(frozen=True, slots=True)
class _Setting:
    """A model on a system, with everything about it that is not the workload."""

    labels: tuple[str, str, str, str, int]
    shape: Shape
    widths: Widths
    machine: Machine
    weights_bytes: float
    embedding_bytes: float
    kv_bytes: float
    widest: float
    workspace: float
    capacity: float


def sweep(  # noqa: PLR0913 - keywords, one for each option of the command
    models: Sequence[str | ModelSpec],
    schemes: Sequence[str | Scheme] = ("fp16", "b1.58"),
    hardware: Sequence[str | HardwareProfile] = ("a100-80gb",),
    *,
    engine: str | None = None,
    batch: Iterable[int] = (1,),
    prompt_tokens: Iterable[int] = (512,),
    new_tokens: Iterable[int] = (128,),
    devices: Iterable[int] = (1,),
    split: str = "pipeline",
    threads: int | None = None,
) -> pd.DataFrame:
    """Evaluate every combination of the given values.

    Returns:
        One row per combination, in the order of `itertools.product` over models, schemes, hardware, devices, batch,
        prompt_tokens and new_tokens; units are in the column names.

    Raises:
        BitsimError: an unknown name, a value out of range, or more than 50 million combinations.
    """
    specs = [model if isinstance(model, ModelSpec) else resolve_size_or_model(model) for model in models]
    chosen = [scheme if isinstance(scheme, Scheme) else get_scheme(scheme) for scheme in schemes]
    profiles = [name if isinstance(name, HardwareProfile) else load_hardware(name) for name in hardware]
    systems = [
        System(
            scheme=scheme,
            hardware=profile,
            engine=resolve_engine(engine, profile, scheme.name, threads),
            table=energy_table(),
            node=profile.energy_node,
            devices=count,
            split=split,
        )
        for scheme, profile, count in itertools.product(chosen, profiles, tuple(devices))
    ]
    settings = _settings(specs, systems)
    axes = [tuple(batch), tuple(prompt_tokens), tuple(new_tokens)]
    total = len(settings) * math.prod(len(axis) for axis in axes)
    if not 0 < total <= MAX_POINTS:
        raise BitsimError(f"sweep: expected 1 to {MAX_POINTS:,} combinations, got {total:,}")
    work = [make_workload(*values) for values in itertools.product(*axes)]
    loads = np.array([(w.batch, w.prompt_tokens, w.new_tokens, w.mean_past) for w in work], dtype=np.float64)
    table = _Table(settings)
    results: dict[str, list[Array]] = {}
    for start in range(0, total, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, total))
        for name, values in table.evaluate(index // len(work), loads[index % len(work)]).items():
            results.setdefault(name, []).append(values)
    return _frame(settings, loads, {name: np.concatenate(parts) for name, parts in results.items()})


def pareto_front(frame: pd.DataFrame, minimise: Sequence[str] = OBJECTIVES) -> pd.DataFrame:
    """Keep the rows that no other row beats: none is as good in all of `minimise` and better in one."""
    missing = [name for name in minimise if name not in frame.columns]
    if missing:
        raise BitsimError(f"Pareto front: unknown column {', '.join(missing)}")
    values = frame[list(minimise)].to_numpy(dtype=np.float64)
    order = np.lexsort(values.T[::-1])
    front: list[int] = []
    kept = np.empty((0, len(minimise)))
    for position in order:  # in ascending order, a row can only be beaten by rows already kept
        row = values[position]
        if not np.any(np.all(kept <= row, axis=1) & np.any(kept < row, axis=1)):
            front.append(int(position))
            kept = np.vstack([kept, row])
    return frame.iloc[sorted(front)]


def _settings(specs: Sequence[ModelSpec], systems: Sequence[System]) -> list[_Setting]:
    machines = [(machine_of(system, "mid"), machine_of(system, "mid", on_chip=True)) for system in systems]
    return [
        _setting(spec, system, on_chip if system.keeps_on_chip(spec) else from_dram)
        for spec in specs
        for system, (from_dram, on_chip) in zip(systems, machines, strict=True)
    ]


def _setting(spec: ModelSpec, system: System, machine: Machine) -> _Setting:
    scheme = system.scheme
    return _Setting(
        labels=(spec.name, scheme.name, system.hardware.name, system.engine.name, system.devices),
        shape=shape_of(spec),
        widths=widths_of(scheme),
        machine=machine,
        weights_bytes=weight_bytes(spec, scheme),
        embedding_bytes=embedding_and_head_bytes(spec, scheme),
        kv_bytes=kv_bytes_per_token(spec, scheme),
        widest=float(widest_elements(spec)),
        workspace=system.engine.workspace(spec.hidden),
        capacity=system.capacity_bytes,
    )


def _power(base: Any, exponent: Any) -> Any:
    """`pow` of the C library on each pair of values, as `estimate` uses it (numpy's own may differ in the last bit)."""
    if np.all(base == 0.0):  # dense models
        return np.where(exponent == 0.0, 1.0, 0.0)
    return np.frompyfunc(pow, 2, 1)(base, exponent).astype(np.float64)


class _Table:
    """The settings as columns of numbers, to be picked by index."""

    def __init__(self, settings: Sequence[_Setting]) -> None:
        self._shapes = _columns([setting.shape for setting in settings])
        self._widths = _columns([setting.widths for setting in settings])
        self._machines = _columns([setting.machine for setting in settings])
        names = ("weights_bytes", "embedding_bytes", "kv_bytes", "widest", "workspace")
        self._memory = {name: np.array([getattr(setting, name) for setting in settings]) for name in names}

    def evaluate(self, setting: npt.NDArray[np.int64], loads: Array) -> dict[str, Array]:
        """Return the result columns of the given settings with the given loads, row by row."""
        batch, prompt, new, past = loads.T
        shape, widths = _pick(Shape, self._shapes, setting), _pick(Widths, self._widths, setting)
        machine = _pick(Machine, self._machines, setting)
        prefill = phase_cost(shape, widths, prefill_load(batch, prompt, 0.0 * prompt), machine, np.maximum, _power)
        decode = phase_cost(shape, widths, decode_load(batch, past), machine, np.maximum, _power)
        per_token_s = decode.latency_s
        return {
            "energy_total_j": energy_parts(prefill, decode, new)["total"],
            "energy_per_new_token_j": step_energy_parts(decode)["total"] / batch,
            "prefill_s": prefill.latency_s,
            "per_new_token_s": per_token_s,
            "latency_s": prefill.latency_s + new * per_token_s,
            "tokens_per_s": batch / per_token_s,
            "dram_bytes": self._footprint(setting, shape, widths, batch, prompt, prompt + new),
        }

    def _footprint(
        self,
        setting: npt.NDArray[np.int64],
        shape: Shape,
        widths: Widths,
        batch: Array,
        prompt: Array,
        context: Array,
    ) -> Array:
        """`footprint.footprint(...).total`, on columns."""
        memory = {name: values[setting] for name, values in self._memory.items()}
        kv_cache = batch * context * memory["kv_bytes"]
        rows = np.maximum(np.minimum(batch * prompt, PREFILL_ROWS), batch)
        activations = (rows * memory["widest"] + batch * shape.vocab) * (widths.hidden * 8.0) / 8.0
        runtime = np.maximum(memory["workspace"] - kv_cache - activations, 0.0)
        total: Array = memory["weights_bytes"] + memory["embedding_bytes"] + kv_cache + activations + runtime
        return total


def _columns(bundles: Sequence[Bundle]) -> dict[str, Array]:
    return {name: np.array([getattr(bundle, name) for bundle in bundles]) for name in bundles[0]._fields}


def _pick(kind: type[Bundle], columns: dict[str, Array], index: npt.NDArray[np.int64]) -> Bundle:
    return kind(**{name: values[index] for name, values in columns.items()})


def _frame(settings: Sequence[_Setting], loads: Array, results: dict[str, Array]) -> pd.DataFrame:
    each = len(loads)
    labels = list(zip(*(setting.labels for setting in settings), strict=True))
    names = ("model", "scheme", "hardware", "engine")
    columns: dict[str, Any] = {name: _repeated(values, each) for name, values in zip(names, labels[:4], strict=True)}
    columns["devices"] = np.repeat(np.array(labels[4]), each)
    for position, name in enumerate(("batch", "prompt_tokens", "new_tokens")):
        columns[name] = np.tile(loads[:, position].astype(np.int64), len(settings))
    capacity = np.repeat(np.array([setting.capacity for setting in settings]), each)
    return pd.DataFrame(columns | results | {"fits": results["dram_bytes"] <= capacity})


def _repeated(values: Sequence[str], each: int) -> Any:
    names = list(dict.fromkeys(values))
    place = {name: code for code, name in enumerate(names)}
    codes = np.repeat(np.array([place[value] for value in values]), each)
    return pd.Categorical.from_codes(codes, categories=pd.Index(names))
