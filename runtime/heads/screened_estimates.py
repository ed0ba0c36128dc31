"""Estimates of all logits from two-bit codes, and bounds of their errors: the first steps of a screened head's call."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..atomics import Counters
from ..compile import inlined, inner
from ..entry import call_at
from ..kernels.kernel import take
from ..simd.floats import larger_float, largest_lane, multiply_add, to_floats
from ..simd.vector import F32X16, I32X16, load, reinterpret, splat, store
from .head import Float32
from .quarter_codes import COLUMNS, ROWS
from .quarter_kernel import TOGETHER
from .screened_call import CONSTANT, FAILED, LINE, LISTED, NORM, SLACK, STEP, TAKEN, Call

Int32 = npt.NDArray[np.int32]
Register = Any

LANES = 16
LARGEST = 127.0  # of the activations
SMALLEST, BEYOND = 1e-30, 1e15  # sizes of hidden states outside of which nothing is said about rounding


@inlined
def largest_of(x: Float32, sequence: int, count: int) -> Any:
    """Return the largest size of a sequence's first numbers."""
    largest = np.float32(0)
    for column in range(count):
        largest = max(largest, abs(x[sequence, column]))
    return largest


@inlined
def squares_of(x: Float32, sequence: int, count: int) -> Any:
    """Return the sum of the squares of a sequence's first numbers, in double precision."""
    total = 0.0
    for column in range(count):
        total += float(x[sequence, column]) * float(x[sequence, column])
    return total


@inner
def centre(call: Call, sequence: int) -> None:
    """Write hidden - centre, and what is the same for all rows; note a state that is not finite, or too large."""
    hidden, copy, memory = call.hidden, call.copy, call.memory
    columns, facts = len(copy.centre), memory.facts[sequence]
    constant = centre_squares = 0.0
    for column in range(columns):
        here = hidden[sequence, column] - copy.centre[column]
        memory.centred[sequence, column] = here
        constant += float(here) * float(copy.mean_row[column])
        centre_squares += float(copy.centre[column]) ** 2
    squares = squares_of(hidden, sequence, columns)
    # Rounding in the exact sum of columns / 16 terms a lane, and as much for the rest.
    rounding = (columns / LANES + LANES) * 2.0**-24
    facts[CONSTANT] = constant
    facts[SLACK] = 2 * rounding * (np.sqrt(squares) + np.sqrt(centre_squares))
    memory.counters[sequence * LINE + LISTED] = memory.counters[sequence * LINE + TAKEN] = 0
    memory.counters[sequence * LINE + FAILED] = 0 if squares < BEYOND and abs(constant) < BEYOND else 1


@inner
def quantize(call: Call, sequence: int) -> None:
    """Write h' as int8, rounded down after the dither was added."""
    copy, memory = call.copy, call.memory
    columns, facts = len(copy.centre), memory.facts[sequence]
    largest = largest_of(memory.turned, sequence, columns)
    if not (largest == 0 or SMALLEST < largest < BEYOND):
        memory.counters[sequence * LINE + FAILED] = 1
        largest = np.float32(0)
    facts[NORM] = np.sqrt(squares_of(memory.turned, sequence, columns))
    facts[STEP] = largest / np.float32(LARGEST)
    inverse = np.float32(LARGEST) / largest if largest > 0 else np.float32(0)
    for column in range(columns):
        value = np.floor(memory.turned[sequence, column] * inverse + copy.dither[column])
        memory.x[sequence, column] = np.int8(min(max(value, np.float32(-LARGEST)), np.float32(LARGEST)))


@inlined
def bounds(call: Call, sequence: int, row: int) -> Register:
    """Return how far the exact logits of 16 rows may be from the estimates."""
    copy, facts, question = call.copy, call.memory.facts[sequence], call.question
    errors = load(I32X16, copy.errors, row)
    residuals, norms = reinterpret(F32X16, errors & -65536), reinterpret(F32X16, errors << 16)
    rounded = load(F32X16, copy.scales, row) * (np.float32(0.5) * facts[STEP] * np.float32(question.longest))
    deviations = multiply_add(residuals, splat(F32X16, facts[NORM]), rounded)
    return multiply_add(deviations, splat(F32X16, np.float32(question.sigmas)), norms * facts[SLACK])


@inner
def estimate(call: Call, sequence: int, block: int, sums: Int32) -> None:
    """Write the estimates of a row block whose sums are given, and the largest estimate and upper bound."""
    copy, memory = call.copy, call.memory
    facts, width = memory.facts[sequence], memory.estimates.shape[1]
    estimates = memory.estimates.reshape(-1)
    best = reach = splat(F32X16, -np.inf)
    for step in range(0, ROWS, LANES):
        row = block * ROWS + step
        products = to_floats(load(I32X16, sums, step)) * facts[STEP]
        offsets = load(F32X16, copy.offsets, row) + facts[CONSTANT]
        here = multiply_add(products, load(F32X16, copy.scales, row), offsets)
        store(estimates, sequence * width + row, here)
        best = larger_float(best, here)
        reach = larger_float(reach, here + bounds(call, sequence, row))
    memory.best[sequence, block] = largest_lane(best)
    memory.reach[sequence, block] = largest_lane(reach)


@inner
def estimate_blocks(counters: Counters, thread: int, threads: int, product: int, call: Call) -> None:
    """Write all estimates; row blocks are taken, and all sequences read them while they are in cache."""
    memory, codes = call.memory, call.copy.codes
    blocks, groups, sums = memory.best.shape[1], memory.x.shape[1] // COLUMNS, memory.sums[thread]
    first, last = take(counters, thread, threads, blocks, TOGETHER)
    while first < blocks:
        call_at(product, codes, memory.tables, groups, memory.x.shape[0], sums, first, last - first)
        for sequence in range(memory.x.shape[0]):
            for block in range(first, last):
                estimate(call, sequence, block, sums[(sequence * (last - first) + block - first) * ROWS :])
        first, last = take(counters, thread, threads, blocks, TOGETHER)
