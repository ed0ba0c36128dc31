"""What a call of the screened head is made of: arrays for some sequences (up to 16) at once.

V' rows (a multiple of 64), d columns, d' (a multiple of 16).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..atomics import Counters
from .exact import Weights
from .head import Float32
from .rows_entry import Bits

# Numbers about a sequence: |h'|, the step of int8, what all rows have in common, the error of rounding for each unit of
# a row's length, the estimate from which on rows were looked at first, the exact logit that an answer must reach.
NORM, STEP, CONSTANT, SLACK, SEEN, LEAST, FACTS = 0, 1, 2, 3, 4, 5, 16
# Counters of a sequence: rows listed, rows taken off the list, whether the full head is to answer.
LISTED, TAKEN, FAILED, LINE = 0, 1, 2, 8


class Copy(NamedTuple):
    """The arrays of a `Screen`."""

    rotation: Bits  # flat (d, d')
    centre: Float32
    mean_row: Float32
    codes: npt.NDArray[np.uint8]
    scales: Float32
    offsets: Float32
    errors: npt.NDArray[np.uint32]
    dither: Float32


class Question(NamedTuple):
    """What is asked: the `wanted` largest, or if that is 0 all within `margin` of the largest."""

    wanted: int
    margin: np.float32
    sigmas: float  # c of the bound
    longest: float  # the largest length of levels
    rows: int


class Memory(NamedTuple):
    """What the steps write for each other, for each sequence."""

    centred: Float32  # (sequences, d')
    turned: Float32  # (sequences, d)
    facts: Float32  # (sequences, 16)
    x: npt.NDArray[np.int8]  # (sequences, columns in groups)
    tables: npt.NDArray[np.int16]
    sums: npt.NDArray[np.int32]  # (threads, sequences x row blocks taken at once x 64)
    estimates: Float32  # (sequences, V')
    best: Float32  # (sequences, row blocks): largest estimate
    reach: Float32  # (sequences, row blocks): largest upper bound
    spare: Float32  # (sequences, V')
    ids: npt.NDArray[np.int32]  # (sequences, capacity): rows looked at again
    logits: Float32  # (sequences, capacity): their exact logits
    counters: Counters  # (sequences, 8)


class Call(NamedTuple):
    """All of it."""

    weights: Weights
    hidden: Float32  # (sequences, d')
    copy: Copy
    question: Question
    memory: Memory
