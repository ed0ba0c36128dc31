"""Numbers that papers and repositories print, to fit engines to and to check bitsim against."""

from dataclasses import dataclass
from functools import cache

from .citations import DATA
from .records import PROVENANCE_COLUMNS, Provenance, Record, read_csv

PUBLISHED = DATA / "published"


def _optional_integer(record: Record, field: str) -> int | None:
    return None if record.optional_number(field) is None else record.integer(field, minimum=0)


@dataclass(frozen=True, slots=True)
class DecodeSpeed:
    """Tokens per second of a software on a machine.

    `threads` is None for the best count; `fit` says whether engines are fitted to it, or only checked against it.
    """

    id: str
    software: str
    hardware: str
    model: str
    scheme: str
    threads: int | None
    tokens_per_s: float
    phase: str
    prompt_tokens: int | None
    new_tokens: int | None
    fit: bool
    provenance: Provenance


@cache
def decode_speeds() -> tuple[DecodeSpeed, ...]:
    """Load the published speeds (decode, and some prefill)."""
    columns = (*DecodeSpeed.__slots__[:-1], *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "decode_speed.csv", columns, _speed_row))


def _speed_row(record: Record) -> DecodeSpeed:
    return DecodeSpeed(
        id=record.text("id"),
        software=record.text("software"),
        hardware=record.text("hardware"),
        model=record.text("model"),
        scheme=record.text("scheme"),
        threads=_optional_integer(record, "threads"),
        tokens_per_s=record.number("tokens_per_s"),
        phase=record.choice("phase", ("decode", "prefill")),
        prompt_tokens=_optional_integer(record, "prompt_tokens"),
        new_tokens=_optional_integer(record, "new_tokens"),
        fit=record.boolean("fit"),
        provenance=record.provenance(),
    )


@dataclass(frozen=True, slots=True)
class ArithmeticEnergy:
    """Energy (J) that a paper prints for one pass of 512 tokens. `digits` None: read off a drawing."""

    id: str
    paper: str
    model: str
    scheme: str
    node: str
    component: str
    value_j: float
    digits: int | None
    doubtful: bool
    provenance: Provenance


@cache
def arithmetic_energies() -> tuple[ArithmeticEnergy, ...]:
    """Load the papers' arithmetic energies."""
    columns = (*ArithmeticEnergy.__slots__[:-1], *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "arithmetic_energy.csv", columns, _energy_row))


def _energy_row(record: Record) -> ArithmeticEnergy:
    return ArithmeticEnergy(
        id=record.text("id"),
        paper=record.text("paper"),
        model=record.text("model"),
        scheme=record.text("scheme"),
        node=record.text("node"),
        component=record.choice("component", ("add", "multiply", "total")),
        value_j=record.number("value_j"),
        digits=_optional_integer(record, "digits"),
        doubtful=record.boolean("doubtful"),
        provenance=record.provenance(),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """A printed ratio of FP16 over ternary."""

    id: str
    paper: str
    quantity: str
    model: str
    value: float
    digits: int
    provenance: Provenance


@cache
def ratios() -> tuple[Ratio, ...]:
    """Load the printed ratios."""
    columns = (*Ratio.__slots__[:-1], *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "ratios.csv", columns, _ratio_row))


def _ratio_row(record: Record) -> Ratio:
    return Ratio(
        id=record.text("id"),
        paper=record.text("paper"),
        quantity=record.text("quantity"),
        model=str(record.cells["model"]),
        value=record.number("value"),
        digits=record.integer("digits", minimum=0),
        provenance=record.provenance(),
    )


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Memory of a model (bytes) as printed or drawn: `total` while decoding, or `non_embedding` weights."""

    id: str
    paper: str
    what: str
    model: str
    scheme: str
    value_bytes: float
    hardware: str
    provenance: Provenance


@cache
def memory_points() -> tuple[MemoryPoint, ...]:
    """Load the published memory figures."""
    columns = ("id", "paper", "what", "model", "scheme", "value_gb", "hardware", *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "memory.csv", columns, _memory_row))


def _memory_row(record: Record) -> MemoryPoint:
    return MemoryPoint(
        id=record.text("id"),
        paper=record.text("paper"),
        what=record.choice("what", ("total", "non_embedding")),
        model=record.text("model"),
        scheme=record.text("scheme"),
        value_bytes=record.number("value_gb") * 1e9,
        hardware=str(record.cells["hardware"]),
        provenance=record.provenance(),
    )


@dataclass(frozen=True, slots=True)
class EnergyPerToken:
    """Joules per token that a software took, as published; `power_w` where that was."""

    id: str
    software: str
    hardware: str
    model: str
    scheme: str
    energy_j_per_token: float
    power_w: float | None
    provenance: Provenance


@cache
def energies_per_token() -> tuple[EnergyPerToken, ...]:
    """Load the published joules per token."""
    columns = (*EnergyPerToken.__slots__[:-1], *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "energy_per_token.csv", columns, _joule_row))


def _joule_row(record: Record) -> EnergyPerToken:
    return EnergyPerToken(
        id=record.text("id"),
        software=record.text("software"),
        hardware=record.text("hardware"),
        model=record.text("model"),
        scheme=record.text("scheme"),
        energy_j_per_token=record.number("energy_j_per_token"),
        power_w=record.optional_number("power_w"),
        provenance=record.provenance(),
    )


@dataclass(frozen=True, slots=True)
class ServingPoint:
    """Largest batch and throughput that a paper reports."""

    id: str
    paper: str
    model: str
    scheme: str
    hardware: str
    devices: int
    sequence_tokens: int
    max_batch: int
    tokens_per_s: float
    provenance: Provenance


@cache
def serving_points() -> tuple[ServingPoint, ...]:
    """Load the published serving figures."""
    columns = (*ServingPoint.__slots__[:-1], *PROVENANCE_COLUMNS)
    return tuple(read_csv(PUBLISHED / "serving.csv", columns, _serving_row))


def _serving_row(record: Record) -> ServingPoint:
    return ServingPoint(
        id=record.text("id"),
        paper=record.text("paper"),
        model=record.text("model"),
        scheme=record.text("scheme"),
        hardware=record.text("hardware"),
        devices=record.integer("devices"),
        sequence_tokens=record.integer("sequence_tokens"),
        max_batch=record.integer("max_batch"),
        tokens_per_s=record.number("tokens_per_s"),
        provenance=record.provenance(),
    )
