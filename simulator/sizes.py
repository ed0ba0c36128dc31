"""A plausible LLaMA shape for any number of parameters.

The rule: layers and hidden width are interpolated, on logarithmic axes, between published shapes by the number of
linear weights, and rounded to whole heads; the FFN width then makes up the number of linear weights, and in models
too small for Llama 2's vocabulary the number of tokens makes up the embedding. So a larger size never has fewer
layers, a narrower hidden layer, fewer heads or fewer linear weights. The total is within 1 % of the size asked for.

Where the vocabulary is given, as for a model to be trained with some tokenizer, the shapes form one row, each at least
as large as the one before in layers, hidden width and linear weights; the one nearest to the size is taken.
"""

import bisect
import functools
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
_WEIGHTS = tuple(row[0] for row in _SHAPES)
MIN_PARAMETERS, MAX_PARAMETERS = 1e5, 1e15
_VOCAB = 32000  # Llama 2's
_FULL_VOCAB_FROM = 777.9e6  # the shape of 2402.17764's 700M: 679.5M linear weights and 2 x 32000 x 1536
_SMALL_VOCAB_FROM = 100e6  # below, the vocabulary shrinks with the model: 2,000 tokens at 1M
SIZE_STEP = math.log(1.005)  # sizes are taken in steps of 0.5 %, wider than what rounding the FFN width can undo
_SOURCES = ("touvron2023llama", "ma2024era", "grattafiori2024llama3")
_LEAST_LINEAR, _LEAST_HIDDEN = 25e3, 32  # where the row of shapes for a given vocabulary begins
_FINE = 1.0025  # linear weights from one candidate of that row to the next
_HEADS = {64: 192, 48: 144, 32: 64}  # widths of a head, and the least width of a model that has such
_OFF = 0.1  # share of a size that the nearest shape may be off


def spec_for_size(size: str | float) -> ModelSpec:
    """Return a LLaMA-shaped ModelSpec of about `size` parameters.

    Multi-head attention (no grouped keys), separate head, gated FFN, about 32,000 tokens of vocabulary from 100M
    parameters on, fewer below.

    Args:
        size: a count such as 7e9, or text such as "7B".

    Raises:
        BitsimError: not a number, or outside 100K to 1000T parameters.
    """
    asked = _asked(size)
    wanted = math.exp(round(math.log(asked) / SIZE_STEP) * SIZE_STEP)
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
        sources=_SOURCES,
    )


def spec_for_vocabulary(size: str | float, vocab: int, *, tied: bool = True) -> ModelSpec:
    """Return a LLaMA-shaped ModelSpec of about `size` parameters with a vocabulary of exactly `vocab` tokens.

    Multi-head attention, heads of 16, 32, 48, 64 or 128, and a gated FFN, a multiple of 16. For one vocabulary a larger
    size never has fewer layers, a narrower hidden layer or fewer linear weights. From 0.3M parameters on the total is
    off by at most 3 % and half of what a step of the width adds to the embedding (32 columns from 128 to 512).

    Args:
        size: all parameters, a tied head counted once: a count such as 1e6, or text such as "1M".
        vocab: rows of the embedding.
        tied: whether the embedding is the head too.

    Raises:
        BitsimError: not a number, or outside 100K to 1000T parameters, or no shape with this vocabulary is within a
            tenth of the size; the nearest are named.
    """
    asked = _asked(size)
    shapes = _row()
    specs = functools.partial(_shaped, name=format_count(asked), vocab=vocab, tied=tied)
    above = bisect.bisect(shapes, asked, key=lambda shape: specs(shape).parameters)
    near = [specs(shape) for shape in shapes[max(above - 1, 0) : above + 1]]
    best = min(near, key=lambda spec: abs(spec.parameters - asked))
    if abs(best.parameters - asked) > _OFF * asked:
        sizes = " and ".join(format_count(spec.parameters) for spec in near)
        kind = "nearest possible are" if len(near) == 2 else "smallest possible is"
        raise BitsimError(f"size: with a vocabulary of {vocab:,} tokens the {kind} {sizes} parameters, got {size}")
    return best


@functools.cache
def _row() -> tuple[tuple[int, int, int], ...]:
    """Return (layers, hidden, FFN) of all shapes that do not depend on a vocabulary, each larger than the one before.

    A candidate with fewer linear weights than an earlier one, because its layers or its width were rounded up, is left
    out.
    """
    row: list[tuple[int, int, int]] = []
    most = 0
    for step in range(math.ceil(math.log(MAX_PARAMETERS / _LEAST_LINEAR) / math.log(_FINE))):
        wanted = _LEAST_LINEAR * _FINE**step
        layers, hidden = round(_interpolate(wanted, 1)), _trainable_width(_interpolate(wanted, 2))
        grain = 16 * max(hidden // 512, 1)
        ffn = max(round((wanted / layers - 4 * hidden**2) / (3 * hidden) / grain), 1) * grain
        linear_weights = layers * (4 * hidden**2 + 3 * hidden * ffn)
        if hidden >= _LEAST_HIDDEN and linear_weights > most:
            most = linear_weights
            row.append((layers, hidden, ffn))
    return tuple(row)


def _shaped(shape: tuple[int, int, int], name: str, vocab: int, tied: bool) -> ModelSpec:
    layers, hidden, ffn = shape
    head_dim = 128 if hidden >= 2048 else next((d for d in _HEADS if hidden % d == 0 and hidden >= _HEADS[d]), 16)
    return ModelSpec(
        name=name,
        architecture="llama",
        layers=layers,
        hidden=hidden,
        heads=hidden // head_dim,
        kv_heads=hidden // head_dim,
        head_dim=head_dim,
        ffn=ffn,
        vocab=vocab,
        tied_head=tied,
        sources=_SOURCES,
    )


def _trainable_width(hidden: float) -> int:
    """Round a width to what divides into heads of 16 to 128; finely, as each column is as long as the vocabulary."""
    grain = next(grain for limit, grain in ((128, 16), (512, 32), (2048, 64), (math.inf, 128)) if hidden < limit)
    return max(round(hidden / grain), 1) * grain


def _asked(size: str | float) -> float:
    asked = parse_count(size, "size") if isinstance(size, str) else float(size)
    if not MIN_PARAMETERS <= asked <= MAX_PARAMETERS:  # false for NaN
        raise BitsimError(f"size: expected {format_count(MIN_PARAMETERS)} to 1000T parameters, got {size}")
    return asked


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
    index = min(max(bisect.bisect(_WEIGHTS, weights), 1), len(_SHAPES) - 1)
    left, right = _SHAPES[index - 1], _SHAPES[index]
    share = math.log(weights / left[0]) / math.log(right[0] / left[0])
    return float(left[column] * (right[column] / left[column]) ** share)
