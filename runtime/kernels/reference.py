"""The definition of right: weights unpacked by the codec and multiplied by numpy in int64."""

from typing import Any

import numpy as np

from ..atomics import barrier
from ..packing import CODECS
from .kernel import ROWS_PER_BLOCK, Activations, Int16, Kernel, Sums, row_blocks, share


def prepare(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Copy a thread's share of the activations."""
    first, last = share(x.size, thread, threads)
    prepared[first:last] = x.reshape(-1)[first:last]


def product(packed: Any, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write x @ weights.T for the row blocks from `first` to before `last`."""
    tokens, rows = out.shape
    weights = CODECS[KERNEL.packing].unpack(packed.view(np.uint8), rows, columns).weights
    part = slice(first * ROWS_PER_BLOCK, min(last * ROWS_PER_BLOCK, rows))
    x = prepared[: tokens * columns].reshape(tokens, columns)
    out[:, part] = x.astype(np.int64) @ weights[part].T.astype(np.int64)


def multiply(
    counters: Any,
    thread: int,
    threads: int,
    packed: Any,
    turns: tuple[int, int],
    x: Activations,
    out: Sums,
    work: tuple[Int16, Int16],
) -> None:
    """Multiply x by matrices of packed (matrices, words), in turns; see `Kernel`."""
    start, times = turns
    prepared, scratch = work
    first, last = share(row_blocks(out.shape[1]), thread, threads)
    for turn in range(start, start + times):
        prepare(x, prepared, thread, threads)
        barrier(counters, threads)
        product(packed[turn % len(packed)], prepared, x.shape[1], out, scratch[thread], first, last)
        barrier(counters, threads)


KERNEL = Kernel(
    name="reference",
    packing="trit48",
    word=np.uint16,
    needs=frozenset(),
    prepared_elements=lambda columns, tokens: columns * tokens,
    scratch_elements=lambda rows, columns, tokens: 0,
    prepare=prepare,
    product=product,
    multiply=multiply,
)
