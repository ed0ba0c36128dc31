"""The largest of some logits, in the order that `Candidates` asks for."""

import numpy as np
import numpy.typing as npt

from .head import Candidates, Float32

Order = npt.NDArray[np.intp] | npt.NDArray[np.int32]


def top_of(logits: Float32, count: int) -> Candidates:
    """Return the `count` largest of a sequence's logits (vocabulary)."""
    if count == 1:
        return sorted_candidates(np.array([logits.argmax()]), logits)
    place = max(len(logits) - count, 0)
    return sorted_candidates(np.flatnonzero(~(logits < np.partition(logits, place)[place])), logits, count)


def within_of(logits: Float32, margin: float) -> Candidates:
    """Return those of a sequence's logits (vocabulary) that are at least the largest less `margin`."""
    return sorted_candidates(np.flatnonzero(~(logits < threshold(logits.max(), margin))), logits)


def threshold(largest: np.float32, margin: float) -> np.float32:
    """Return the largest logit less `margin`, as float32."""
    return np.float32(largest - np.float32(margin))


def sorted_candidates(ids: Order, logits: Float32, count: int | None = None) -> Candidates:
    """Return the first `count` of some tokens in order; logits are of all tokens (vocabulary)."""
    return in_order(ids, logits[ids], count)


def in_order(ids: Order, logits: Float32, count: int | None = None) -> Candidates:
    """Return the first `count` of some tokens in order, given with their logits."""
    order = np.lexsort((ids, -logits))[:count]
    return Candidates(ids[order].astype(np.int64), logits[order])


def checked_count(count: int) -> None:
    """Raise unless at least one token is asked for.

    Raises:
        ValueError: it is not.
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
