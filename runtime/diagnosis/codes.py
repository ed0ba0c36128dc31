"""Ternary weights counted where they lie, a piece at a time: how many of each, and the range of their scales."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..checkpoints.checkpoint import Dense, Float32
from ..checkpoints.stored import Stored
from ..packing import CODECS
from ..packing.codec import Bytes, Ternary

_PIECE = 1 << 20  # weights or bytes looked at once
_FIRST_ROWS = 8  # of a matrix: few enough to tell most full numbers apart at once
_I2_S_TAIL = 32  # bytes after the codes


@dataclass(frozen=True, slots=True)
class Codes:
    """How many weights are -1, 0 and +1, and how many bytes are no code."""

    minus: int = 0
    zero: int = 0
    plus: int = 0
    illegal: int = 0

    def __add__(self, other: "Codes") -> "Codes":
        pairs = zip(self._all, other._all, strict=True)
        return Codes(*(mine + theirs for mine, theirs in pairs))

    @property
    def _all(self) -> tuple[int, int, int, int]:
        return self.minus, self.zero, self.plus, self.illegal

    @property
    def total(self) -> int:
        """Weights counted."""
        return self.minus + self.zero + self.plus

    @property
    def zero_fraction(self) -> float:
        """Share of zeros."""
        return self.zero / self.total if self.total else 0.0

    @property
    def entropy(self) -> float:
        """Bits a weight that the best code for single weights would take: at most log2(3) = 1.585."""
        shares = [count / self.total for count in (self.minus, self.zero, self.plus) if count]
        return -sum(share * math.log2(share) for share in shares)


@dataclass(frozen=True, slots=True)
class Census:
    """The codes of a matrix and the range of its scales, as ones that multiply; None for scales that are none."""

    codes: Codes
    scale_low: float | None
    scale_high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """One scale for a matrix that lies in a tensor of its own, and whether it divides."""

    stored: Stored
    divides: bool = False

    def value(self) -> float:
        """Return it as one that multiplies; NaN for what can be none."""
        numbers = next(pieces(self.stored), np.zeros(0, np.float32)).reshape(-1)
        if len(numbers) != 1 or not numbers[0] > 0:
            return math.nan
        return float(1 / numbers[0] if self.divides else numbers[0])


def pieces(stored: Stored) -> Iterator[Float32]:
    """Yield the numbers of a tensor, some rows at a time, whatever they are; nothing where it holds none."""
    if stored.decode is None or 0 in stored.shape:
        return
    columns = stored.shape[-1] if stored.shape else 1
    rows = stored.data.reshape(math.prod(stored.shape) // columns, -1)
    step = max(1, _PIECE // columns)
    for start in range(0, len(rows), step):
        yield stored.decode(rows[start : start + step])


def census(stored: Stored, shape: tuple[int, int], beside: Beside | None) -> Census | None:
    """Count a matrix that is ternary, in whatever format; None for one of full numbers.

    Args:
        stored: the matrix.
        shape: its rows and columns once unpacked.
        beside: its scale, where that is not in the matrix.
    """
    factor = 1.0 if beside is None else beside.value()
    found: Census | None
    if stored.kind == "U8":
        found = Census(_hugging_face(stored, shape), 1.0, 1.0)
    elif stored.kind == "I2_S":
        tail = stored.data[-_I2_S_TAIL:][:4].tobytes()
        scale = float(np.frombuffer(tail, "<f4")[0])
        found = Census(_two_bit(stored.data[:-_I2_S_TAIL]), scale, scale)
    elif stored.kind in ("TQ1_0", "TQ2_0"):
        found = _blocks(stored, shape)
    else:
        found = _of_full_numbers(stored)
    if found is None or found.scale_low is None or found.scale_high is None:
        return found
    low, high = found.scale_low * factor, found.scale_high * factor
    return Census(found.codes, *((low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)))


def census_of(ternary: Ternary) -> Census:
    """Count an unpacked matrix."""
    codes = _counted(ternary.weights)
    return Census(codes, float(ternary.scales.min()), float(ternary.scales.max()))


def _counted(weights: npt.NDArray[np.int8]) -> Codes:
    minus, plus = int(np.count_nonzero(weights < 0)), int(np.count_nonzero(weights > 0))
    return Codes(minus, weights.size - minus - plus, plus)


def _two_bit(data: Bytes) -> Codes:
    """Count codes of four a byte, whatever their order; a code of 3 is none."""
    bytes_seen = np.zeros(256, np.int64)
    for start in range(0, len(data), _PIECE):
        bytes_seen += np.bincount(data[start : start + _PIECE], minlength=256)
    fields = (np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3
    minus, zero, plus = (int(bytes_seen @ (fields == code).sum(axis=1)) for code in range(3))
    return Codes(minus, zero, plus, illegal=int(bytes_seen @ (fields == 3).any(axis=1)))


def _hugging_face(stored: Stored, shape: tuple[int, int]) -> Codes:
    """Count four rows a byte; fields of rows that are not there hold 0, which would read as -1."""
    codes = _two_bit(stored.data)
    missing = (4 * stored.shape[0] - shape[0]) * shape[1]
    return Codes(codes.minus - missing, codes.zero, codes.plus, codes.illegal)


def _blocks(stored: Stored, shape: tuple[int, int]) -> Census:
    """Count TQ1_0 or TQ2_0, a few rows at a time."""
    codec, rows = CODECS[stored.kind.lower()], stored.data.reshape(shape[0], -1)
    codes, low, high = Codes(), math.inf, -math.inf
    step = max(1, _PIECE // shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        try:
            ternary = codec.unpack(part, len(part), shape[1])
        except BitsimError:
            codes += Codes(illegal=_illegal_rows(codec.unpack, part, shape[1]))
            continue
        codes += _counted(ternary.weights)
        used = ternary.weights.reshape(*ternary.scales.shape, -1).any(axis=2)
        if used.any():
            low, high = min(low, ternary.scales[used].min()), max(high, ternary.scales[used].max())
    return Census(codes, *((float(low), float(high)) if low <= high else (None, None)))


def _illegal_rows(unpack: Callable[[Bytes, int, int], Ternary], rows: Bytes, columns: int) -> int:
    """Return how many rows hold a byte that is no code: the least number of such bytes."""
    count = 0
    for row in rows:
        try:
            unpack(row, 1, columns)
        except BitsimError:
            count += 1
    return count


def as_ternary(weights: Ternary | Dense) -> Ternary | None:
    """Return a matrix of full numbers that has three values, -s, 0 and s, as what it is; None for any other."""
    if isinstance(weights, Ternary):
        return weights
    if not _has_three(Dense(weights.bits[:_FIRST_ROWS], weights.brain).as_float32()):
        return None
    full = weights.as_float32()
    if not _has_three(full):
        return None
    return Ternary(np.sign(full).astype(np.int8), np.abs(full).max(keepdims=True))


def _has_three(values: Float32) -> bool:
    sizes = np.abs(values)
    size = sizes.max()
    return bool(0 < size < np.inf and ((sizes == size) | (sizes == 0)).all() and (values < 0).any())


def _of_full_numbers(stored: Stored) -> Census | None:
    """Count a matrix of full numbers if it has three values, -s, 0 and s, and is ternary for all that it says."""
    size, codes = 0.0, Codes()
    for part in pieces(stored):
        sizes = np.abs(part)
        size = size or float(sizes.max())
        if not 0 < size < math.inf or not ((sizes == size) | (sizes == 0)).all():
            return None
        codes += _counted(np.sign(part).astype(np.int8))
    return Census(codes, size, size) if codes.minus and codes.zero and codes.plus else None
