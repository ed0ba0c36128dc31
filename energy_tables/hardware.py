"""Hardware profiles: one TOML file a machine, one sourced value a line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .citations import DATA
from .errors import BitsimError, suggestion
from .interval import Interval
from .records import Provenance, Record, read_toml
from .tables import energy_table

KINDS = ("cpu", "gpu", "asic")
NODES = ("45nm", "7nm")
REQUIRED = ("bandwidth_bytes_per_s", "capacity_bytes", "on_chip_bytes", "idle_w", "busy_w", "peak_w")
OPTIONAL = (
    "on_chip_bandwidth_bytes_per_s",
    "fp32_flops_per_s",
    "fp16_flops_per_s",
    "bf16_flops_per_s",
    "int8_ops_per_s",
    "int4_ops_per_s",
    "binary_ops_per_s",
    "ternary_ops_per_s",
    "link_bytes_per_s",
    "price_usd_per_hour",
)
_PARTS = ("low", "mid", "high", "source", "locator", "status", "note")
_LEAST, _MOST = 1e-6, 1e30  # of any quantity but watts: further out, the formulas overflow
_TEXTS = ("name", "title", "process")
_PLAIN = (*_TEXTS, "kind", "energy_node", "memory", "on_chip_memory", "cores", "weights_on_chip")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its range and its source. The unit is that of the name it is stored under."""

    value: Interval
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """One machine: roofs, memory levels, power and price. See `data/README.md` for every field and its unit."""

    name: str
    title: str
    kind: str
    process: str
    energy_node: str
    memory: str
    on_chip_memory: str
    cores: int
    weights_on_chip: bool
    quantities: Mapping[str, Quantity]

    def value(self, quantity: str) -> Interval:
        """Return one quantity by name, for example `bandwidth_bytes_per_s`.

        Raises:
            KeyError: this machine has no such quantity (see `get`).
        """
        return self.quantities[quantity].value

    def get(self, quantity: str) -> Interval | None:
        """Return one quantity, or None where this machine has none."""
        found = self.quantities.get(quantity)
        return None if found is None else found.value


def hardware_names() -> list[str]:
    """Return the names of the profiles that come with bitsim."""
    return sorted(path.stem for path in (DATA / "hardware").glob("*.toml"))


def load_hardware(name_or_file: str) -> HardwareProfile:
    """Load a profile by name, or from a TOML file of the same form.

    Raises:
        BitsimError: no such name (the nearest is suggested), or a field of the file is wrong
            (file, line, field and what was expected are named).
    """
    names = hardware_names()
    lowered = name_or_file.strip().casefold()
    if lowered in names:
        return _shipped(lowered)
    if name_or_file.endswith(".toml"):
        return read_profile(Path(name_or_file))
    raise BitsimError(
        f"unknown hardware '{name_or_file[:60]}'{suggestion(name_or_file, names)}"
        " (bitsim hardware list; or give a .toml file)"
    )


@cache
def _shipped(name: str) -> HardwareProfile:
    return read_profile(DATA / "hardware" / f"{name}.toml")


def read_profile(path: Path) -> HardwareProfile:
    """Read and check one profile file."""
    values, line_of = read_toml(path)
    _check_keys(path, values, line_of)

    def plain(key: str) -> Record:
        return Record(path, line_of(key), values)

    memories = energy_table().memory_names
    quantities = {
        key: _quantity(path, line_of(key), key, values[key]) for key in (*REQUIRED, *OPTIONAL) if key in values
    }
    idle, busy, peak = (quantities[key].value.mid for key in ("idle_w", "busy_w", "peak_w"))
    if not idle <= busy <= peak:
        raise Record(path, line_of("busy_w"), {"busy_w": busy}).error(
            "busy_w", f"idle_w <= busy_w <= peak_w ({idle:g}, {peak:g})"
        )
    return HardwareProfile(
        name=plain("name").text("name"),
        title=plain("title").text("title"),
        kind=plain("kind").choice("kind", KINDS),
        process=plain("process").text("process"),
        energy_node=plain("energy_node").choice("energy_node", NODES),
        memory=plain("memory").choice("memory", memories),
        on_chip_memory=plain("on_chip_memory").choice("on_chip_memory", memories),
        cores=plain("cores").integer("cores"),
        weights_on_chip=plain("weights_on_chip").boolean("weights_on_chip"),
        quantities=quantities,
    )


def _check_keys(path: Path, values: Mapping[str, Any], line_of: Callable[[str], int]) -> None:
    for key in (*_PLAIN, *REQUIRED):
        if key not in values:
            raise BitsimError(f"{path}: {key}: expected this field, it is missing")
    allowed = (*_PLAIN, *REQUIRED, *OPTIONAL)
    for key in values:
        if key not in allowed:
            raise BitsimError(f"{path}:{line_of(key)}: {key[:60]}: unknown field{suggestion(key, allowed)}")


def _quantity(path: Path, line: int, key: str, value: Any) -> Quantity:
    if not isinstance(value, dict):
        raise Record(path, line, {key: value}).error(
            key, '{ mid = NUMBER, source = "KEY", locator = "...", status = "..." }'
        )
    for name in value:
        if name not in _PARTS:
            raise BitsimError(f"{path}:{line}: {key}.{name[:60]}: unknown field{suggestion(name, _PARTS)}")
    cells = {f"{key}.{name}" if name in ("low", "mid", "high") else name: cell for name, cell in value.items()}
    record = Record(path, line, cells)
    interval = record.interval(f"{key}.low", f"{key}.mid", f"{key}.high")
    least = 0.0 if key.endswith("_w") else _LEAST
    for end in ("mid", "low", "high"):
        if f"{key}.{end}" in cells and not least <= interval.at(end) <= _MOST:
            above = "a number above 0" if interval.at(end) <= 0 else f"a number from {least:g} to {_MOST:g}"
            raise record.error(f"{key}.{end}", above)
    return Quantity(interval, record.provenance())
