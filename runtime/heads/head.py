"""What an output head can be asked: all logits, or exactly the largest."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Some tokens and their logits, the largest first, of equal ones the lowest id first."""

    ids: Ids
    logits: Float32


class Head(Protocol):
    """The matrix that turns a hidden state into one logit for each token of the vocabulary.

    `hidden` is float32 (sequences, hidden): after the last norm. All answers agree: a logit that `top` or `within`
    gives is bit for bit that of `logits`.
    """

    vocab: int

    @property
    def bytes_read(self) -> int:
        """Bytes of weights that answers have asked memory for so far."""
        ...

    def logits(self, hidden: Float32) -> Float32:
        """Return all logits (sequences, vocabulary)."""
        ...

    def top(self, hidden: Float32, count: int) -> list[Candidates]:
        """Return the `count` tokens of the largest logits of each sequence."""
        ...

    def within(self, hidden: Float32, margin: float) -> list[Candidates]:
        """Return the tokens whose logit is at least the largest less `margin`, of each sequence."""
        ...
