"""Which rows are looked at again, and their exact logits: the last steps of a screened head's call."""

from typing import Any

import numpy as np

from ..atomics import atomic_add
from ..compile import inlined, inner
from ..simd.floats import from_brain, from_half, multiply_add, sum_of_lanes
from ..simd.vector import F32X16, I16X16, load, splat, store
from .head import Float32
from .quarter_codes import ROWS
from .screened_call import FAILED, LEAST, LINE, LISTED, SEEN, TAKEN, Call, Memory
from .screened_estimates import LANES, bounds
from .select import kth_largest

AT_ONCE = 4  # rows looked at again side by side
FIRST = 64  # rows looked at again before anything is known


@inlined
def copied(values: Float32, spare: Float32, sequence: int, count: int) -> Any:
    """Return a copy of a sequence's first numbers."""
    for place in range(count):
        spare[sequence, place] = values[sequence, place]
    return spare[sequence]


@inner
def first_threshold(call: Call, sequence: int) -> None:
    """Find an estimate that as many rows reach as are asked for, or `FIRST` if that is more."""
    memory, question = call.memory, call.question
    wanted = max(question.wanted, FIRST)
    blocks = memory.best.shape[1]
    few = 4 * wanted > blocks  # then the largest of each block say too little
    values, count = (memory.estimates, question.rows) if few else (memory.best, blocks)
    memory.facts[sequence, SEEN] = -np.inf
    if wanted <= count:
        memory.facts[sequence, SEEN] = kth_largest(copied(values, memory.spare, sequence, count), count, wanted)


@inner
def second_threshold(call: Call, sequence: int) -> None:
    """Find the exact logit below which no row is an answer, whatever those not looked at are."""
    memory, question = call.memory, call.question
    line = sequence * LINE
    count = memory.counters[line + LISTED]
    memory.counters[line + TAKEN] = count
    if count > memory.ids.shape[1]:
        memory.counters[line + FAILED] = 1
    if memory.counters[line + FAILED] == 0:
        wanted = min(max(question.wanted, 1), count)
        spare = copied(memory.logits, memory.spare, sequence, count)
        memory.facts[sequence, LEAST] = kth_largest(spare, count, wanted) - question.margin


@inlined
def listed(memory: Memory, sequence: int, row: int) -> None:
    """Put a row on the list of those to look at again, if there is a place."""
    place = atomic_add(memory.counters, sequence * LINE + LISTED, 1)
    if place < memory.ids.shape[1]:
        memory.ids[sequence, place] = row


@inner
def list_best(call: Call, sequence: int, blocks: tuple[int, int]) -> None:
    """List the rows of some blocks whose estimates reach the first threshold."""
    memory, rows = call.memory, call.question.rows
    threshold = memory.facts[sequence, SEEN]
    for block in range(blocks[0], blocks[1]):
        if memory.best[sequence, block] >= threshold:
            for row in range(block * ROWS, min((block + 1) * ROWS, rows)):
                if memory.estimates[sequence, row] >= threshold:
                    listed(memory, sequence, row)


@inner
def list_possible(call: Call, sequence: int, blocks: tuple[int, int], spare: Float32) -> None:
    """List the other rows of some blocks whose upper bounds reach the second threshold."""
    memory, question = call.memory, call.question
    facts = memory.facts[sequence]
    seen, threshold = facts[SEEN], facts[LEAST]
    for block in range(blocks[0], blocks[1]):
        if memory.reach[sequence, block] >= threshold:
            for step in range(0, ROWS, LANES):
                store(spare, step, bounds(call, sequence, block * ROWS + step))
            for row in range(block * ROWS, min((block + 1) * ROWS, question.rows)):
                here = memory.estimates[sequence, row]
                if here < seen and here + spare[row - block * ROWS] >= threshold:
                    listed(memory, sequence, row)


@inlined
def look_at_four(convert: Any, call: Call, sequence: int, places: tuple[int, int]) -> None:
    """Write exact logits of up to four listed rows (first, last), each summed up as the full head does it."""
    memory, columns, (first, last) = call.memory, call.hidden.shape[1], places
    bits, x, start, ids = call.weights.bits, call.hidden.reshape(-1), sequence * columns, memory.ids[sequence]
    # Where fewer are left, the last is done again.
    r0, r1 = ids[first] * columns, ids[min(first + 1, last - 1)] * columns
    r2, r3 = ids[min(first + 2, last - 1)] * columns, ids[min(first + 3, last - 1)] * columns
    a = b = c = d = splat(F32X16, 0.0)
    for column in range(0, columns, LANES):
        here = load(F32X16, x, start + column)
        a = multiply_add(convert(load(I16X16, bits, r0 + column)), here, a)
        b = multiply_add(convert(load(I16X16, bits, r1 + column)), here, b)
        c = multiply_add(convert(load(I16X16, bits, r2 + column)), here, c)
        d = multiply_add(convert(load(I16X16, bits, r3 + column)), here, d)
    logits = memory.logits[sequence]
    logits[min(first + 3, last - 1)], logits[min(first + 2, last - 1)] = sum_of_lanes(d), sum_of_lanes(c)
    logits[min(first + 1, last - 1)], logits[first] = sum_of_lanes(b), sum_of_lanes(a)


@inner
def half_logits(call: Call, sequence: int, places: tuple[int, int]) -> None:
    """Write exact logits from weights in half precision; see `look_at_four`."""
    look_at_four(from_half, call, sequence, places)


@inner
def brain_logits(call: Call, sequence: int, places: tuple[int, int]) -> None:
    """Write exact logits from weights in bfloat16; see `look_at_four`."""
    look_at_four(from_brain, call, sequence, places)


@inner
def look_again(call: Call, sequence: int, spare: Float32) -> None:
    """Write exact logits of listed rows until none is left; note one further from its estimate than the bound."""
    memory, line = call.memory, sequence * LINE
    count = min(memory.counters[line + LISTED], memory.ids.shape[1])
    first = atomic_add(memory.counters, line + TAKEN, AT_ONCE)
    while first < count:
        last = min(first + AT_ONCE, count)
        if call.weights.brain:
            brain_logits(call, sequence, (first, last))
        else:
            half_logits(call, sequence, (first, last))
        for place in range(first, last):
            row = memory.ids[sequence, place]
            store(spare, 0, bounds(call, sequence, row // LANES * LANES))
            if not abs(memory.logits[sequence, place] - memory.estimates[sequence, row]) <= spare[row % LANES]:
                memory.counters[line + FAILED] = 1
        first = atomic_add(memory.counters, line + TAKEN, AT_ONCE)
