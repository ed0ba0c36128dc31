"""What every kernel has in common: its description, and how rows are shared out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..atomics import LINE, SHARES, Counters, atomic_add, atomic_load
from ..compile import compiled, inlined

ROWS_PER_BLOCK = 32  # rows that lie side by side in every layout of ours; threads share out whole blocks

Activations = npt.NDArray[np.int8]  # (tokens, columns)
Int16 = npt.NDArray[np.int16]
Sums = npt.NDArray[np.int32]  # (tokens, rows)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to multiply int8 activations by packed ternary weights, exactly, in two steps that threads share.

    prepare(x, prepared, thread, threads): a thread's share of what all rows need of x, int8 (tokens, columns).
    product(packed, prepared, columns, out, scratch, first, last): the rows of the blocks from `first` to before `last`
        of out, int32 (tokens, rows); packed is flat and of type `word`, scratch int16 and the thread's own.
    multiply(counters, thread, threads, packed, turns, x, out, work): both, a barrier between them, `times` times for
        turns = (start, times): turn t takes matrix t modulo the number of matrices in packed (matrices, words), and all
        write into the same `out`. work = prepared, scratch (threads, elements). A job for `Team.run`.

    They run without the GIL and check nothing; `TernaryMatrix` does. `prepared_elements(columns, tokens)` and
    `scratch_elements(rows, columns, tokens)` say how many int16 they need, for a multiple of 32 rows.
    """

    name: str
    packing: str  # name of the codec
    word: type[np.generic]  # element type that the compiled code reads
    needs: frozenset[str]  # CPU features, as `cpu.features` names them
    prepared_elements: Callable[[int, int], int]
    scratch_elements: Callable[[int, int, int], int]
    prepare: Callable[..., None]
    product: Callable[..., None]
    multiply: Callable[..., None]
    add_only: bool = True  # False for the hardware dot products, kept for comparison

    def runs_on(self, features: frozenset[str]) -> bool:
        """Whether a CPU with these features can run it."""
        return self.needs <= features


@inlined
def row_blocks(rows: int) -> int:
    """Return the number of row blocks, the last perhaps partly filled."""
    return -(-rows // ROWS_PER_BLOCK)


@inlined
def share(count: int, thread: int, threads: int) -> tuple[int, int]:
    """Return the first and one past the last of `count` things that fall to a thread."""
    return thread * count // threads, (thread + 1) * count // threads


@inlined
def open_shares(counters: Counters, thread: int, threads: int, count: int) -> None:
    """Begin to share out `count` things: a thread's own part is open; to be called by all before a barrier."""
    counters[SHARES + thread * LINE] = thread * count // threads


@compiled
def take(counters: Counters, thread: int, threads: int, count: int, step: int) -> tuple[int, int]:
    """Take up to `step` things: of a thread's own part in order, and when that is empty, of the others'.

    Cores differ (and may be disturbed): whoever is done early helps. Returns the first and one past the last;
    (count, count) when nothing is left.
    """
    for other in range(threads):
        owner = (thread + other) % threads
        end = (owner + 1) * count // threads
        if atomic_load(counters, SHARES + owner * LINE) < end:
            first = atomic_add(counters, SHARES + owner * LINE, step)
            if first < end:
                return first, min(first + step, end)
    return count, count
