"""The screened head: the answers of the full head from a fraction of its bytes, by a copy of two bits a weight.

All rows are estimated from the copy; the best are looked at again with the full weights, which gives a logit that every
answer must reach; then every other row is looked at again whose estimate, plus c standard deviations of its error,
reaches it. Logits are summed up as in the full head, so they and their order are the same bit for bit.

An answer is missing with a probability of at most 2 exp(-c^2 / 2) for each token asked for: 3e-8 at c = 6, 5e-11 at 7
(the true tail is a tenth of that or less). The two halves are the residual's, see `screen_build`, and that of rounding
h' to int8: rounded down after a dither uniform from 0 to 1 was added, each error has mean 0 and a range of one step,
whatever the rotation is, so by Hoeffding's inequality their product with a row w exceeds c step |w| / 2 with at most
exp(-c^2 / 2). Hidden states depend on rotation and dither only through earlier answers, which are independent of both
while they are right.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoints.checkpoint import Dense
from ..kernels.dense import padded
from ..memory import aligned
from ..threads import Team
from . import quarter_codes
from .choose import checked_count, in_order, threshold
from .exact import ExactHead, filled_up_states
from .head import Candidates, Float32
from .quarter_choice import available
from .quarter_kernel import TOGETHER, QuarterKernel
from .rows_entry import ROWS, as_compiled
from .screen import Screen
from .screened_call import FACTS, FAILED, LINE, LISTED, Call, Copy, Memory, Question
from .screened_search import search

Ids32 = npt.NDArray[np.int32]
Choice = Callable[[Ids32, Float32], Candidates]
FullHead = Callable[[Float32], list[Candidates]]

SEQUENCES = 16  # that share one reading of the codes
CAPACITY = 4  # at most a quarter of the rows is looked at again: then the full head is as quick
LEAST_CAPACITY = 4096  # rows


@dataclass(slots=True)
class Counts:
    """What a screened head has done so far."""

    answers: int = 0  # sequences asked about, all logits not counted
    fallbacks: int = 0  # those that the full head answered
    all_logits: int = 0  # sequences of which all logits were asked for
    rows: int = 0  # looked at again
    bytes_read: int = 0  # weights of both heads; what sequences share counts once


class ScreenedHead:
    """The full head and its screen; the full head answers where the screen can't, and `counts` says how often."""

    def __init__(
        self, weights: Dense, screen: Screen, team: Team, sigmas: float = 6.0, kernel: QuarterKernel | None = None
    ) -> None:
        """Take the weights (vocabulary, hidden), their screen, and c, the standard deviations of the bound."""
        self.exact = ExactHead(weights, team)
        self.vocab, self.hidden = weights.bits.shape
        self.sigmas, self.kernel = sigmas, kernel or available()[0]
        self.counts = Counts()
        self._team, self._screen = team, screen
        self._copy = Copy(*(as_compiled(getattr(screen, name)) for name in Copy._fields))
        self._capacity = min(self.vocab, max(self.vocab // CAPACITY, LEAST_CAPACITY))
        self._memory, self._most = self._new_memory(1), 1
        self._turn = threading.Lock()

    @property
    def screen_bytes(self) -> int:
        """Bytes of the screen that a call reads."""
        return sum(array.nbytes for array in self._copy)

    @property
    def bytes_read(self) -> int:
        """Bytes of weights that answers have asked memory for so far."""
        return self.counts.bytes_read

    def logits(self, hidden: Float32) -> Float32:
        """Return all logits (sequences, vocabulary), by the full head."""
        with self._turn:
            self.counts.all_logits += len(hidden)
            self.counts.bytes_read += self.exact.weights.bits.nbytes
        return self.exact.logits(hidden)

    def top(self, hidden: Float32, count: int) -> list[Candidates]:
        """Return the `count` tokens of the largest logits of each sequence.

        Raises:
            ValueError: fewer than one are asked for.
        """
        checked_count(count)

        def chosen(ids: Ids32, logits: Float32) -> Candidates:
            return in_order(ids, logits, count)

        if count > self._capacity:
            self.counts.answers += len(hidden)
            return self._by_full_head(hidden, lambda states: self.exact.top(states, count))
        return self._answers(hidden, (count, 0.0), chosen, lambda states: self.exact.top(states, count))

    def within(self, hidden: Float32, margin: float) -> list[Candidates]:
        """Return the tokens whose logit is at least the largest less `margin`, of each sequence."""

        def chosen(ids: Ids32, logits: Float32) -> Candidates:
            enough = np.flatnonzero(logits >= threshold(logits.max(), margin))
            return in_order(ids[enough], logits[enough])

        return self._answers(hidden, (0, margin), chosen, lambda states: self.exact.within(states, margin))

    def _answers(
        self, hidden: Float32, asked: tuple[int, float], chosen: Choice, in_full: FullHead
    ) -> list[Candidates]:
        answers: list[Candidates | None] = []
        with self._turn:
            for first in range(0, len(hidden), SEQUENCES):
                answers += self._screened(hidden[first : first + SEQUENCES], asked, chosen)
        missing = [place for place, answer in enumerate(answers) if answer is None]
        if missing:
            for place, answer in zip(missing, self._by_full_head(hidden[missing], in_full), strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _by_full_head(self, hidden: Float32, in_full: FullHead) -> list[Candidates]:
        with self._turn:
            self.counts.fallbacks += len(hidden)
            self.counts.bytes_read += self.exact.weights.bits.nbytes
        return in_full(hidden)

    def _screened(self, hidden: Float32, asked: tuple[int, float], chosen: Choice) -> list[Candidates | None]:
        """Return the answers for up to `SEQUENCES` hidden states, None for those that the full head is to give."""
        memory = self._memory_for(len(hidden))
        count, margin = asked
        question = Question(count, np.float32(margin), self.sigmas, float(self._screen.longest[0]), self.vocab)
        entries = ROWS.address, self.kernel.prepare.address, self.kernel.product.address
        call = Call(self.exact.weights, filled_up_states(hidden, padded(self.hidden)), self._copy, question, memory)
        self._team.run(search, entries, call)
        answers: list[Candidates | None] = []
        self.counts.answers += len(hidden)
        self.counts.bytes_read += self.screen_bytes
        for sequence, line in enumerate(memory.counters.reshape(-1, LINE)):
            listed = int(line[LISTED])
            here = min(listed, self._capacity)
            self.counts.rows += here
            self.counts.bytes_read += here * padded(self.hidden) * 2
            failed = line[FAILED] or listed > self._capacity
            answers.append(None if failed else chosen(memory.ids[sequence, :here], memory.logits[sequence, :here]))
        return answers

    def _memory_for(self, sequences: int) -> Memory:
        """Return the memory for so many sequences: the first parts of that for the largest number there was."""
        if sequences > self._most:
            self._memory, self._most = self._new_memory(sequences), sequences
        parts: Any = (array[: len(array) * sequences // self._most] for array in self._memory)
        return Memory(*parts)._replace(sums=self._memory.sums)

    def _new_memory(self, sequences: int) -> Memory:
        blocks, groups = quarter_codes.row_blocks(self.vocab), quarter_codes.column_groups(self.hidden)
        rows = blocks * quarter_codes.ROWS
        return Memory(
            centred=np.zeros((sequences, padded(self.hidden)), np.float32),
            turned=np.empty((sequences, self.hidden), np.float32),
            facts=np.empty((sequences, FACTS), np.float32),
            x=np.zeros((sequences, groups * quarter_codes.COLUMNS), np.int8),
            tables=aligned((sequences * self.kernel.table_elements(groups),), np.int16),
            sums=aligned((self._team.threads, sequences * TOGETHER * quarter_codes.ROWS), np.int32),
            estimates=aligned((sequences, rows), np.float32),
            best=np.empty((sequences, blocks), np.float32),
            reach=np.empty((sequences, blocks), np.float32),
            spare=aligned((sequences, rows), np.float32),
            ids=aligned((sequences, self._capacity), np.int32),
            logits=aligned((sequences, self._capacity), np.float32),
            counters=np.zeros(sequences * LINE, np.int64),
        )
