"""Memory that steps write to, kept from one to the next."""

from collections.abc import Iterable

import numpy as np

from ..kernels.kernel import Compiled, Kernel
from ..memory import aligned
from .assembly import Assembled
from .attention import HEADS
from .step import ABSENT, COLUMNS, KIND, ROWS, TERNARY, Buffers, Shape

SIZES = (1, 16, 128)  # tokens that buffers are made for; the last is the most of one step
MOST = SIZES[-1]


def size_for(tokens: int) -> int:
    """Return which of the sizes holds so many tokens."""
    return next(size for size in SIZES if tokens <= size)


def make(model: Assembled, shape: Shape, kernel: Kernel, tokens: int, positions: int, threads: int) -> Buffers:
    """Return buffers for up to `tokens` tokens of sequences of up to `positions`."""
    products = model.products.reshape(-1, model.products.shape[-1])
    products = products[products[:, KIND] != ABSENT]
    widest = max(shape.hidden_wide, shape.ffn_wide, -(-shape.heads * shape.head // 16) * 16)
    heads = shape.heads + 2 * shape.kv_heads
    ternary = {(int(row[ROWS]), int(row[COLUMNS])) for row in products if row[KIND] == TERNARY}
    prepared, scratch = _work(kernel, ternary, tokens, threads)
    return Buffers(
        x=_zeros(tokens * shape.hidden_wide),
        normed=_zeros(tokens * widest),
        inner=_zeros(tokens * widest),
        codes=aligned((tokens * widest,), np.int8),
        steps=_zeros(tokens),
        sums=aligned((tokens * int(products[:, ROWS].max()),), np.int32),
        parts=_zeros(tokens * max(heads * shape.head_wide, 2 * shape.ffn_wide)),
        heads=_zeros(tokens * shape.heads * shape.head_wide),
        scores=_zeros(threads * HEADS * positions).reshape(threads, -1),
        prepared=aligned((prepared,), np.int16),
        scratch=aligned((threads, scratch), np.int16),
        result=_zeros(tokens * shape.hidden_wide),
    )


def _zeros(size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    memory: np.ndarray[tuple[int], np.dtype[np.float32]] = aligned((size,), np.float32)
    memory[:] = 0
    return memory


def _work(kernel: Kernel, shapes: Iterable[tuple[int, int]], tokens: int, threads: int) -> tuple[int, int]:
    """Return the int16 elements of prepared activations and of one thread's scratch memory, the most of any product."""
    counts = {tokens} | {least - 1 for least, _ in kernel.methods if 1 < least <= tokens}
    most = [(0, 64)]
    for rows, columns in shapes:
        for count in counts:
            method = kernel.method(count)
            if isinstance(method, Compiled):
                prepared, scratch = method.work(rows, columns, count, threads)
                most.append((len(prepared), scratch.shape[1]))
    return max(prepared for prepared, _ in most), max(scratch for _, scratch in most)
