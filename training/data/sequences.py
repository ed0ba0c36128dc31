"""Tokens as the sequences that a training step takes, and the order they are taken in."""

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from bitsim.energy_tables import BitsimError

from .tokens import Tokens

Item = dict[str, torch.Tensor]


class Sequences(Dataset[Item]):
    """Tokens cut into sequences of equal length, one after the other; a rest at the end is left out.

    Item i is `{"input_ids": x, "labels": x}`, x (context,) int64: the models of transformers shift labels themselves,
    so a sequence has context - 1 predictions.
    """

    def __init__(self, tokens: Tokens, context: int) -> None:
        """Take tokens (tokens,) and the length of a sequence; a BitsimError where they fill not even one."""
        if context < 2:
            raise BitsimError(f"context: expected at least 2 tokens, got {context}")
        if len(tokens) < context:
            raise BitsimError(f"the text has {len(tokens):,} tokens, fewer than one context of {context:,}")
        self.context = context
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens) // self.context

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self.context
        ids = torch.from_numpy(self._tokens[start : start + self.context].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


class Ordered(Dataset[Item]):
    """All that a run trains on, in order: item k is the k-th sequence taken, epoch after epoch, each shuffled anew.

    What item k is follows from the seed alone. So a loader that goes from 0 up needs no state: a run that resumes
    starts at the item it had come to, and processes that share a batch share its items.
    """

    def __init__(self, sequences: Sequences, count: int, seed: int) -> None:
        """Take the sequences, how many items a run takes in all, and a seed from 0."""
        if count < 1 or seed < 0:
            raise BitsimError(f"expected at least one sequence to train on and a seed from 0, got {count} and {seed}")
        self._sequences, self._count, self._seed = sequences, count, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        return self._sequences[self.position(index)]

    def position(self, index: int) -> int:
        """Return which of the sequences item `index` is."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        epoch, place = divmod(index, len(self._sequences))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, shuffled(len(self._sequences), self._seed, epoch)
        return int(self._order[place])


def shuffled(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the numbers below `count` in an order that follows from seed and epoch.

    The numbers of a bit generator are the same in every version of numpy; what its `shuffle` does with them is not.
    """
    keys = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(count)
    return np.argsort(keys, kind="stable")
