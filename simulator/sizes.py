"""A plausible LLaMA shape for any number of parameters.

The rule: layers and hidden width are interpolated, on logarithmic axes, between published shapes by the number of
linear weights, and rounded to whole heads; the FFN width then makes up the number of linear weights, and in models
too small for Llama 2's vocabulary the number of tokens makes up the embedding. So a larger size never has fewer
layers, a narrower hidden layer, fewer heads or fewer linear weights. The total is within 1 % of the size asked for.
"""

import bisect
import math

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.units import format_count, parse_count

from .model_spec import ModelSpec

# (linear weights, layers, hidden): karpathy/llama2.c stories260K to 110M; 2402.17764's 700M, 1.3B, 3B; LLaMA 7B to 65B;
# Llama 3.1 405B. Beyond the ends the nearest two are extrapolated.
_SHAPES = (
    (0.23e6, 5, 64),
    (6.0e6, 6, 288),
    (25.3e6, 8, 512),
    (84.9e6, 12, 768),
    (679.5e6, 24, 1536),
    (1.208e9, 24, 2048),
    (3.22e9, 26, 3200),
    (6.48e9, 32, 4096),
    (12.7e9, 40, 5120),
    (32.1e9, 60, 6656),
    (64.6e9, 80, 8192),
    (401.6e9, 126, 16384),
)
MIN_PARAMETERS, MAX_PARAMETERS = 1e5, 1e15
_VOCAB = 32000  # Llama 2's
_FULL_VOCAB_FROM = 777.9e6  # the shape of 2402.17764's 700M: 679.5M linear weights and 2 x 32000 x 1536
_SMALL_VOCAB_FROM = 100e6  # below, the vocabulary shrinks with the model: 2,000 tokens at 1M
_STEP = math.log(1.005)  # sizes are taken in steps of 0.5 %, wider than what rounding the FFN width can undo


def spec_for_size(size: str | float) -> ModelSpec:
    """Return a LLaMA-shaped ModelSpec of about `size` parameters.

    Multi-head attention (no grouped keys), separate head, gated FFN, about 32,000 tokens of vocabulary from 100M
    parameters on, fewer below.

    Args:
        size: a count such as 7e9, or text such as "7B".

    Raises:
        BitsimError: not a number, or outside 100K to 1000T parameters.
    """
    asked = parse_count(size, "size") if isinstance(size, str) else float(size)
    if not MIN_PARAMETERS <= asked <= MAX_PARAMETERS:  # false for NaN
        raise BitsimError(f"size: expected {format_count(MIN_PARAMETERS)} to 1000T parameters, got {size}")
    wanted = math.exp(round(math.log(asked) / _STEP) * _STEP)
    linear_weights, vocab = _split(wanted)
    exact_hidden = _interpolate(linear_weights, 2)
    layers, hidden = max(round(_interpolate(linear_weights, 1)), 1), _whole_heads(exact_hidden)
    if wanted < _FULL_VOCAB_FROM:
        vocab = vocab * exact_hidden / hidden
    grain = max(hidden // 64, 1)
    ffn = max(round((linear_weights / layers - 4 * hidden**2) / (3 * hidden) / grain), 1) * grain
    heads = _heads(hidden)
    return ModelSpec(
        name=format_count(asked),
        architecture="llama",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=ffn,
        vocab=round(vocab),
        sources=("touvron2023llama", "ma2024era", "grattafiori2024llama3"),
    )


def _split(parameters: float) -> tuple[float, float]:
    """Split a total into linear weights and tokens of vocabulary, by bisection on the interpolated hidden width."""
    vocab = _VOCAB * min((parameters / _SMALL_VOCAB_FROM) ** 0.6, 1.0)
    low, high = 0.0, math.log(parameters)
    for _ in range(60):
        middle = (low + high) / 2
        weights = math.exp(middle)
        if weights + 2 * vocab * _interpolate(weights, 2) < parameters:
            low = middle
        else:
            high = middle
    return math.exp(low), vocab


def _whole_heads(hidden: float) -> int:
    grain = next(grain for limit, grain in ((128, 16), (512, 32), (2048, 64), (math.inf, 128)) if hidden < limit)
    return max(round(hidden / grain), 1) * grain


def _heads(hidden: int) -> int:
    if hidden < 128:
        return max(hidden // 16, 1)
    if hidden < 512:
        return 8
    if hidden < 2048:
        return hidden // 64
    return 32 if hidden < 4096 else hidden // 128


def _interpolate(weights: float, column: int) -> float:
    """Read layers (column 1) or hidden width (2) off the published shapes."""
    index = min(max(bisect.bisect([row[0] for row in _SHAPES], weights), 1), len(_SHAPES) - 1)
    left, right = _SHAPES[index - 1], _SHAPES[index]
    share = math.log(weights / left[0]) / math.log(right[0] / left[0])
    return float(left[column] * (right[column] / left[column]) ** share)
