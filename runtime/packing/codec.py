"""What every layout of packed ternary weights has in common: one signature, and the checks."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

Weights = npt.NDArray[np.int8]  # (rows, columns) = (outputs, inputs) of a matrix; -1, 0, +1
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Ternary:
    """A ternary matrix.

    `weights` (rows, columns) are -1, 0, +1; `scales` (rows or 1, blocks of a row or 1) multiply them.
    """

    weights: Weights
    scales: npt.NDArray[np.float32]

    def dequantised(self) -> npt.NDArray[np.float32]:
        """Return weights x scales, (rows, columns)."""
        columns_per_scale = self.weights.shape[1] // self.scales.shape[1]
        scales: npt.NDArray[np.float32] = np.repeat(self.scales, columns_per_scale, axis=1)
        return self.weights * scales


class Codec(Protocol):
    """A layout of packed ternary weights."""

    name: str

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes that a matrix takes, scales included.

        Raises:
            BitsimError: the layout cannot hold a matrix of this shape.
        """
        ...

    def pack(self, weights: Weights, scale: float = 1.0) -> Bytes:
        """Pack a matrix; layouts that store no scale leave it out.

        Raises:
            BitsimError: a weight other than -1, 0, +1 (its place is named), or a shape that the layout cannot hold.
        """
        ...

    def unpack(self, packed: Bytes, rows: int, columns: int) -> Ternary:
        """Unpack a matrix; its scales are 1 where the layout stores none.

        Raises:
            BitsimError: not as many bytes as the shape takes, or a byte that is no code (its place is named).
        """
        ...


def checked_weights(name: str, weights: Weights) -> Weights:
    """Return weights after checking that they are a matrix of -1, 0, +1."""
    if weights.ndim != 2 or 0 in weights.shape:
        raise BitsimError(f"{name}: expected a matrix with rows and columns, got shape {weights.shape}")
    wrong = np.argwhere((weights < -1) | (weights > 1))
    if len(wrong):
        row, column = wrong[0]
        raise BitsimError(f"{name}: row {row}, column {column}: expected -1, 0 or 1, got {weights[row, column]}")
    return weights.astype(np.int8, copy=False)


def checked_bytes(name: str, packed: Bytes, expected: int) -> Bytes:
    """Return packed bytes as one row after checking their number."""
    if packed.dtype != np.uint8 or packed.size != expected:
        raise BitsimError(f"{name}: expected {expected:,} bytes, got {packed.size:,} of {packed.dtype}")
    return np.ascontiguousarray(packed).reshape(-1)


def refuse_codes(name: str, packed: Bytes, illegal: npt.NDArray[np.bool_]) -> None:
    """Raise for the first byte that holds no legal code; `illegal` is one flag a byte, in the order of `packed`."""
    if illegal.any():
        place = int(np.argmax(illegal))
        raise BitsimError(f"{name}: byte {place:,}: {int(packed[place]):#04x} holds no ternary code")


def two_bit_illegal(packed: Bytes) -> npt.NDArray[np.bool_]:
    """Flag bytes with the unused code 3 in one of their four 2-bit fields."""
    flags: npt.NDArray[np.bool_] = (packed & (packed >> 1) & 0b01010101) != 0
    return flags


def multiple_of(name: str, what: str, value: int, unit: int) -> None:
    """Raise unless a count is a multiple of what the layout works in."""
    if value <= 0 or value % unit:
        raise BitsimError(f"{name}: {what}: expected a multiple of {unit}, got {value}")
