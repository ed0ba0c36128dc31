"""Tables of trit48 groups, built with AVX-512: for each three activations the sums of all 27 patterns.

Index (w0 + 1) + 3 (w1 + 1) + 9 (w2 + 1) finds w0 x0 + w1 x1 + w2 x2; see `packing.trit48`.
"""

from typing import Any

import numpy as np

from ..compile import inlined, inner
from ..packing.trit48 import COLUMNS, INDEXES, ROWS
from ..simd.vector import I16X32, broadcast, load, store
from .kernel import Activations, Int16, share

Register = Any

TABLES = INDEXES * ROWS  # elements of a group's tables

# For each of three weights, the entries of a table to which it is added, and from which it is taken.
_PATTERNS = np.arange(27)
_SIGNS = np.stack([_PATTERNS // 3**weight % 3 - 1 for weight in range(3)])
_ADDED_AND_TAKEN = np.zeros((3, 2, ROWS), np.int16)
_ADDED_AND_TAKEN[:, 0, :27], _ADDED_AND_TAKEN[:, 1, :27] = -1 * (_SIGNS == 1), -1 * (_SIGNS == -1)
MASKS = _ADDED_AND_TAKEN.reshape(-1)


@inlined
def table_of(x: Int16, place: int, masks: Int16) -> Register:
    """Return the 27 sums of three activations in 32 lanes; the last five are 0."""
    first, second = broadcast(I16X32, x, place), broadcast(I16X32, x, place + 1)
    third = broadcast(I16X32, x, place + 2)
    sums = (first & load(I16X32, masks, 0)) - (first & load(I16X32, masks, ROWS))
    sums = sums + (second & load(I16X32, masks, 2 * ROWS)) - (second & load(I16X32, masks, 3 * ROWS))
    return sums + (third & load(I16X32, masks, 4 * ROWS)) - (third & load(I16X32, masks, 5 * ROWS))


@inner
def build_tables(x: Activations, prepared: Int16, thread: int, threads: int) -> None:
    """Write a thread's share of the tables: int16 (tokens, indexes, 32)."""
    masks = MASKS
    tokens, columns = x.shape
    groups = -(-columns // COLUMNS)
    first, last = share(groups, thread, threads)
    wide = np.zeros(COLUMNS, np.int16)
    for token in range(tokens):
        for group in range(first, last):
            here = x[token, group * COLUMNS : (group + 1) * COLUMNS]
            wide[: len(here)] = here
            wide[len(here) :] = 0
            for index in range(INDEXES):
                place = ((token * groups + group) * INDEXES + index) * ROWS
                store(prepared, place, table_of(wide, 3 * index, masks))


def elements(columns: int, tokens: int) -> int:
    """Return the int16 elements of the tables of some tokens."""
    return tokens * -(-columns // COLUMNS) * TABLES
