"""Published numbers, recomputed: ours beside theirs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bitsim.energy_tables import energy_table, hardware_names, model_rows
from bitsim.energy_tables.published import (
    ArithmeticEnergy,
    DecodeSpeed,
    Ratio,
    arithmetic_energies,
    decode_speeds,
    energies_per_token,
    memory_points,
    ratios,
    serving_points,
)

from .engine import ENGINES
from .estimate import estimate
from .footprint import weight_bytes
from .model_spec import ModelSpec
from .paper_energy import PaperEnergy, paper_energy, paper_ratio_per_product
from .resolve import resolve_model
from .result import Estimate
from .schemes import get_scheme
from .serving import serving

_PAPER_HARDWARE = "a100-80gb"  # 2402.17764 does not name its GPU; its numbers fit this one
_NON_EMBEDDING_PACKING = "entropy"  # 2504.12285 counts 1.58 bits a weight


_POWER_SOURCES = ("wang2024bitnetcpp", "wei2024tmac")  # the papers whose joules per token are checked


@dataclass(frozen=True, slots=True)
class Check:
    """One published number beside ours.

    `fitted` says whether the engine that predicts it was fitted to it; `within` whether the two agree as far as the
    published digits allow, where that can be said.
    """

    group: str
    id: str
    what: str
    published: float
    ours: float
    unit: str
    fitted: bool
    within: bool | None
    sources: tuple[str, ...]
    locator: str
    note: str = ""

    @property
    def error(self) -> float:
        """Ours over theirs, less one."""
        return self.ours / self.published - 1.0


def agrees(ours: float, published: float, digits: int) -> bool:
    """True where our number, rounded to the printed decimals, is the printed one."""
    return abs(round(ours, digits) - published) < 0.5 * 10.0**-digits


def _arithmetic() -> Iterator[Check]:
    table = energy_table()
    for row in arithmetic_energies():
        energy = paper_energy(resolve_model(row.model), get_scheme(row.scheme), table, row.node)
        ours = {"add": energy.add_j, "multiply": energy.multiply_j, "total": energy.total_j}[row.component]
        within = None if row.digits is None else agrees(ours, row.value_j, row.digits)
        what = f"{row.model} {row.scheme} {row.node} {row.component}"
        note = "read off a drawing, 1 %" if row.digits is None else ""
        if within is False:
            within, note = (
                _agrees_with_rounded_energies(row, energy),
                "agrees where the int8 add, printed as 0.007 pJ, is up to 0.0075",
            )
        yield Check(
            "arithmetic energy",
            row.id,
            what,
            row.value_j,
            ours,
            "J",
            False,
            within,
            row.provenance.sources,
            row.provenance.locator,
            note,
        )


def _agrees_with_rounded_energies(row: ArithmeticEnergy, energy: PaperEnergy) -> bool:
    """True where the printed cell agrees for some energy of an addition that rounds to the printed one."""
    unit = {"7nm": 0.001e-12, "45nm": 0.01e-12}[row.node]  # last printed digit of the int8 add
    printed = energy_table().operation(row.node, "add", "int8").energy_j.mid
    highest = energy.linear_add_j * (1.0 + unit / 2 / printed) + energy.attention_add_j
    tolerance = 0.5 * 10.0 ** -(row.digits or 0)
    return (
        row.component == "add" and row.scheme == "b1" and energy.add_j - tolerance <= row.value_j <= highest + tolerance
    )


def _ratios() -> Iterator[Check]:
    for row in ratios():
        ours = _ratio(row)
        printed = row.quantity in ("energy_per_mac_ratio", "energy_ratio")
        within = agrees(ours, row.value, row.digits) if printed else None
        what = f"{row.quantity.replace('_', ' ')} {row.model}".strip()
        yield Check(
            "ratios",
            row.id,
            what,
            row.value,
            ours,
            "x",
            not printed,
            within,
            row.provenance.sources,
            row.provenance.locator,
        )


def _ratio(row: Ratio) -> float:
    if row.quantity == "energy_per_mac_ratio":
        return paper_ratio_per_product(energy_table(), "7nm", "int8")
    full, ternary = (
        _paper_run(row.model, scheme, "paper" if row.quantity == "energy_ratio" else "full")
        for scheme in ("fp16", "b1.58")
    )
    if row.quantity == "energy_ratio":
        return full.energy_j["total"].mid / ternary.energy_j["total"].mid
    if row.quantity == "latency_ratio":
        return full.per_new_token_s.mid / ternary.per_new_token_s.mid
    return full.dram_bytes.total / ternary.dram_bytes.total


def _paper_run(model: str, scheme: str, mode: str) -> Estimate:
    tokens = (512, 0) if mode == "paper" else (0, 128)
    return estimate(
        model, scheme, _PAPER_HARDWARE, energy=mode, prompt_tokens=tokens[0], new_tokens=tokens[1], devices=4
    )


def _memory() -> Iterator[Check]:
    for row in memory_points():
        if row.what == "total":
            ours = _paper_run(row.model, row.scheme, "full").dram_bytes.total
        else:
            packing = _NON_EMBEDDING_PACKING if row.scheme == "b1.58" else None
            ours = weight_bytes(resolve_model(row.model), get_scheme(row.scheme, packing))
        within = abs(ours / row.value_bytes - 1.0) <= 0.05 if row.what == "total" else None
        what = f"{row.model} {row.scheme} {row.what.replace('_', '-')}"
        yield Check(
            "memory",
            row.id,
            what,
            row.value_bytes,
            ours,
            "B",
            row.what == "total",
            within,
            row.provenance.sources,
            row.provenance.locator,
        )


def _speeds() -> Iterator[Check]:
    known = set(hardware_names())
    for row in decode_speeds():
        if row.hardware in known and row.software in ENGINES:
            ours = predicted_speed(row)
            threads = "all" if row.threads is None else row.threads
            what = f"{row.software} {row.hardware} {row.model} {row.scheme} {row.phase}, {threads} threads"
            group = f"{row.phase} speed: {row.software} on {row.hardware}"
            yield Check(
                group,
                row.id,
                what,
                row.tokens_per_s,
                ours,
                "tokens/s",
                row.fit,
                None,
                row.provenance.sources,
                row.provenance.locator,
                row.provenance.note,
            )


def predicted_speed(row: DecodeSpeed) -> float:
    """Predict one published speed (tokens/s) with the fitted engine."""
    if row.phase == "prefill":
        tokens = row.prompt_tokens or 128
        run = estimate(
            row.model,
            row.scheme,
            row.hardware,
            engine=row.software,
            threads=row.threads,
            prompt_tokens=tokens,
            new_tokens=0,
        )
        return tokens / run.prefill_s.mid
    new = row.new_tokens or 128
    run = estimate(
        row.model,
        row.scheme,
        row.hardware,
        engine=row.software,
        threads=row.threads,
        prompt_tokens=row.prompt_tokens or 0,
        new_tokens=new,
    )
    return run.tokens_per_s.mid


def _joules() -> Iterator[Check]:
    for row in energies_per_token():
        if row.hardware not in hardware_names() or row.software not in ENGINES:
            continue
        run = estimate(row.model, row.scheme, row.hardware, engine=row.software, prompt_tokens=0, new_tokens=128)
        energy = run.energy_per_new_token_j
        # Where the profile's busy watts come from the same source, the number is not news to it.
        seen = set(run.hardware.quantities["busy_w"].provenance.sources) & set(_POWER_SOURCES)
        if energy is not None:
            within = energy.low <= row.energy_j_per_token <= energy.high
            what = f"{row.software} {row.hardware} {row.model} {row.scheme}"
            note = "inside our range" if within else "outside our range"
            yield Check(
                "energy per token",
                row.id,
                what,
                row.energy_j_per_token,
                energy.mid,
                "J",
                bool(seen),
                within,
                row.provenance.sources,
                row.provenance.locator,
                note,
            )


def _serving() -> Iterator[Check]:
    for row in serving_points():
        half = row.sequence_tokens // 2
        run = serving(
            row.model,
            row.scheme,
            row.hardware,
            devices=row.devices,
            prompt_tokens=half,
            new_tokens=row.sequence_tokens - half,
        )
        what = f"{row.model} {row.scheme} on {row.devices} x {row.hardware}"
        for name, published, ours, unit in (
            ("largest batch", row.max_batch, run.max_batch, "sequences"),
            ("throughput", row.tokens_per_s, run.tokens_per_s.mid if run.tokens_per_s else 0.0, "tokens/s"),
        ):
            yield Check(
                "serving",
                f"{row.id}-{unit}",
                f"{what}, {name}",
                published,
                ours,
                unit,
                False,
                None,
                row.provenance.sources,
                row.provenance.locator,
            )


def _parameters() -> Iterator[Check]:
    for row in model_rows().values():
        if row.parameters is not None:
            ours = ModelSpec.from_row(row).parameters
            yield Check(
                "parameter counts",
                row.name,
                row.name,
                row.parameters,
                ours,
                "parameters",
                False,
                ours == row.parameters,
                row.provenance.sources,
                row.provenance.locator,
            )


GROUPS: dict[str, Callable[[], Iterator[Check]]] = {
    "arithmetic": _arithmetic,
    "ratios": _ratios,
    "memory": _memory,
    "parameters": _parameters,
    "speeds": _speeds,
    "energy": _joules,
    "serving": _serving,
}


def validate(group: str | None = None) -> list[Check]:
    """Recompute the published numbers, or one group of them (a key of `GROUPS`)."""
    chosen = GROUPS.values() if group is None else [GROUPS[group]]
    return [check for make in chosen for check in make()]


def mean_absolute_error(checks: list[Check]) -> float:
    """Mean of the absolute relative errors."""
    return sum(abs(check.error) for check in checks) / len(checks) if checks else 0.0
