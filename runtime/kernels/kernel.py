"""What every kernel has in common: its description, and the checks before compiled code runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

ROWS_PER_BLOCK = 32  # rows that lie side by side in every layout of ours; threads share out whole blocks

Activations = npt.NDArray[np.int8]  # (tokens, columns)
Sums = npt.NDArray[np.int32]  # (tokens, rows)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to multiply int8 activations by packed ternary weights, exactly.

    `product(packed, x, out, scratch, first, last)` writes the columns of `out` (tokens, rows) that belong to the row
    blocks from `first` to before `last`: packed is flat and of type `word`, x int8 (tokens, columns), out int32
    (tokens, rows), scratch int16 of at least `scratch(rows, columns, tokens)` elements and the thread's own. It runs
    without the GIL and checks nothing; `TernaryMatrix` does.
    """

    name: str
    packing: str  # name of the codec
    word: type[np.generic]  # element type that the compiled code reads
    needs: frozenset[str]  # CPU features, as `cpu.features` names them
    scratch: Callable[[int, int, int], int]
    product: Callable[..., None]
    multiplies: bool = False  # True for the hardware dot products kept for comparison

    def runs_on(self, features: frozenset[str]) -> bool:
        """Whether a CPU with these features can run it."""
        return self.needs <= features


def row_blocks(rows: int) -> int:
    """Return the number of row blocks, the last perhaps partly filled."""
    return -(-rows // ROWS_PER_BLOCK)


def checked(what: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Raise unless an array has this type and shape and lies in one piece, aligned.

    Raises:
        BitsimError: it does not; the message says what was expected.
    """
    expected = f"{what}: expected a C-contiguous {np.dtype(dtype).name} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise BitsimError(f"{expected}, got {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise BitsimError(f"{expected}, got {array.dtype} {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise BitsimError(f"{expected}, got one that is {'misaligned' if array.flags.c_contiguous else 'not contiguous'}")
