"""What every kernel has in common: its description, its memory, and how threads share out rows and take turns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from ..atomics import LINE, SHARES, Counters, atomic_add, atomic_load, barrier
from ..compile import compiled, inlined, inner
from ..entry import Entry, array_of, call_at
from ..memory import CACHE_LINE, aligned
from ..threads import Team

INDEX = numba.int64
ROWS_PER_BLOCK = 32  # rows that lie side by side in every layout of ours; threads share out whole blocks

Activations = npt.NDArray[np.int8]  # (tokens, columns)
Packed = npt.NDArray[np.uint8]  # one matrix, flat
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Work = tuple[Int16, Int16]
Sums = npt.NDArray[np.int32]  # (tokens, rows)


class Method(Protocol):
    """A way to multiply for some numbers of tokens."""

    def work(self, rows: int, columns: int, tokens: int, threads: int) -> Work:
        """Return the memory that `multiply` needs: prepared activations, and scratch memory (threads, elements)."""
        ...

    def multiply(
        self, team: Team, packed: Packed, turns: tuple[int, int], x: Activations, out: Sums, work: Work
    ) -> None:
        """Multiply x, int8 (tokens, columns), by matrices of packed (matrices, bytes) into out, int32 (tokens, rows).

        `times` times for turns = (start, times): turn t takes matrix t modulo the number of matrices.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to multiply int8 activations by packed ternary weights, exactly.

    `methods` are in order of the number of tokens from which on each is the quickest; the first has 1.
    """

    name: str
    packing: str  # name of the codec
    needs: frozenset[str]  # CPU features, as `cpu.features` names them
    methods: tuple[tuple[int, Method], ...]
    add_only: bool = True  # False for the hardware dot products, kept for comparison

    def runs_on(self, features: frozenset[str]) -> bool:
        """Whether a CPU with these features can run it."""
        return self.needs <= features

    def method(self, tokens: int) -> Method:
        """Return the quickest way for a number of tokens."""
        return next(method for least, method in reversed(self.methods) if tokens >= least)


def prepares(function: Callable[..., None]) -> Entry:
    """Make an entry of prepare(x, prepared, thread, threads): see `Compiled`."""
    return Entry(function, array_of(np.int8, 2), array_of(np.int16), INDEX, INDEX)


def multiplies(function: Callable[..., None]) -> Entry:
    """Make an entry of product(packed, prepared, columns, out, scratch, first, last): see `Compiled`."""
    packed, int16, out = array_of(np.uint8), array_of(np.int16), array_of(np.int32, 2)
    return Entry(function, packed, int16, INDEX, out, int16, INDEX, INDEX)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A method of two compiled steps that threads share, with a barrier between them.

    prepare(x, prepared, thread, threads): a thread's share of what all rows need of x, int8 (tokens, columns).
    product(packed, prepared, columns, out, scratch, first, last): the rows of the blocks from `first` to before `last`
        of out, int32 (tokens, rows); packed is one matrix, flat; prepared and scratch (a thread's own) are int16.

    They run without the GIL and check nothing; `TernaryMatrix` does. `prepared_elements(columns, tokens)` and
    `scratch_elements(rows, columns, tokens)` say how many int16 they need, for a multiple of 32 rows.
    """

    prepare: Entry
    product: Entry
    prepared_elements: Callable[[int, int], int]
    scratch_elements: Callable[[int, int, int], int]
    together: int = 0  # row blocks that a thread takes at once; 0: its whole share

    def multiply(
        self, team: Team, packed: Packed, turns: tuple[int, int], x: Activations, out: Sums, work: Work
    ) -> None:
        """Multiply x by matrices, in turns; see `Method`."""
        entries = self.prepare.address, self.product.address, self.together
        team.run(in_turns, entries, (packed, *turns), x, out, work)

    def work(self, rows: int, columns: int, tokens: int, threads: int) -> Work:
        """Return memory; see `Method`."""
        share_of_rows = -(-rows // (ROWS_PER_BLOCK * threads)) * ROWS_PER_BLOCK
        elements = self.scratch_elements(share_of_rows, columns, tokens)
        scratch = aligned((threads, -(-elements // CACHE_LINE) * CACHE_LINE), np.int16)
        return aligned((self.prepared_elements(columns, tokens),), np.int16), scratch


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


@inner
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


@inner
def multiply_once(
    counters: Counters,
    thread: int,
    threads: int,
    entries: tuple[int, int, int],
    packed: Packed,
    x: Activations,
    out: Sums,
    work: Work,
) -> None:
    """Multiply x by one matrix; entries = addresses of prepare and product, row blocks taken at once."""
    prepare, product, together = entries
    prepared, scratch = work
    blocks = row_blocks(out.shape[1])
    step = together if together > 0 else -(-blocks // threads)
    call_at(prepare, x, prepared, thread, threads)
    open_shares(counters, thread, threads, blocks)
    barrier(counters, threads)
    first, last = take(counters, thread, threads, blocks, step)
    while first < blocks:
        call_at(product, packed, prepared, x.shape[1], out, scratch[thread], first, last)
        first, last = take(counters, thread, threads, blocks, step)
    barrier(counters, threads)


@compiled
def in_turns(
    counters: Counters,
    thread: int,
    threads: int,
    entries: tuple[int, int, int],
    turns: tuple[Packed, int, int],
    x: Activations,
    out: Sums,
    work: Work,
) -> None:
    """Multiply x by matrices (packed, start, times), in turns; see `Method`. A job for `Team.run`."""
    packed, start, times = turns
    for turn in range(start, start + times):
        multiply_once(counters, thread, threads, entries, packed[turn % packed.shape[0]], x, out, work)
