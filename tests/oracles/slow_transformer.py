"""A slow twin of the compiled step: a decoder-only Transformer in numpy's float64, the whole text at once.

Written from the papers: RMSNorm 1910.07467; rotation 2104.09864, stretched by 2306.15595 (linear), Llama 3.1 and YaRN
2309.00071; grouped queries 2305.13245; gated feed-forward 2002.05202; int8 activations 2402.17764, section 2.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.runtime.checkpoints.checkpoint import Checkpoint, Float32, Linear
from bitsim.runtime.model.config import ModelConfig, Rope
from bitsim.runtime.packing.codec import Ternary

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.integer[Any]]


class Rounding:
    """What is rounded on the way: activations to int8, keys and values to half precision. Each to the nearest."""

    def activations(self, layer: int, name: str, scaled: Array) -> Array:
        """Round the input of a linear layer, (tokens, columns), of which 127 is the largest."""
        return np.round(scaled)

    def kept(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Round keys and values, (tokens, key heads, head), as the cache keeps them."""
        return keys.astype(np.float16).astype(np.float64), values.astype(np.float16).astype(np.float64)


def hidden_states(checkpoint: Checkpoint, tokens: Tokens, rounding: Rounding | None = None) -> Array:
    """Return the states after the last norm, (tokens, hidden), of a text from its beginning."""
    config, rounding = checkpoint.config, rounding or Rounding()
    x = checkpoint.embedding().as_float32().astype(np.float64)[tokens]
    for layer in range(config.spec.layers):
        x = x + attention_block(checkpoint, layer, x, rounding)
        x = x + feed_forward_block(checkpoint, layer, x, rounding)
    return rms_norm(x, checkpoint.output_norm(), config.norm_eps)


def logits(checkpoint: Checkpoint, states: Array) -> Array:
    """Return the logits of states, (tokens, vocabulary)."""
    head = checkpoint.head() or checkpoint.embedding()
    return states @ head.as_float32().astype(np.float64).T


def rms_norm(x: Array, weights: Float32 | None, eps: float) -> Array:
    """Divide rows by the root of their mean square; a norm that is absent changes nothing."""
    if weights is None:
        return x
    size: Array = np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x / size * weights.astype(np.float64)


def linear(checkpoint: Checkpoint, layer: int, name: str, x: Array, rounding: Rounding) -> Array:
    """Put tokens through a linear layer: of int8 and exact where one scale goes with a row of ternary weights."""
    here = checkpoint.linear(layer, name)
    x = rms_norm(x, here.norm, here.norm_eps)
    result: Array
    if isinstance(here.weights, Ternary) and here.weights.scales.shape[1] == 1:
        step = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-5) / 127
        codes = rounding.activations(layer, name, x / step).astype(np.int64)
        result = codes @ here.weights.weights.astype(np.int64).T * here.weights.scales[:, 0].astype(np.float64) * step
    else:
        result = x @ full_numbers(here).T
    return result if here.bias is None else result + here.bias


def full_numbers(here: Linear) -> Array:
    """Return the matrix of a linear layer; ternary weights of many scales a row are kept in half precision."""
    weights = here.weights
    if isinstance(weights, Ternary):
        return weights.dequantised().astype(np.float16).astype(np.float64)
    return weights.as_float32().astype(np.float64)


def attention_block(checkpoint: Checkpoint, layer: int, x: Array, rounding: Rounding) -> Array:
    """Return what attention adds to the tokens."""
    config, tokens = checkpoint.config, len(x)
    x = rms_norm(x, checkpoint.norm(layer, "attention_norm"), config.norm_eps)
    parts = {name: linear(checkpoint, layer, name, x, rounding) for name in "qkv"}
    q, k, v = (part.reshape(tokens, -1, config.spec.head_dim) for part in parts.values())
    q = rotated(rms_norm(q, checkpoint.norm(layer, "q_norm"), config.norm_eps), config.rope)
    k = rotated(rms_norm(k, checkpoint.norm(layer, "k_norm"), config.norm_eps), config.rope)
    k, v = rounding.kept(layer, k, v)
    group = config.spec.heads // config.spec.kv_heads
    heads = [attention(config, q[:, head], k[:, head // group], v[:, head // group]) for head in range(q.shape[1])]
    together = np.concatenate(heads, axis=1)
    together = rms_norm(together, checkpoint.norm(layer, "attention_sub_norm"), config.norm_eps)
    return linear(checkpoint, layer, "o", together, rounding)


def attention(config: ModelConfig, q: Array, k: Array, v: Array) -> Array:
    """Return the attention of one head, (tokens, head): each token to those before it and itself, in its window."""
    result = np.empty_like(q)
    for token, query in enumerate(q):
        first = max(0, token + 1 - (config.sliding_window or token + 1))
        scores = k[first : token + 1] @ query / math.sqrt(len(query))
        weights = np.exp(scores - scores.max())
        result[token] = weights / weights.sum() @ v[first : token + 1]
    return result


def feed_forward_block(checkpoint: Checkpoint, layer: int, x: Array, rounding: Rounding) -> Array:
    """Return what the feed-forward adds to the tokens."""
    config = checkpoint.config
    x = rms_norm(x, checkpoint.norm(layer, "ffn_norm"), config.norm_eps)
    gate, up = (linear(checkpoint, layer, name, x, rounding) for name in ("gate", "up"))
    opened = np.maximum(gate, 0) ** 2 if config.spec.activation == "relu2" else gate / (1 + np.exp(-gate))
    inner = rms_norm(opened * up, checkpoint.norm(layer, "ffn_sub_norm"), config.norm_eps)
    return linear(checkpoint, layer, "down", inner, rounding)


def rotated(heads: Array, rope: Rope) -> Array:
    """Turn pairs of coordinates, half a head apart, by their angle times the position: (tokens, heads, head)."""
    tokens, _, size = heads.shape
    turns = np.exp(1j * np.outer(np.arange(tokens), frequencies(rope, size))) * rope.attention_factor
    pairs = (heads[..., : size // 2] + 1j * heads[..., size // 2 :]) * turns[:, None]
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def frequencies(rope: Rope, size: int) -> Array:
    """Return the angle per position of each pair of a head."""
    return np.array([_frequency(rope, size, pair) for pair in range(size // 2)])


def _frequency(rope: Rope, size: int, pair: int) -> float:
    plain: float = rope.theta ** (-2 * pair / size)
    stretched = plain / rope.factor
    if rope.scaling == "none":
        return plain
    if rope.scaling == "linear":
        return stretched
    if rope.scaling == "llama3":
        wavelength = 2 * math.pi / plain
        if wavelength < rope.original_context / rope.high_frequency:
            return plain
        if wavelength > rope.original_context / rope.low_frequency:
            return stretched
        smooth = rope.original_context / wavelength - rope.low_frequency
        smooth /= rope.high_frequency - rope.low_frequency
        return (1 - smooth) * stretched + smooth * plain
    low = max(math.floor(_pair_of_turns(rope, size, rope.beta_fast)), 0)
    high = min(math.ceil(_pair_of_turns(rope, size, rope.beta_slow)), size - 1)
    ramp = min(max((pair - low) / max(high - low, 0.001), 0), 1)
    return (1 - ramp) * plain + ramp * stretched


def _pair_of_turns(rope: Rope, size: int, turns: float) -> float:
    """Return which pair turns so often in the original context (YaRN, the code that came with the paper)."""
    return size * math.log(rope.original_context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
