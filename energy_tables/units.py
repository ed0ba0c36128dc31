"""SI factors, and the two borders where numbers are text: what a user types and what a person reads.

Inside bitsim every value is in SI units and the unit is part of the name (`energy_j`, `bytes_moved`,
`bandwidth_bytes_per_s`). Prefixes appear only here.
"""

import math
import re

from .errors import BitsimError

PICO = 1e-12
MIB = 1024**2
BITS_PER_BYTE = 8
SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6

_COUNT_SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}
_COUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3}))?\s*([KMBGTP]?)", re.IGNORECASE | re.ASCII)
_ENERGY = re.compile(r"(.*\d\.?)\s*([kKMGTP]?)(J|j|Wh|wh|WH)", re.ASCII)
_ENERGY_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_MONEY = re.compile(r"\$?\s*(.*?)\s*(?:usd)?", re.IGNORECASE | re.ASCII)
_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "u"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def parse_count(text: str, what: str = "count") -> float:
    """Read a positive count as people write it: `70B`, `350M`, `1.5e9`, `2T`.

    Raises:
        BitsimError: not a number, not finite, or not above zero.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise BitsimError(f"{what}: expected a positive number such as 350M, 7B or 1T, got '{text[:60]}'")
    digits, exponent, suffix = match.groups()
    value = float(f"{digits}e{exponent or 0}") * _COUNT_SUFFIXES[suffix.upper()]
    if not math.isfinite(value) or value <= 0:
        raise BitsimError(f"{what}: expected a positive finite number, got '{text[:60]}'")
    return value


def parse_energy(text: str, what: str = "energy") -> float:
    """Read a positive energy (J) as people write it: `100kWh`, `3.6MJ`, `2e9 J`. A prefix m is neither milli nor mega.

    Raises:
        BitsimError: no number with a unit, not finite, or not above zero.
    """
    match = _ENERGY.fullmatch(text.strip())
    if match is None or not is_count(match[1]):
        raise BitsimError(f"{what}: expected a positive energy such as 100kWh, 3.6MJ or 2GJ, got '{text[:60]}'")
    digits, prefix, unit = match.groups()
    value = parse_count(digits, what) * _ENERGY_PREFIXES[prefix]
    value *= 1.0 if unit in "Jj" else JOULES_PER_KWH / 1e3
    if not math.isfinite(value):
        raise BitsimError(f"{what}: expected a positive finite energy, got '{text[:60]}'")
    return value


def parse_money(text: str, what: str = "budget") -> float:
    """Read a positive sum of US dollars as people write it: `5000usd`, `$5000`, `2.5M`.

    Raises:
        BitsimError: not a sum of dollars, not finite, or not above zero.
    """
    match = _MONEY.fullmatch(text.strip())
    if match is None or not is_count(match[1]):
        raise BitsimError(f"{what}: expected a positive sum of dollars such as 5000usd or 2Musd, got '{text[:60]}'")
    return parse_count(match[1], what)


def is_count(text: str) -> bool:
    """Tell whether text has the form of a count."""
    return _COUNT.fullmatch(text.strip()) is not None


def format_count(value: float) -> str:
    """Write a count with the suffixes of the field: 70.0B parameters, 2T tokens."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= factor * 0.9995:
            return f"{_three_digits(value / factor)}{suffix}"
    return f"{value:g}"


def format_si(value: float, unit: str) -> str:
    """Write a value with three significant digits and an SI prefix: `3.10 mJ`, `1.65 TB/s`."""
    if value == 0:
        return f"0 {unit}"
    if not math.isfinite(value):
        return f"{value} {unit}"
    magnitude = abs(value)
    for factor, prefix in _PREFIXES:
        if magnitude >= factor * 0.9995:
            return f"{_three_digits(value / factor)} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def format_ratio(value: float) -> str:
    """Write a ratio: `71.4x`, `4.10x`."""
    if not math.isfinite(value):
        return "n/a"
    return f"{_three_digits(value)}x" if value >= 0.1 else f"{value:.3g}x"


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    decimals = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    return f"{value:,.{decimals}f}"
