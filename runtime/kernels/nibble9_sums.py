"""The 16 sums of activations that a nibble of `nibble9` stands for, in a register."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined
from ..packing.nibble9 import COLUMNS, GROUP, HIGH, LOW
from ..simd.vector import I16X16, load, splat
from .kernel import Activations, Int16

Register = Any

LOW_SUMS, HIGH_SUMS, MASKS_OF_TABLE = 0, 128, 128  # places in MASKS; of HIGH_SUMS there are two, for even and odd bytes


def masks_of(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """Return, for each column of signs (16, 4), the entries that it is added to (-1) and taken from: (4, 2, 16)."""
    return np.stack([-1 * (signs.T == 1), -1 * (signs.T == -1)], axis=1).astype(np.int16)


# What a nibble adds: of the low one the first weight is of its own; the bit of even bytes counts from -1.
MASKS = np.concatenate([masks_of(signs).reshape(-1) for signs in (LOW, HIGH - np.array([0, 0, 0, 1], np.int8), HIGH)])


@inlined
def sums_of(masks: Int16, place: int, a: Any, b: Any, c: Any, d: Any) -> Register:
    """Return the 16 sums of a nibble of four activations."""
    first, second, third, fourth = splat(I16X16, a), splat(I16X16, b), splat(I16X16, c), splat(I16X16, d)
    sums = (first & load(I16X16, masks, place)) - (first & load(I16X16, masks, place + 16))
    sums = sums + (second & load(I16X16, masks, place + 32)) - (second & load(I16X16, masks, place + 48))
    sums = sums + (third & load(I16X16, masks, place + 64)) - (third & load(I16X16, masks, place + 80))
    return sums + (fourth & load(I16X16, masks, place + 96)) - (fourth & load(I16X16, masks, place + 112))


@inlined
def activation(x: Activations, token: int, column: int) -> Any:
    """Return an activation; past the last column, 0."""
    return x[token, column] if column < x.shape[1] else np.int8(0)


@inlined
def nibble_sums(x: Activations, token: int, byte: int, masks: Int16) -> tuple[Register, Register]:
    """Return the 16 sums of the low nibble of a byte of a row, and those of the high one."""
    start = byte // GROUP * COLUMNS
    column, ninth = start + 4 * (byte % GROUP), start + 4 * GROUP + byte % GROUP // 2
    a, b = activation(x, token, column), activation(x, token, column + 1)
    c, d = activation(x, token, column + 2), activation(x, token, column + 3)
    high = HIGH_SUMS + byte % 2 * MASKS_OF_TABLE
    return sums_of(masks, LOW_SUMS, a, b, c, d), sums_of(masks, high, b, c, d, activation(x, token, ninth))
