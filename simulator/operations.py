"""What one phase of inference has to do: products, bytes and vector work, operation by operation.

Plain arithmetic on numbers: each field of `Shape`, `Widths` and `Load` may be a float or a numpy array, so the same
formulas serve one estimate and a sweep over many points (`sweep.py`), and give the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Number = Any  # a float or a numpy array of float64: what both of them do with + - * /

VECTOR_OPS_PER_NORM_ELEMENT = 4.0  # square, add, multiply by 1/rms, multiply by weight
VECTOR_OPS_PER_ROPE_ELEMENT = 3.0  # two multiplications and an addition
VECTOR_OPS_PER_ACTIVATION = 4.0  # negate, exp, add, divide; relu2 has fewer
VECTOR_OPS_PER_SCORE = 5.0  # softmax: maximum, subtract, exp, add, divide
VECTOR_OPS_PER_QUANTISED_INPUT = 3.0  # maximum, multiply, round
VECTOR_OPS_PER_RESCALED_OUTPUT = 1.0  # multiply by both scales


class Shape(NamedTuple):
    """A ModelSpec as numbers (widths in elements)."""

    layers: Number
    hidden: Number
    query: Number
    kv: Number
    heads: Number
    ffn: Number
    up_matrices: Number  # 2 with a gate, 1 without
    norm_elements: Number  # per layer, elements that pass a norm
    other_parameters: Number  # of the whole model: norms, biases, routers
    vocab: Number
    experts: Number
    experts_per_token: Number


class Widths(NamedTuple):
    """A scheme as numbers: bytes per element by tensor class; `quantised` is 1 where inputs are rescaled, else 0."""

    weight: Number
    embedding: Number
    head: Number
    activation: Number
    hidden: Number
    kv: Number
    quantised: Number


class Load(NamedTuple):
    """Work of one phase: `sequences` side by side, `tokens` new ones in each, attending to `past` earlier ones.

    `scores` is the number of (query, key) pairs of one sequence, head and layer; `logits` the rows of the head.
    """

    sequences: Number
    tokens: Number
    past: Number
    scores: Number
    logits: Number


class Operation(NamedTuple):
    """Totals of one operation in one phase (decode: one step), over the `repeats` layers that run one after another."""

    name: str
    kind: str  # what a product costs: "linear", "attention" or "head"
    macs: Number
    weight_bytes: Number
    kv_bytes: Number
    activation_bytes: Number
    vector_ops: Number
    repeats: Number


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
    hidden, query, ffn = shape.hidden, shape.query, shape.ffn
    rows = load.sequences * load.tokens
    works = 1.0 * (rows > 0)  # with nothing to do, no weights are read
    expert_rows = rows * shape.experts_per_token
    # Expected number of distinct experts that `rows` tokens touch when each chooses k of E at random:
    # E (1 - (1 - k/E)^rows).
    experts = works * shape.experts * (1.0 - power(1.0 - shape.experts_per_token / shape.experts, rows))
    return [
        _embedding(shape, widths, rows),
        _linear("attention.qkv", shape, widths, hidden, query + 2.0 * shape.kv, rows, works),
        _attention(shape, widths, load, rows, works),
        _linear("attention.output", shape, widths, query, hidden, rows, works),
        _linear("ffn.up", shape, widths, hidden, shape.up_matrices * ffn, expert_rows, experts),
        _linear("ffn.down", shape, widths, ffn, hidden, expert_rows, experts),
        _norms_and_activations(shape, widths, rows, works),
        _head(shape, widths, works * load.logits, works),
    ]


def _linear(
    name: str, shape: Shape, widths: Widths, inputs: Number, outputs: Number, uses: Number, copies: Number
) -> Operation:
    """Matrices of all layers: `uses` rows go through them, `copies` of them are read."""
    weights = shape.layers * inputs * outputs
    vector_ops = VECTOR_OPS_PER_QUANTISED_INPUT * inputs + VECTOR_OPS_PER_RESCALED_OUTPUT * outputs
    return Operation(
        name=name,
        kind="linear",
        macs=uses * weights,
        weight_bytes=copies * weights * widths.weight,
        kv_bytes=0.0 * weights,
        activation_bytes=shape.layers * uses * (inputs * widths.activation + outputs * widths.hidden),
        vector_ops=widths.quantised * shape.layers * uses * vector_ops,
        repeats=shape.layers,
    )


def _attention(shape: Shape, widths: Widths, load: Load, rows: Number, works: Number) -> Operation:
    """Scores, softmax and weighted values; keys and values are read once in a phase, as fused kernels do."""
    score_rows = shape.layers * load.sequences * load.scores
    kv_rows = works * shape.layers * load.sequences * (load.past + 2.0 * load.tokens)  # the new ones are written too
    rotated = VECTOR_OPS_PER_ROPE_ELEMENT * shape.layers * rows * (shape.query + shape.kv)
    return Operation(
        name="attention.scores",
        kind="attention",
        macs=2.0 * shape.query * score_rows,
        weight_bytes=0.0 * rows,
        kv_bytes=kv_rows * 2.0 * shape.kv * widths.kv,
        activation_bytes=shape.layers * rows * 2.0 * shape.query * widths.hidden,
        vector_ops=VECTOR_OPS_PER_SCORE * shape.heads * score_rows + rotated,
        repeats=shape.layers,
    )


def _norms_and_activations(shape: Shape, widths: Widths, rows: Number, works: Number) -> Operation:
    """Norms, residual additions, the FFN's activation, and the router of a mixture of experts."""
    gate_and_activation = VECTOR_OPS_PER_ACTIVATION + shape.up_matrices - 1.0
    per_row = VECTOR_OPS_PER_NORM_ELEMENT * shape.norm_elements + 2.0 * shape.hidden
    per_row = per_row + shape.experts_per_token * gate_and_activation * shape.ffn
    return Operation(
        name="norms and activations",
        kind="head",
        macs=shape.layers * rows * shape.hidden * shape.experts * (shape.experts > 1),
        weight_bytes=works * shape.other_parameters * widths.embedding,
        kv_bytes=0.0 * rows,
        activation_bytes=shape.layers * rows * 4.0 * shape.hidden * widths.hidden,
        vector_ops=shape.layers * rows * per_row,
        repeats=shape.layers,
    )


def _embedding(shape: Shape, widths: Widths, rows: Number) -> Operation:
    return Operation(
        name="embedding",
        kind="head",
        macs=0.0 * rows,
        weight_bytes=rows * shape.hidden * widths.embedding,
        kv_bytes=0.0 * rows,
        activation_bytes=rows * shape.hidden * widths.hidden,
        vector_ops=0.0 * rows,
        repeats=1.0,
    )


def _head(shape: Shape, widths: Widths, rows: Number, works: Number) -> Operation:
    return Operation(
        name="head",
        kind="head",
        macs=rows * shape.vocab * shape.hidden,
        weight_bytes=works * shape.vocab * shape.hidden * widths.head,
        kv_bytes=0.0 * rows,
        activation_bytes=rows * (shape.hidden + shape.vocab) * widths.hidden,
        vector_ops=0.0 * rows,
        repeats=1.0,
    )
