"""A number with its uncertainty: low, mid and high, kept from the table to the printed page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Corner = Literal["low", "mid", "high"]
CORNERS: tuple[Corner, ...] = ("low", "mid", "high")


@dataclass(frozen=True, slots=True)
class Interval:
    """A range with a best value, `low <= mid <= high`. The unit is that of the name it is stored under."""

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.mid <= self.high:  # also false for NaN
            raise ValueError(f"expected low <= mid <= high, got {self.low}, {self.mid}, {self.high}")

    @classmethod
    def exact(cls, value: float) -> "Interval":
        """Make a number that has no stated uncertainty."""
        return cls(value, value, value)

    @classmethod
    def spanning(cls, low: float, mid: float, high: float) -> "Interval":
        """Make a range from three corner results that rounding may have put out of order."""
        return cls(min(low, mid, high), mid, max(low, mid, high))

    def at(self, corner: Corner) -> float:
        """Return the value at one corner."""
        return self.low if corner == "low" else self.high if corner == "high" else self.mid

    def scaled(self, factor: float) -> "Interval":
        """Multiply by a factor >= 0 (a change of unit, a count)."""
        return Interval(self.low * factor, self.mid * factor, self.high * factor)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.mid, self.high))

    @property
    def is_exact(self) -> bool:
        """True where no range is stated."""
        return self.low == self.high
