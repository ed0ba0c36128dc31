"""What the ways to multiply by two-bit codes have in common: their steps, called by address."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..entry import Entry, array_of
from ..kernels.kernel import INDEX

TOGETHER = 8  # row blocks that a thread takes at once


def multiplies_codes(function: Callable[..., None]) -> Entry:
    """Make an entry of product(codes, tables, groups, tokens, sums, first, count): see `QuarterKernel`."""
    codes, tables, sums = array_of(np.uint8), array_of(np.int16), array_of(np.int32)
    return Entry(function, codes, tables, INDEX, INDEX, sums, INDEX, INDEX)


@dataclass(frozen=True, slots=True)
class QuarterKernel:
    """A way to multiply int8 activations by codes of `quarter_codes`, exactly and with additions only.

    prepare(x, tables, thread, threads): a thread's share of the tables of x, int8 (tokens, columns), columns a
        multiple of 8, filled up with zeros.
    product(codes, tables, groups, tokens, sums, first, count): the sums of up to `TOGETHER` row blocks from `first` on,
        int32 (tokens, count, 64).

    They check nothing. `table_elements(groups)` says how many int16 the tables of a token take.
    """

    name: str
    needs: frozenset[str]  # CPU features, as `cpu.features` names them
    prepare: Entry
    product: Entry
    table_elements: Callable[[int], int]
