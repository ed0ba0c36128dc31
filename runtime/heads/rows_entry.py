"""The product with 16-bit floating-point weights, called by address: compiled once for all heads."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ..entry import Entry, array_of
from ..kernels.dense import dense_rows
from ..kernels.kernel import INDEX
from .head import Float32

Bits = npt.NDArray[np.uint16]


def rows(bits: Bits, brain: bool, x: Float32, columns: int, out: Float32, first: int, last: int) -> None:
    """Write the rows from `first` to before `last`; see `dense_rows`."""
    dense_rows(bits, brain, x, columns, out, first, last)


ROWS = Entry(
    rows, array_of(np.uint16), numba.boolean, array_of(np.float32), INDEX, array_of(np.float32, 2), INDEX, INDEX
)


class _Holder:
    """Memory as numpy takes it from others."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
        self.array = array


def as_compiled(array: npt.NDArray[Any]) -> Any:
    """Return the same memory as a flat array of the type that compiled functions know, though a file may be read-only.

    They only read it: numba would compile everything once more for the other type.
    """
    return np.asarray(_Holder(np.ascontiguousarray(array).reshape(-1)))
