"""One step through all layers, for any number of tokens of any number of sequences: compiled, shared by all threads.

A token is worked on by one thread wherever it is alone with its numbers (norms, rotation, activations), rows of
matrices and heads of attention are shared out. Barriers stand between the two.

    per layer   norm, int8 | q k v | rotation, keys and values kept | attention | norm, int8 | o | added to the token
                norm, int8 | gate up | their product | norm, int8 | down | added to the token
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.core import types

from ..atomics import Counters, barrier
from ..borrow import borrowed
from ..compile import compiled, inlined, inner
from ..entry import Entry, array_of, call_at
from ..kernels.dense import dense_rows
from ..kernels.kernel import INDEX, ROWS_PER_BLOCK, open_shares, row_blocks, share, take
from .kv_cache import write_bytes, write_halves
from .rotary import rotate
from .tokenwise import copied, copy_wide, gated, read_embedding, rms_norm, scaled, to_int8

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Columns of `Weights.products`, one row for each product of a layer.
KIND, WEIGHT, SIZE, ROWS, COLUMNS, SCALE, BIAS, NORM, EPSILON, FIRST_UNIT = range(10)
FIELDS = 10
ABSENT, TERNARY, HALF, BRAIN = range(4)  # KIND
ATTENTION_IN, OUT, FFN_IN, DOWN, PRODUCTS = 0, 3, 4, 6, 7  # where in a layer's products; up to three, one, two, one
# Columns of `Weights.norms`.
ATTENTION_NORM, FFN_NORM, ATTENTION_SUB_NORM, FFN_SUB_NORM, Q_NORM, K_NORM = range(6)
NONE = -1  # no such norm or bias
# Where the rows of a product go: size of a unit, distance between units, width of a token, 1 to add to what is there.
Place = tuple[int, int, int, int]
# Columns of `rows`, one row for each token of a step.
TOKEN, POSITION, WANTED, KEYS, VALUES, SCALES, CAPACITY = range(7)


class Shape(NamedTuple):
    """Numbers of a model that all layers share; `_wide` are widths filled up to a multiple of 16."""

    layers: int
    hidden: int
    hidden_wide: int
    heads: int
    kv_heads: int
    head: int
    head_wide: int
    ffn: int
    ffn_wide: int
    squared: int  # 1: relu2, 0: SiLU
    window: int  # positions that attention looks back, or a very large number
    eps: float


class Weights(NamedTuple):
    """All weights of a model."""

    bytes: Bytes  # packed matrices
    words: npt.NDArray[np.uint16]  # the same memory
    floats: Float32  # norms, scales, biases
    products: Int64  # (layers, PRODUCTS, FIELDS)
    norms: Int64  # (layers, 6), places in floats
    output_norm: int
    embedding: npt.NDArray[np.uint16]  # (vocabulary x hidden_wide), flat
    embedding_brain: bool
    rotation: Float32  # (positions x head), cosines then sines of a position


class Buffers(NamedTuple):
    """Memory of a step; what is kept for a token is (tokens x width), flat."""

    x: Float32  # hidden_wide
    normed: Float32  # the widest input of a product
    inner: Float32  # the same, after a norm inside of a linear layer
    codes: npt.NDArray[np.int8]  # the same, as int8
    steps: Float32  # what one step of a token's int8 is worth
    sums: npt.NDArray[np.int32]  # the most rows of a product
    parts: Float32  # queries, keys and values, or gate and up
    heads: Float32  # attention's result
    scores: Float32  # (threads, 4 x positions)
    prepared: npt.NDArray[np.int16]
    scratch: npt.NDArray[np.int16]  # (threads, elements)
    result: Float32  # (wanted x hidden_wide), flat: after the last norm


class Entries(NamedTuple):
    """Addresses of what is called by address (see `entry`): compiled once, and not again into each caller."""

    prepare: int  # the ternary kernel's
    product: int
    together: int  # row blocks that it takes at once
    multiply: int
    attend_halves: int
    attend_bytes: int


class Crew(NamedTuple):
    """Who works: the barrier's counters, this thread's number, all threads; and what they call."""

    counters: Counters
    thread: int
    threads: int
    entries: Entries


@inlined
def input_of(buffers: Buffers, product: Any, floats: Float32, token: int, wide: int) -> Float32:
    """Return the array in which a token's input of a product lies: normed once more where the product wants it."""
    if product[NORM] == NONE:
        return buffers.normed
    epsilon = floats[product[EPSILON]]
    rms_norm(buffers.normed, token * wide, product[COLUMNS], floats, product[NORM], epsilon, buffers.inner)
    return buffers.inner


@inlined
def codes_of(weights: Weights, product: Any, buffers: Buffers, token: int, wide: int) -> None:
    """Get a token's input of a product ready."""
    x = input_of(buffers, product, weights.floats, token, wide)
    if product[KIND] == TERNARY:
        columns = product[COLUMNS]
        codes = buffers.codes.view(np.uint8)
        buffers.steps[token] = to_int8(x, token * wide, columns, codes, token * columns)


@inner
def deliver(
    weights: Weights, product: Any, buffers: Buffers, tokens: int, span: tuple[int, int], place: Place, out: Float32
) -> None:
    """Write what the sums of the rows from span[0] to before span[1] stand for, of all tokens."""
    rows, (size, stride, width, onto) = product[ROWS], place
    add, bias = onto == 1, product[BIAS]
    for token in range(tokens):
        row = span[0]
        while row < span[1]:
            unit, within = row // size, row % size
            count = min(size - within, span[1] - row)
            source, target = token * rows + row, token * width + (product[FIRST_UNIT] + unit) * stride + within
            if product[KIND] == TERNARY:
                factors = weights.floats, product[SCALE] + row, buffers.steps[token]
                scaled(buffers.sums, source, count, factors, out, target, add)
            else:
                copied(buffers.sums.view(np.float32), source, count, out, target, add)
            if bias != NONE:
                copied(weights.floats, bias + row, count, out, target, True)
            row += count


def multiply(
    crew: Crew, weights: Weights, product: Any, buffers: Buffers, tokens: int, wide: int, place: Place, out: Float32
) -> None:
    """Multiply all tokens by one matrix; their inputs lie in `normed`, `wide` apart, the results go to `out`."""
    counters, thread, threads, entries = crew
    rows, columns = product[ROWS], product[COLUMNS]
    first, last = share(tokens, thread, threads)
    for token in range(first, last):
        codes_of(weights, product, buffers, token, wide)
    barrier(counters, threads)
    blocks = row_blocks(rows)
    open_shares(counters, thread, threads, blocks)
    if product[KIND] == TERNARY:
        codes = buffers.codes[: tokens * columns].reshape(tokens, columns)
        call_at(entries.prepare, codes, buffers.prepared, thread, threads)
    barrier(counters, threads)
    packed = weights.bytes[product[WEIGHT] : product[WEIGHT] + product[SIZE]]
    bits = weights.words[product[WEIGHT] // 2 : (product[WEIGHT] + product[SIZE]) // 2]
    x = buffers.normed if product[NORM] == NONE else buffers.inner
    sums = buffers.sums[: tokens * rows].reshape(tokens, rows)
    floats = buffers.sums.view(np.float32)[: tokens * rows].reshape(tokens, rows)
    step = entries.together if product[KIND] == TERNARY else 1
    step = step if step > 0 else -(-blocks // threads)
    start, end = take(counters, thread, threads, blocks, step)
    while start < blocks:
        span = start * ROWS_PER_BLOCK, min(end * ROWS_PER_BLOCK, rows)
        if product[KIND] == TERNARY:
            call_at(entries.product, packed, buffers.prepared, columns, sums, buffers.scratch[thread], start, end)
        else:
            dense_rows(bits, product[KIND] == BRAIN, x[: tokens * wide], wide, floats, span[0], span[1])
        deliver(weights, product, buffers, tokens, span, place, out)
        start, end = take(counters, thread, threads, blocks, step)
    barrier(counters, threads)


@inner
def several(
    crew: Crew,
    weights: Weights,
    layer: int,
    numbers: tuple[int, int],
    buffers: Buffers,
    tokens: int,
    wide: int,
    place: Place,
) -> None:
    """Multiply all tokens by the products from numbers[0] to before numbers[1], which take the same input."""
    for number in range(numbers[0], numbers[1]):
        product = weights.products[layer, number]
        if product[KIND] != ABSENT:
            call_at(crew.entries.multiply, crew, weights, product, buffers, tokens, wide, place, buffers.parts)


@inner
def back(crew: Crew, weights: Weights, product: Any, buffers: Buffers, tokens: int, shape: Shape, wide: int) -> None:
    """Multiply all tokens by a matrix whose result is added to them."""
    place = shape.hidden, shape.hidden_wide, shape.hidden_wide, 1
    call_at(crew.entries.multiply, crew, weights, product, buffers, tokens, wide, place, buffers.x)


@inner
def keep(shape: Shape, weights: Weights, buffers: Buffers, row: Any, token: int, layer: int) -> None:
    """Rotate a token's queries and keys and write its key and value of each head."""
    width, half = shape.head_wide, shape.head // 2
    norms, parts = weights.norms[layer], buffers.parts
    start = token * (shape.heads + 2 * shape.kv_heads) * width
    for head in range(shape.heads + 2 * shape.kv_heads):
        for at in range(shape.head, width):
            parts[start + head * width + at] = np.float32(0)
    for head in range(shape.heads + shape.kv_heads):
        norm = norms[Q_NORM] if head < shape.heads else norms[K_NORM]
        if norm != NONE:
            rms_norm(parts, start + head * width, shape.head, weights.floats, norm, shape.eps, parts)
        rotate(parts, start + head * width, half, weights.rotation, row[POSITION] * shape.head)
    memory = row[KEYS], row[VALUES], row[SCALES], row[CAPACITY]
    for head in range(shape.kv_heads):
        number = layer * shape.kv_heads + head, shape.layers * shape.kv_heads
        key = start + (shape.heads + head) * width
        value = key + shape.kv_heads * width
        if row[SCALES] == 0:
            write_halves(memory, number, width, row[POSITION], parts, key, value)
        else:
            write_bytes(memory, number, width, row[POSITION], parts, key, value)


@inner
def attend(shape: Shape, buffers: Buffers, row: Any, token: int, layer: int, head: int, crew: Crew) -> None:
    """Write the attention of one token's query heads that share a key head."""
    width, group = shape.head_wide, shape.heads // shape.kv_heads
    factor = np.float32(1) / np.sqrt(np.float32(shape.head))
    in_parts = token * (shape.heads + 2 * shape.kv_heads) * width + head * group * width
    in_heads = (token * shape.heads + head * group) * width
    # Where the result goes the queries are put before.
    copy_wide(buffers.parts, in_parts, group * width, buffers.heads, in_heads)
    last = row[POSITION] + 1
    span = max(0, last - shape.window), last
    memory = row[KEYS], row[VALUES], row[SCALES], row[CAPACITY]
    number = layer * shape.kv_heads + head, shape.layers * shape.kv_heads
    query = buffers.heads, in_heads, width, factor
    entry = crew.entries.attend_halves if row[SCALES] == 0 else crew.entries.attend_bytes
    call_at(entry, memory, number, query, group, span, buffers.scores[crew.thread], buffers.heads)


@inner
def close_ranks(shape: Shape, buffers: Buffers, token: int, wide: int) -> None:
    """Write a token's attention heads without what fills them up."""
    if shape.head == shape.head_wide:
        copy_wide(buffers.heads, token * wide, wide, buffers.normed, token * wide)
        return
    for head in range(shape.heads):
        source = (token * shape.heads + head) * shape.head_wide
        for at in range(shape.head):
            buffers.normed[token * wide + head * shape.head + at] = buffers.heads[source + at]
    for at in range(shape.heads * shape.head, wide):
        buffers.normed[token * wide + at] = np.float32(0)


@inlined
def norm_if_any(weights: Weights, norm: int, buffers: Buffers, place: int, width: int, eps: float) -> None:
    """Norm what lies in `normed`, in place, where there is such a norm."""
    if norm != NONE:
        rms_norm(buffers.normed, place, width, weights.floats, norm, eps, buffers.normed)


@inner
def attention(crew: Crew, shape: Shape, weights: Weights, buffers: Buffers, rows: Int64, layer: int) -> None:
    """Do the first half of a layer for all tokens."""
    tokens, wide = len(rows), shape.hidden_wide
    first, last = share(tokens, crew.thread, crew.threads)
    norms = weights.norms[layer]
    for token in range(first, last):
        place = token * wide
        rms_norm(buffers.x, place, shape.hidden, weights.floats, norms[ATTENTION_NORM], shape.eps, buffers.normed)
    heads = shape.heads + 2 * shape.kv_heads
    where = shape.head, shape.head_wide, heads * shape.head_wide, 0
    several(crew, weights, layer, (ATTENTION_IN, OUT), buffers, tokens, wide, where)
    for token in range(first, last):
        keep(shape, weights, buffers, rows[token], token, layer)
    count = tokens * shape.kv_heads
    open_shares(crew.counters, crew.thread, crew.threads, count)
    barrier(crew.counters, crew.threads)
    start, _ = take(crew.counters, crew.thread, crew.threads, count, 1)
    while start < count:
        token, head = start // shape.kv_heads, start % shape.kv_heads
        attend(shape, buffers, rows[token], token, layer, head, crew)
        start, _ = take(crew.counters, crew.thread, crew.threads, count, 1)
    barrier(crew.counters, crew.threads)
    width = shape.heads * shape.head
    wide = -(-width // 16) * 16
    for token in range(first, last):
        close_ranks(shape, buffers, token, wide)
        norm_if_any(weights, norms[ATTENTION_SUB_NORM], buffers, token * wide, width, shape.eps)
    back(crew, weights, weights.products[layer, OUT], buffers, tokens, shape, wide)


@inner
def feed_forward(crew: Crew, shape: Shape, weights: Weights, buffers: Buffers, tokens: int, layer: int) -> None:
    """Do the second half of a layer for all tokens."""
    first, last = share(tokens, crew.thread, crew.threads)
    norms = weights.norms[layer]
    wide, ffn = shape.hidden_wide, shape.ffn_wide
    for token in range(first, last):
        place = token * wide
        rms_norm(buffers.x, place, shape.hidden, weights.floats, norms[FFN_NORM], shape.eps, buffers.normed)
    several(crew, weights, layer, (FFN_IN, DOWN), buffers, tokens, wide, (shape.ffn, ffn, 2 * ffn, 0))
    for token in range(first, last):
        gate = token * 2 * ffn
        gated(buffers.parts, gate, gate + ffn, ffn, shape.squared == 1, buffers.normed, token * ffn)
        for at in range(shape.ffn, ffn):
            buffers.normed[token * ffn + at] = np.float32(0)
        norm_if_any(weights, norms[FFN_SUB_NORM], buffers, token * ffn, shape.ffn, shape.eps)
    back(crew, weights, weights.products[layer, DOWN], buffers, tokens, shape, ffn)


@compiled
def step(
    counters: Counters,
    thread: int,
    threads: int,
    entries: Entries,
    shape: Shape,
    weights: Weights,
    buffers: Buffers,
    rows: Int64,
) -> None:
    """Take tokens through all layers: rows (tokens, 7), of a sequence in the order of its positions.

    Writes keys and values, and the hidden states of those rows whose WANTED is not negative to this place of the
    result. A job for `Team.run`.
    """
    crew = Crew(borrowed(counters), thread, threads, entries)
    weights, buffers, rows = borrowed(weights), borrowed(buffers), borrowed(rows)
    tokens, wide = len(rows), shape.hidden_wide
    first, last = share(tokens, thread, threads)
    for token in range(first, last):
        place = rows[token, TOKEN] * wide
        read_embedding(weights.embedding, weights.embedding_brain, place, wide, buffers.x, token * wide)
    for layer in range(shape.layers):
        attention(crew, shape, weights, buffers, rows, layer)
        feed_forward(crew, shape, weights, buffers, tokens, layer)
    for token in range(first, last):
        wanted = rows[token, WANTED]
        if wanted >= 0:
            place = token * wide
            rms_norm(buffers.x, place, shape.hidden, weights.floats, weights.output_norm, shape.eps, buffers.normed)
            copy_wide(buffers.normed, place, wide, buffers.result, wanted * wide)


def multiply_entry() -> Entry:
    """Return the entry of `multiply`."""
    place: Any = types.UniTuple(INDEX, 4)  # type: ignore[no-untyped-call]
    return Entry(multiply, CREW, WEIGHTS, array_of(np.int64), BUFFERS, INDEX, INDEX, place, array_of(np.float32))


def _named(tuple_: Any, fields: dict[str, Any]) -> Any:
    """Return numba's type of a named tuple."""
    kinds: Any = types
    return kinds.NamedTuple([fields[name] for name in tuple_._fields], tuple_)


_VECTORS = {name: array_of(np.float32) for name in (*Buffers._fields, *Weights._fields)}
_INDEXES = dict.fromkeys((*Entries._fields, *Crew._fields), INDEX)
ENTRIES = _named(Entries, _INDEXES)
CREW = _named(Crew, {**_INDEXES, "counters": array_of(np.int64), "entries": ENTRIES})
WEIGHTS = _named(
    Weights,
    {
        **_VECTORS,
        "bytes": array_of(np.uint8),
        "words": array_of(np.uint16),
        "products": array_of(np.int64, 3),
        "norms": array_of(np.int64, 2),
        "output_norm": INDEX,
        "embedding": array_of(np.uint16),
        "embedding_brain": types.boolean,
    },
)
BUFFERS = _named(
    Buffers,
    {
        **_VECTORS,
        "codes": array_of(np.int8),
        "sums": array_of(np.int32),
        "scores": array_of(np.float32, 2),
        "prepared": array_of(np.int16),
        "scratch": array_of(np.int16, 2),
    },
)
