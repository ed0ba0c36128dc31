"""Compiled functions that other compiled code calls by their address.

A call by name makes numba compile the function into its caller, anew for every caller. By address the two are compiled
apart: what shares work out among threads is compiled once for all kernels, and a model's step too.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types

from .compile import OPTIONS
from .simd.vector import instruction


def array_of(dtype: Any, dimensions: int = 1) -> Any:
    """Return numba's type of a contiguous array."""
    return types.Array(numba.from_dtype(np.dtype(dtype)), dimensions, "C")


class Entry:
    """A function with a signature, compiled when its address is asked for and kept for the next process."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        """Take a function that returns nothing, and numba's types of its arguments."""
        self.function, self.arguments = function, arguments

    @cached_property
    def address(self) -> int:
        """Where the machine code begins."""
        return int(self._compiled.address)

    @cached_property
    def _compiled(self) -> Any:
        options: Any = OPTIONS
        return numba.cfunc(types.void(*self.arguments), **options)(self.function)


@instruction
def call_at(typing: Any, address: Any, *arguments: Any) -> Any:
    """Call an `Entry` by its address; integers go as int64, all else must be of its types."""
    if not isinstance(address, types.Integer):
        return None
    wanted = [types.int64 if isinstance(each, types.Integer) else each for each in arguments]
    kinds: Any = types.BaseTuple
    passed = kinds.from_types(tuple(wanted))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(each) for each in wanted])
        parts = [builder.extract_value(values[1], place) for place in range(len(wanted))]
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), parts)
        return context.get_dummy_value()

    return types.void(address, passed), generate
