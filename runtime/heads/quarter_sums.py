"""Sums of two activations times levels, the 16 entries that a nibble of two codes looks up; additions only."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..compile import inlined
from ..kernels.kernel import Activations, Int16
from ..simd.vector import I16X16, load, splat

Register = Any

LARGEST = 2 * 3 * 128  # size of a sum

# A code's bit 0 adds 2 and its bit 1 adds 4 to the level -3: for the four bits of a nibble, the entries that have it.
_NIBBLES = np.arange(16)
MASKS: npt.NDArray[np.int16] = np.stack([-(_NIBBLES >> bit & 1) for bit in range(4)]).astype(np.int16).reshape(-1)


@inlined
def nibble_sums(x: Activations, token: int, column: int, masks: Int16) -> Register:
    """Return the 16 sums of the activations of a column and the next one, from -768 to 768."""
    first, second = splat(I16X16, np.int16(x[token, column])), splat(I16X16, np.int16(x[token, column + 1]))
    both = first + second
    low = ((first << 1) & load(I16X16, masks, 0)) + ((first << 2) & load(I16X16, masks, 16))
    high = ((second << 1) & load(I16X16, masks, 32)) + ((second << 2) & load(I16X16, masks, 48))
    return low + high - both - (both << 1)
