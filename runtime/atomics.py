"""Numbers that several threads change at once, and the barrier made of them, for compiled functions."""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types

from .compile import compiled, inlined
from .simd.vector import call, instruction

Counters = npt.NDArray[np.int64]

LINE = 8  # int64 in a cache line: counters that different threads change lie so far apart
# Places in the counters of a team. The barrier has the first two lines.
JOB, DONE, SHARES = 2 * LINE, 3 * LINE, 4 * LINE  # SHARES: one line for each thread
SPINS_BEFORE_YIELD = 4096


def _is_counters(array: Any) -> bool:
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype == types.int64


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


@instruction
def atomic_add(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """atomic_add(array, index, value): add, and return what was there before."""
    if not _is_counters(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(context, builder, signature, arguments), arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), generate


@instruction
def atomic_load(typing: Any, array: Any, index: Any) -> Any:
    """atomic_load(array, index): what is there now, and everything written before it was put there."""
    if not _is_counters(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature, arguments), "seq_cst", 8)

    return types.int64(array, types.intp), generate


@instruction
def atomic_store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """atomic_store(array, index, value): put it there after everything written before."""
    if not _is_counters(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[2], _pointer(context, builder, signature, arguments), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@instruction
def pause(typing: Any) -> Any:
    """pause(): a moment of a loop that waits, told to the CPU."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        machine = builder.module.triple
        if machine.startswith(("x86_64", "i686")):
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine.startswith(("aarch64", "arm64")):
            call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), generate


give_way = types.ExternalFunction("sched_yield", types.int32())  # POSIX: let another thread have the core


@compiled
def wait_for_change(counters: Counters, index: int, seen: int, spins: int) -> bool:
    """Wait until counters[index] is no longer `seen`, for at most this many looks; say whether it changed."""
    for spin in range(spins):
        if atomic_load(counters, index) != seen:
            return True
        pause()
        if spin % SPINS_BEFORE_YIELD == SPINS_BEFORE_YIELD - 1:
            give_way()
    return False


@inlined
def barrier(counters: Counters, threads: int) -> None:
    """Wait until all threads are here; counters[0] counts arrivals, counters[LINE] the times that all had come."""
    if threads > 1:
        turn = atomic_load(counters, LINE)
        if atomic_add(counters, 0, 1) == threads - 1:
            atomic_store(counters, 0, 0)
            atomic_store(counters, LINE, turn + 1)
        else:
            while not wait_for_change(counters, LINE, turn, SPINS_BEFORE_YIELD):
                pass
