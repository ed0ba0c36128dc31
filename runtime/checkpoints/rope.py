"""Arithmetic of rotary scaling that files leave to the reader."""

import math

import numpy as np

from ..model.config import Rope
from .checkpoint import Float32


def attention_factor(factor: float, scale: float = 1.0) -> float:
    """Return what yarn multiplies cosine and sine by, if a file does not say (arXiv 2309.00071, section 3.4)."""
    return 0.1 * scale * math.log(max(factor, 1.0)) + 1


def llama3_divisors(rope: Rope, head_dim: int) -> Float32:
    """Return what llama3 scaling divides each frequency by, (head_dim / 2,): 1 for the quick, `factor` for the slow."""
    places = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    turns = rope.original_context / (2 * np.pi * rope.theta**places)
    smooth = (turns - rope.low_frequency) / (rope.high_frequency - rope.low_frequency)
    smooth = np.clip(smooth, 0, 1)
    return (1 / ((1 - smooth) / rope.factor + smooth)).astype(np.float32)
