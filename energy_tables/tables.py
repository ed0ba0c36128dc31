"""The CSV tables as typed rows. `data/README.md` says what each holds and where it came from."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .citations import DATA
from .errors import BitsimError
from .interval import Interval
from .records import PROVENANCE_COLUMNS, Provenance, Record, read_csv
from .units import BITS_PER_BYTE, JOULES_PER_KWH, PICO

OPERATIONS = ("add", "multiply")
FORMATS = ("binary", "int4", "int8", "int16", "int32", "fp16", "bf16", "fp32")
LOSS_FORMS = ("chinchilla", "power", "kaplan")
SIZE_COUNTS = ("parameters", "non_embedding")  # what a loss law may count as the size


class Energy(NamedTuple):
    """Energy of one operation (J) or of moving one byte (J/B), with its source."""

    energy_j: Interval
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class EnergyTable:
    """Energies by process node: arithmetic operations and memory accesses."""

    operations: Mapping[tuple[str, str, str], Energy]
    memories: Mapping[tuple[str, str], Energy]

    def operation(self, node: str, operation: str, number_format: str) -> Energy:
        """Return the energy of one `add` or `multiply` in a number format at a node (J)."""
        try:
            return self.operations[node, operation, number_format]
        except KeyError:
            raise BitsimError(f"op_energy: no row for {operation} {number_format} at {node}") from None

    def memory(self, memory: str, node: str) -> Energy:
        """Return the energy of moving one byte (J/B) through a memory: DRAM by type, SRAM by type and node."""
        found = (
            self.memories.get((memory, "")) or self.memories.get((memory, node)) or self.memories.get((memory, "7nm"))
        )
        if found is None:
            raise BitsimError(f"memory_energy: no row for '{memory}'; known: {', '.join(self.memory_names)}")
        return found

    @property
    def memory_names(self) -> list[str]:
        """The kinds of memory and link that have a row."""
        return sorted({name for name, _ in self.memories})

    @property
    def nodes(self) -> list[str]:
        """The process nodes that have arithmetic rows."""
        return sorted({node for node, _, _ in self.operations})


_OP_COLUMNS = (
    "node",
    "operation",
    "number_format",
    "energy_pj_low",
    "energy_pj",
    "energy_pj_high",
    *PROVENANCE_COLUMNS,
)
_MEMORY_COLUMNS = (
    "memory",
    "node",
    "capacity_bytes",
    "energy_pj_per_bit_low",
    "energy_pj_per_bit",
    "energy_pj_per_bit_high",
    *PROVENANCE_COLUMNS,
)


@cache
def energy_table(extra: Path | None = None) -> EnergyTable:
    """Load the arithmetic and memory energies; rows of `extra` (the form of op_energy.csv) add to or replace them."""
    operations = dict(read_csv(DATA / "op_energy.csv", _OP_COLUMNS, _op_row))
    if extra is not None:
        operations.update(read_csv(extra, _OP_COLUMNS, _op_row))
    return EnergyTable(operations, dict(read_csv(DATA / "memory_energy.csv", _MEMORY_COLUMNS, _memory_row)))


def _op_row(record: Record) -> tuple[tuple[str, str, str], Energy]:
    key = (
        record.text("node"),
        record.choice("operation", OPERATIONS),
        record.choice("number_format", FORMATS),
    )
    energy = record.interval("energy_pj_low", "energy_pj", "energy_pj_high").scaled(PICO)
    if energy.low <= 0:
        raise record.error("energy_pj_low" if record.cells["energy_pj_low"] else "energy_pj", "a number above 0")
    return key, Energy(energy, record.provenance())


def _memory_row(record: Record) -> tuple[tuple[str, str], Energy]:
    energy = record.interval("energy_pj_per_bit_low", "energy_pj_per_bit", "energy_pj_per_bit_high").scaled(
        PICO * BITS_PER_BYTE
    )
    return (record.text("memory"), str(record.cells["node"])), Energy(energy, record.provenance())


class ModelRow(NamedTuple):
    """Shape of a published model; the fields are those of `simulator.ModelSpec`."""

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied_head: bool
    gated_ffn: bool
    activation: str
    sub_norms: bool
    post_norms: bool
    qk_norm: bool
    qkv_bias: bool
    output_bias: bool
    experts: int
    experts_per_token: int
    max_context: int | None
    parameters: int | None
    provenance: Provenance


_MODEL_COLUMNS = (*(name for name in ModelRow._fields if name != "provenance"), *PROVENANCE_COLUMNS)


@cache
def model_rows(path: Path | None = None) -> dict[str, ModelRow]:
    """Load the model presets by name, or the models of a user's file of the same form."""
    rows: dict[str, ModelRow] = {}
    for row in read_csv(path or DATA / "models.csv", _MODEL_COLUMNS, _model_row):
        if row.name in rows:
            raise BitsimError(f"{path or DATA / 'models.csv'}: name: expected each name once, '{row.name}' comes twice")
        rows[row.name] = row
    return rows


def _model_row(record: Record) -> ModelRow:
    def optional(field: str) -> int | None:
        return None if record.optional_number(field) is None else record.integer(field)

    return ModelRow(
        name=record.text("name"),
        architecture=record.text("architecture"),
        layers=record.integer("layers"),
        hidden=record.integer("hidden"),
        heads=record.integer("heads"),
        kv_heads=record.integer("kv_heads"),
        head_dim=record.integer("head_dim"),
        ffn=record.integer("ffn"),
        vocab=record.integer("vocab"),
        tied_head=record.boolean("tied_head"),
        gated_ffn=record.boolean("gated_ffn"),
        activation=record.text("activation"),
        sub_norms=record.boolean("sub_norms"),
        post_norms=record.boolean("post_norms"),
        qk_norm=record.boolean("qk_norm"),
        qkv_bias=record.boolean("qkv_bias"),
        output_bias=record.boolean("output_bias"),
        experts=record.integer("experts"),
        experts_per_token=record.integer("experts_per_token"),
        max_context=optional("max_context"),
        parameters=optional("parameters"),
        provenance=record.provenance(),
    )


class LossLaw(NamedTuple):
    """A loss law in nats per token, of a size N and D training tokens.

    `counts` says what N is: all "parameters", or "non_embedding" ones alone.

    `chinchilla`: E + A/N^alpha + B/D^beta. `power`: E + A/N^alpha.
    `kaplan`: ((N_c/N)^(alpha/beta) + D_c/D)^beta, with alpha_N in alpha and alpha_D in beta.
    """

    law: str
    scheme: str
    form: str
    counts: str
    e_nats: float
    a: float
    alpha: float
    b: float | None
    beta: float | None
    n_c: float | None
    d_c: float | None
    valid_parameters_low: float | None
    valid_parameters_high: float | None
    tokens: float | None
    provenance: Provenance


_LAW_COLUMNS = (*(name for name in LossLaw._fields if name != "provenance"), *PROVENANCE_COLUMNS)


@cache
def loss_laws() -> dict[str, LossLaw]:
    """Load the published loss laws by name."""
    return {row.law: row for row in read_csv(DATA / "loss_laws.csv", _LAW_COLUMNS, _law_row)}


def _law_row(record: Record) -> LossLaw:
    numbers = {
        name: record.optional_number(name)
        for name in ("b", "beta", "n_c", "d_c", "valid_parameters_low", "valid_parameters_high", "tokens")
    }
    return LossLaw(
        law=record.text("law"),
        scheme=record.text("scheme"),
        form=record.choice("form", LOSS_FORMS),
        counts=record.choice("counts", SIZE_COUNTS),
        e_nats=record.optional_number("e_nats") or 0.0,
        a=record.optional_number("a") or 0.0,
        alpha=record.number("alpha"),
        **numbers,
        provenance=record.provenance(),
    )


class LawConstant(NamedTuple):
    """One more constant of a published law: its value in the unit that the row names."""

    law: str
    constant: str
    value: float
    unit: str
    provenance: Provenance


_CONSTANT_COLUMNS = (*(name for name in LawConstant._fields if name != "provenance"), *PROVENANCE_COLUMNS)


@cache
def law_constants(law: str) -> dict[str, LawConstant]:
    """Load what a law states beyond the columns of `loss_laws`, by name of the constant."""
    rows = read_csv(DATA / "law_constants.csv", _CONSTANT_COLUMNS, _constant_row)
    return {row.constant: row for row in rows if row.law == law}


def _constant_row(record: Record) -> LawConstant:
    return LawConstant(
        law=record.text("law"),
        constant=record.text("constant"),
        value=record.number("value"),
        unit=record.text("unit"),
        provenance=record.provenance(),
    )


class EngineFit(NamedTuple):
    """Efficiency of one software on one machine, fitted to published decode speeds.

    simulator/engine.py has the formula that the numbers go into.

    `schemes` lists what it was fitted on, `rows` counts the decode speeds and `rate_rows` the prefill speeds (with
    none, the fraction of the peak rate is an assumption). `rate_error` is the mean absolute error on prefill speeds,
    `error` on decode speeds, and `error_left_out` the same on models left out of the fit.
    """

    engine: str
    hardware: str
    schemes: tuple[str, ...]
    bandwidth_fraction: float
    thread_s_per_byte: float
    sync_s_per_layer: float
    work_s_per_layer_element: float
    rate_fraction: float
    workspace_bytes: float
    workspace_bytes_per_sqrt_hidden: float
    rows: int
    rate_rows: int
    rate_error: float | None
    error: float
    error_left_out: float | None
    provenance: Provenance


ENGINE_COLUMNS = (*(name for name in EngineFit._fields if name != "provenance"), *PROVENANCE_COLUMNS)


@cache
def engine_fits() -> tuple[EngineFit, ...]:
    """Load the fitted engines."""
    return tuple(read_csv(DATA / "engines.csv", ENGINE_COLUMNS, _engine_row))


def _engine_row(record: Record) -> EngineFit:
    numbers = {
        name: record.number(name, minimum=-math.inf if name.startswith("workspace") else 0.0)
        for name in ENGINE_COLUMNS[3:10]
    }
    return EngineFit(
        engine=record.text("engine"),
        hardware=record.text("hardware"),
        schemes=tuple(record.text("schemes").split()),
        **numbers,
        rows=record.integer("rows", minimum=0),
        rate_rows=record.integer("rate_rows", minimum=0),
        rate_error=record.optional_number("rate_error"),
        error=record.number("error"),
        error_left_out=record.optional_number("error_left_out"),
        provenance=record.provenance(),
    )


class GridRow(NamedTuple):
    """Carbon intensity (kg CO2e per J) and price (USD per J) of electricity in one region."""

    region: str
    carbon_kg_per_j: Interval
    price_usd_per_j: float
    provenance: Provenance


_GRID_COLUMNS = (
    "region",
    "carbon_g_per_kwh_low",
    "carbon_g_per_kwh",
    "carbon_g_per_kwh_high",
    "electricity_usd_per_kwh",
    *PROVENANCE_COLUMNS,
)


@cache
def grid_rows() -> dict[str, GridRow]:
    """Load carbon intensity and electricity price by region."""
    return {row.region: row for row in read_csv(DATA / "grid.csv", _GRID_COLUMNS, _grid_row)}


def _grid_row(record: Record) -> GridRow:
    carbon = record.interval("carbon_g_per_kwh_low", "carbon_g_per_kwh", "carbon_g_per_kwh_high")
    return GridRow(
        region=record.text("region"),
        carbon_kg_per_j=carbon.scaled(1e-3 / JOULES_PER_KWH),
        price_usd_per_j=record.number("electricity_usd_per_kwh") / JOULES_PER_KWH,
        provenance=record.provenance(),
    )


_FACILITY_COLUMNS = ("quantity", "low", "mid", "high", "unit", *PROVENANCE_COLUMNS)


@cache
def facility_constants() -> dict[str, tuple[Interval, Provenance]]:
    """Load the constants of a data centre and of training runs: PUE, model FLOP utilisation, overheads."""
    rows: Iterable[tuple[str, tuple[Interval, Provenance]]] = read_csv(
        DATA / "datacentre.csv",
        _FACILITY_COLUMNS,
        lambda r: (r.text("quantity"), (r.interval("low", "mid", "high"), r.provenance())),
    )
    return dict(rows)
