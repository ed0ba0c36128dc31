"""What one phase of inference has to do: products, bytes and vector work, operation by operation.

Plain arithmetic on numbers: each field of `Shape`, `Widths` and `Load` may be a float or a numpy array, so the same
formulas serve one estimate and a sweep over many points (`sweep.py`), and give the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Number = Any  # a float or a numpy array of float64: what both of them do with + - * /

VECTOR_OPS_PER_NORM_ELEMENT = 4.0  # square, add, multiply by 1/rms, multiply by weight
VECTOR_OPS_PER_ROPE_ELEMENT = 3.0  # two multiplications and an addition
VECTOR_OPS_PER_ACTIVATION = 4.0  # negate, exp, add, divide; relu2 has fewer
VECTOR_OPS_PER_SCORE = 5.0  # softmax: maximum, subtract, exp, add, divide
VECTOR_OPS_PER_QUANTISED_INPUT = 3.0  # maximum, multiply, round
VECTOR_OPS_PER_RESCALED_OUTPUT = 1.0  # multiply by both scales


@dataclass(frozen=True, slots=True)
class Shape:
    """A ModelSpec as numbers (widths in elements)."""

    layers: Number
    hidden: Number
    query: Number
    kv: Number
    heads: Number
    ffn: Number
    up_matrices: Number  # 2 with a gate, 1 without
    norm_elements: Number  # per layer, each norm's width added up
    vocab: Number
    experts: Number
    experts_per_token: Number


@dataclass(frozen=True, slots=True)
class Widths:
    """A scheme as numbers: bytes per element by tensor class; `quantised` is 1 where inputs are rescaled, else 0."""

    weight: Number
    embedding: Number
    head: Number
    activation: Number
    hidden: Number
    kv: Number
    quantised: Number


@dataclass(frozen=True, slots=True)
class Load:
    """Work of one phase: `sequences` side by side, `tokens` new ones in each, attending to `past` earlier ones.

    `scores` is the number of (query, key) pairs of one sequence, head and layer; `logits` the rows of the head.
    """

    sequences: Number
    tokens: Number
    past: Number
    scores: Number
    logits: Number


@dataclass(frozen=True, slots=True)
class Operation:
    """Totals of one operation over all layers in one phase (decode: one step). Bytes are of the whole model."""

    name: str
    kind: str  # what a product costs: "linear", "attention" or "head"
    macs: Number
    weight_bytes: Number
    kv_bytes: Number
    activation_bytes: Number
    vector_ops: Number


def prefill_load(batch: Number, prompt: Number, past: Number) -> Load:
    """Load of reading `prompt` tokens in each of `batch` sequences, causally, after `past` earlier tokens."""
    return Load(batch, prompt, past, scores=prompt * past + prompt * (prompt + 1.0) / 2.0, logits=batch)


def decode_load(batch: Number, past: Number) -> Load:
    """Load of one decode step: one token in each sequence, after `past` tokens (itself not counted)."""
    return Load(batch, 1.0 + 0.0 * past, past, scores=past + 1.0, logits=batch)


def operations(shape: Shape, widths: Widths, load: Load, power: Callable[[Number, Number], Number]) -> list[Operation]:
    """Count one phase.

    Args:
        shape: the model.
        widths: the scheme.
        load: the phase.
        power: `pow` on the kind of number in use (for the experts that a batch touches).
    """
    rows = load.sequences * load.tokens
    layers, hidden, query, kv, ffn = shape.layers, shape.hidden, shape.query, shape.kv, shape.ffn
    expert_rows = rows * shape.experts_per_token
    # Expected number of distinct experts that `rows` tokens touch when each chooses k of E at random:
    # E (1 - (1 - k/E)^rows).
    touched = shape.experts * (1.0 - power(1.0 - shape.experts_per_token / shape.experts, rows))

    def linear(name: str, inputs: Number, outputs: Number, uses: Number, copies: Number) -> Operation:
        weights = layers * inputs * outputs
        vector = VECTOR_OPS_PER_QUANTISED_INPUT * inputs + VECTOR_OPS_PER_RESCALED_OUTPUT * outputs
        return Operation(
            name=name,
            kind="linear",
            macs=uses * weights,
            weight_bytes=copies * weights * widths.weight,
            kv_bytes=0.0 * weights,
            activation_bytes=layers * uses * (inputs * widths.activation + outputs * widths.hidden),
            vector_ops=widths.quantised * layers * uses * vector,
        )

    score_rows = layers * load.sequences * load.scores
    context = load.past + load.tokens
    has_rows = 1.0 * (rows > 0)
    attention = Operation(
        name="attention.scores",
        kind="attention",
        macs=2.0 * query * score_rows,
        weight_bytes=0.0 * rows,
        # Keys and values are read once in a phase (as fused attention kernels do) and the new ones written.
        kv_bytes=has_rows * layers * load.sequences * 2.0 * kv * (context + load.tokens) * widths.kv,
        activation_bytes=layers * rows * 2.0 * query * widths.hidden,
        vector_ops=VECTOR_OPS_PER_SCORE * shape.heads * score_rows
        + VECTOR_OPS_PER_ROPE_ELEMENT * layers * rows * (query + kv),
    )
    vector_elements = VECTOR_OPS_PER_NORM_ELEMENT * shape.norm_elements + 2.0 * hidden
    head_rows = has_rows * load.logits
    return [
        Operation(
            name="embedding",
            kind="head",
            macs=0.0 * rows,
            weight_bytes=rows * hidden * widths.embedding,
            kv_bytes=0.0 * rows,
            activation_bytes=rows * hidden * widths.hidden,
            vector_ops=0.0 * rows,
        ),
        linear("attention.qkv", hidden, query + 2.0 * kv, rows, has_rows),
        attention,
        linear("attention.output", query, hidden, rows, has_rows),
        linear("ffn.up", hidden, shape.up_matrices * ffn, expert_rows, has_rows * touched),
        linear("ffn.down", ffn, hidden, expert_rows, has_rows * touched),
        Operation(
            name="norms and activations",
            kind="head",
            macs=layers * rows * hidden * shape.experts * (shape.experts > 1),
            weight_bytes=has_rows
            * layers
            * (shape.norm_elements + hidden * shape.experts * (shape.experts > 1))
            * widths.embedding,
            kv_bytes=0.0 * rows,
            activation_bytes=layers * rows * 4.0 * hidden * widths.hidden,
            vector_ops=layers
            * (rows * vector_elements + expert_rows * (VECTOR_OPS_PER_ACTIVATION + shape.up_matrices - 1.0) * ffn),
        ),
        Operation(
            name="head",
            kind="head",
            macs=head_rows * shape.vocab * hidden,
            weight_bytes=has_rows * shape.vocab * hidden * widths.head,
            kv_bytes=0.0 * rows,
            activation_bytes=head_rows * (hidden + shape.vocab) * widths.hidden,
            vector_ops=0.0 * rows,
        ),
    ]
