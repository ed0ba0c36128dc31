"""The full head: every logit, from 16-bit floating-point weights."""

from typing import NamedTuple

import numpy as np

from ..atomics import Counters, barrier
from ..checkpoints.checkpoint import Dense
from ..compile import compiled
from ..entry import call_at
from ..kernels.dense import padded
from ..kernels.kernel import open_shares, take
from ..memory import aligned
from ..threads import Team
from .choose import checked_count, top_of, within_of
from .head import Candidates, Float32
from .rows_entry import ROWS, Bits, as_compiled

TOGETHER = 64  # rows that a thread takes at once


class Weights(NamedTuple):
    """A full head for compiled functions."""

    bits: Bits  # flat (rows, columns), columns a multiple of 16
    brain: bool


@compiled
def all_rows(
    counters: Counters, thread: int, threads: int, product: int, weights: Weights, x: Float32, out: Float32
) -> None:
    """Write x @ weights.T, float32 (sequences, rows), for x (sequences, columns). A job for `Team.run`."""
    bits, brain = weights
    rows, columns = out.shape[1], x.shape[1]
    flat = x.reshape(-1)
    open_shares(counters, thread, threads, rows)
    barrier(counters, threads)
    first, last = take(counters, thread, threads, rows, TOGETHER)
    while first < rows:
        call_at(product, bits, brain, flat, columns, out, first, last)
        first, last = take(counters, thread, threads, rows, TOGETHER)


def filled_up(weights: Dense) -> Bits:
    """Return the weights, flat, with columns of zeros up to a multiple of the lanes, copied only for that."""
    rows, columns = weights.bits.shape
    wide = padded(columns)
    if wide == columns:
        flat: Bits = as_compiled(weights.bits)
        return flat
    bits: Bits = aligned((rows, wide), np.uint16)
    bits[:, :columns] = weights.bits
    bits[:, columns:] = 0
    return bits.reshape(-1)


def filled_up_states(hidden: Float32, wide: int) -> Float32:
    """Return hidden states (sequences, hidden) in one piece, with zeros up to `wide` columns."""
    sequences, columns = hidden.shape
    filled: Float32 = np.zeros((sequences, wide), np.float32)
    filled[:, :columns] = hidden
    return filled


class ExactHead:
    """All logits are computed, the rows shared out among a team's threads."""

    def __init__(self, weights: Dense, team: Team) -> None:
        """Take the weights (vocabulary, hidden)."""
        self.vocab, self.hidden = weights.bits.shape
        self.weights = Weights(filled_up(weights), weights.brain)
        self._team = team
        self.bytes_read = 0

    def logits(self, hidden: Float32) -> Float32:
        """Return all logits (sequences, vocabulary)."""
        out: Float32 = np.empty((len(hidden), self.vocab), np.float32)
        self.bytes_read += self.weights.bits.nbytes
        self._team.run(all_rows, ROWS.address, self.weights, filled_up_states(hidden, padded(self.hidden)), out)
        return out

    def top(self, hidden: Float32, count: int) -> list[Candidates]:
        """Return the `count` tokens of the largest logits of each sequence.

        Raises:
            ValueError: fewer than one are asked for.
        """
        checked_count(count)
        return [top_of(logits, count) for logits in self.logits(hidden)]

    def within(self, hidden: Float32, margin: float) -> list[Candidates]:
        """Return the tokens whose logit is at least the largest less `margin`, of each sequence."""
        return [within_of(logits, margin) for logits in self.logits(hidden)]
