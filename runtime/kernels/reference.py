"""The definition of right: weights unpacked by the codec and multiplied by numpy in int64."""

from typing import Any

import numpy as np

from ..packing import CODECS
from ..threads import Team
from .kernel import ROWS_PER_BLOCK, Activations, Kernel, Packed, Sums, Work

PACKING = "trit48"


class Reference:
    """A method in plain Python; see `Method`."""

    def work(self, rows: int, columns: int, tokens: int, threads: int) -> Work:
        """Return no memory: numpy takes its own."""
        return np.empty(0, np.int16), np.empty(0, np.int16)

    def multiply(
        self, team: Team, packed: Packed, turns: tuple[int, int], x: Activations, out: Sums, work: Work
    ) -> None:
        """Multiply x by matrices, in turns; see `Method`."""
        start, times = turns
        for turn in range(start, start + times):
            team.run(product, packed[turn % len(packed)], x, out)


def product(counters: Any, thread: int, threads: int, packed: Packed, x: Activations, out: Sums) -> None:
    """Write a thread's share of x @ weights.T."""
    rows = out.shape[1]
    blocks = -(-rows // ROWS_PER_BLOCK)
    first, last = thread * blocks // threads, (thread + 1) * blocks // threads
    part = slice(first * ROWS_PER_BLOCK, min(last * ROWS_PER_BLOCK, rows))
    weights = CODECS[PACKING].unpack(packed, rows, x.shape[1]).weights
    out[:, part] = x.astype(np.int64) @ weights[part].T.astype(np.int64)


KERNEL = Kernel(name="reference", packing=PACKING, needs=frozenset(), methods=((1, Reference()),))
