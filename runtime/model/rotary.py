"""Rotary position embedding (Su et al., 2104.09864) with the scalings of long contexts."""

import math

import numpy as np
import numpy.typing as npt

from ..compile import inner
from ..simd.vector import F32X16, load, store
from .config import Rope

Float32 = npt.NDArray[np.float32]

LANES = 16


def frequencies(rope: Rope, head_dim: int) -> npt.NDArray[np.float64]:
    """Return the angle per position of each pair of a head: float64 (head_dim / 2).

    The scalings are those of transformers (modeling_rope_utils): linear; llama3 (Llama 3.1); yarn (2309.00071).
    """
    plain = rope.theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if rope.scaling == "linear":
        return plain / rope.factor
    if rope.scaling == "llama3":
        turns = rope.original_context * plain / (2 * math.pi)  # in the original context
        share = (turns - rope.low_frequency) / (rope.high_frequency - rope.low_frequency)
        return plain * (1 - np.clip(1 - share, 0, 1) * (1 - 1 / rope.factor))
    if rope.scaling == "yarn":
        low, high = (_pair_with_turns(rope, head_dim, turns) for turns in (rope.beta_fast, rope.beta_slow))
        first, last = max(math.floor(low), 0), min(math.ceil(high), head_dim - 1)
        ramp = np.clip((np.arange(head_dim // 2) - first) / max(last - first, 0.001), 0, 1)
        return plain / rope.factor * ramp + plain * (1 - ramp)
    return plain


def _pair_with_turns(rope: Rope, head_dim: int, turns: float) -> float:
    """Return which pair makes so many turns over the original context."""
    return head_dim * math.log(rope.original_context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))


def tables(rope: Rope, head_dim: int, positions: int) -> Float32:
    """Return cosines and sines: float32 (positions, 2, head_dim / 2)."""
    angles = np.outer(np.arange(positions), frequencies(rope, head_dim).astype(np.float32))
    both = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rope.attention_factor
    return np.ascontiguousarray(both, np.float32)


@inner
def rotate(x: Float32, place: int, half: int, table: Float32, start: int) -> None:
    """Rotate a head's two halves against each other, in place; the table's row begins at `start`."""
    whole = half // LANES * LANES
    for pair in range(0, whole, LANES):
        cosine, sine = load(F32X16, table, start + pair), load(F32X16, table, start + half + pair)
        first, second = load(F32X16, x, place + pair), load(F32X16, x, place + half + pair)
        store(x, place + pair, first * cosine - second * sine)
        store(x, place + half + pair, second * cosine + first * sine)
    for pair in range(whole, half):
        cosine_, sine_ = table[start + pair], table[start + half + pair]
        first_, second_ = x[place + pair], x[place + half + pair]
        x[place + pair] = first_ * cosine_ - second_ * sine_
        x[place + half + pair] = second_ * cosine_ + first_ * sine_
