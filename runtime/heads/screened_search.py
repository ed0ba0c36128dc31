"""The steps of a screened head's call in their order, shared out among threads."""

from typing import Any

import numpy as np

from ..atomics import Counters, barrier
from ..compile import compiled, inlined
from ..entry import call_at
from ..kernels.kernel import open_shares, share
from .screened_call import FAILED, LINE, Call
from .screened_estimates import centre, estimate_blocks, quantize
from .screened_rows import first_threshold, list_best, list_possible, look_again, second_threshold


@inlined
def good(call: Call, sequence: int) -> Any:
    """Whether nothing speaks against a sequence's answer."""
    return call.memory.counters[sequence * LINE + FAILED] == 0


@inlined
def estimates(counters: Counters, thread: int, threads: int, entries: tuple[int, int, int], call: Call) -> None:
    """Estimate all logits; see `search`.

    What is short is done by every thread, all writing the same, which spares a barrier.
    """
    rotate, prepare, product = entries
    copy, memory, (sequences, wide) = call.copy, call.memory, call.hidden.shape
    for sequence in range(sequences):
        centre(call, sequence)
    open_shares(counters, thread, threads, memory.best.shape[1])
    first, last = share(len(copy.centre), thread, threads)
    call_at(rotate, copy.rotation, False, memory.centred.reshape(-1), wide, memory.turned, first, last)
    barrier(counters, threads)
    for sequence in range(sequences):
        quantize(call, sequence)
    call_at(prepare, memory.x, memory.tables, thread, threads)
    barrier(counters, threads)
    estimate_blocks(counters, thread, threads, product, call)
    barrier(counters, threads)


@inlined
def look_at_best(counters: Counters, thread: int, threads: int, call: Call) -> None:
    """Look again at the rows of the largest estimates, which gives the logit that an answer must reach."""
    sequences, blocks = call.memory.best.shape
    for sequence in range(thread, sequences, threads):
        if good(call, sequence):
            first_threshold(call, sequence)
    barrier(counters, threads)
    for sequence in range(sequences):
        if good(call, sequence):
            list_best(call, sequence, share(blocks, thread, threads))
    barrier(counters, threads)
    look_at_listed(call, thread)
    barrier(counters, threads)
    for sequence in range(thread, sequences, threads):
        second_threshold(call, sequence)
    barrier(counters, threads)


@inlined
def look_at_listed(call: Call, thread: int) -> None:
    """Look again at what is listed."""
    spare = call.memory.sums[thread].view(np.float32)
    for sequence in range(call.memory.best.shape[0]):
        if good(call, sequence):
            look_again(call, sequence, spare)


@compiled
def search(counters: Counters, thread: int, threads: int, entries: tuple[int, int, int], call: Call) -> None:
    """List all rows that may be an answer, with their exact logits. A job for `Team.run`.

    entries: addresses of `ROWS` and of a `QuarterKernel`'s steps. Sequences whose counter FAILED is set, or LISTED
    beyond the capacity, are to be answered by the full head.
    """
    estimates(counters, thread, threads, entries, call)
    look_at_best(counters, thread, threads, call)
    sequences, blocks = call.memory.best.shape
    spare = call.memory.sums[thread].view(np.float32)
    for sequence in range(sequences):
        if good(call, sequence):
            list_possible(call, sequence, share(blocks, thread, threads), spare)
    barrier(counters, threads)
    look_at_listed(call, thread)
