"""A packed ternary matrix that multiplies: the checks before compiled code runs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..memory import aligned
from ..packing import CODECS
from ..threads import Team
from .choice import best
from .kernel import Activations, Kernel, Packed, Sums

_ALONE = Team(1)


class TernaryMatrix:
    """Weights (rows, columns) of -1, 0, +1, packed for one kernel.

    >>> weights = np.array([[1, 0, -1], [0, 1, 1]], np.int8)
    >>> TernaryMatrix.pack(weights).multiply(np.array([[5, 6, 7]], np.int8))
    array([[-2, 13]], dtype=int32)
    """

    def __init__(self, packed: Packed, rows: int, columns: int, kernel: Kernel) -> None:
        """Take packed weights: the bytes of the kernel's codec.

        Raises:
            BitsimError: not as many bytes as the shape takes, or not in one piece.
        """
        self.rows, self.columns, self.kernel = rows, columns, kernel
        codec = CODECS[kernel.packing]
        checked(f"{codec.name} of {rows} x {columns}", packed, np.uint8, (codec.packed_bytes(rows, columns),))
        self.packed = packed

    @classmethod
    def pack(cls, weights: npt.NDArray[np.int8], kernel: Kernel | None = None) -> "TernaryMatrix":
        """Pack weights, int8 (rows, columns), for a kernel, or for the best that this CPU can run.

        Raises:
            BitsimError: a weight other than -1, 0, +1, or no matrix.
        """
        kernel = kernel or best()
        codes = CODECS[kernel.packing].pack(weights).reshape(-1)
        packed = aligned(codes.shape, np.uint8)
        packed[:] = codes
        rows, columns = weights.shape
        return cls(packed, rows, columns, kernel)

    def multiply(self, x: Activations, out: Sums | None = None, team: Team | None = None) -> Sums:
        """Return x @ weights.T, exactly: int32 (tokens, rows) from int8 (tokens, columns).

        Raises:
            BitsimError: x or out has another type or shape, or does not lie in one piece.
        """
        tokens = len(x) if getattr(x, "ndim", 0) else 0
        checked("activations", x, np.int8, (max(tokens, 1), self.columns))
        if out is None:
            out = np.empty((tokens, self.rows), np.int32)
        checked("out", out, np.int32, (tokens, self.rows))
        team = team or _ALONE
        method = self.kernel.method(tokens)
        work = method.work(self.rows, self.columns, tokens, team.threads)
        method.multiply(team, self.packed[None], (0, 1), x, out, work)
        return out


def checked(what: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Raise unless an array has this type and shape, lies in one piece and is aligned.

    Raises:
        BitsimError: it does not; the message says what was expected.
    """
    expected = f"{what}: expected a contiguous {np.dtype(dtype).name} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise BitsimError(f"{expected}, got {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise BitsimError(f"{expected}, got {array.dtype} {array.shape}")
    if not array.flags.c_contiguous:
        raise BitsimError(f"{expected}, got one with gaps between its elements")
    if not array.flags.aligned:
        raise BitsimError(f"{expected}, got one whose elements are not aligned")
