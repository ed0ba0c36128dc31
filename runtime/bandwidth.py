"""What bounds a kernel on this machine: bytes read per second, and multiply-accumulates per second of registers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .atomics import Counters
from .compile import compiled, inlined
from .simd.avx512 import dot_bytes
from .simd.vector import I32X16, U8X64, load, prefetch, reinterpret, splat, store

Words = npt.NDArray[np.int32]

STREAMS = 4  # places that one thread reads from at once, as the kernels do
AHEAD = 1024  # int32 asked for before they are read
LANES = 16
CHAINS = 12  # sums that do not wait for each other: more than a multiply takes cycles, times those begun in each


@compiled
def read(counters: Counters, thread: int, threads: int, words: Words, sums: Words) -> None:
    """Read a thread's share of `words` once; the sum goes into sums (threads, 16), so that nothing is left out."""
    part = words.size // threads // STREAMS // LANES * LANES
    start = thread * STREAMS * part
    a = b = c = d = splat(I32X16, 0)
    for place in range(start, start + part, LANES):
        prefetch(words, place + AHEAD)
        prefetch(words, place + part + AHEAD)
        prefetch(words, place + 2 * part + AHEAD)
        prefetch(words, place + 3 * part + AHEAD)
        a = a + load(I32X16, words, place)
        b = b + load(I32X16, words, place + part)
        c = c + load(I32X16, words, place + 2 * part)
        d = d + load(I32X16, words, place + 3 * part)
    store(sums, thread * LANES, a + b + c + d)


@inlined
def dot4(totals: Any, x: Any, y: Any) -> Any:
    """Add four times four products to each of 16 lanes."""
    return (
        dot_bytes(totals[0], x, y),
        dot_bytes(totals[1], x, y),
        dot_bytes(totals[2], x, y),
        dot_bytes(totals[3], x, y),
    )


@compiled
def multiply_accumulate(counters: Counters, thread: int, threads: int, times: int, sums: Words) -> None:
    """Do `times` x 12 vpdpbusd, 64 multiply-accumulates each, on registers only."""
    x = reinterpret(U8X64, splat(I32X16, thread + 1))
    zero = splat(I32X16, 0)
    a = b = c = (zero, zero, zero, zero)
    for _ in range(times):
        a, b, c = dot4(a, x, x), dot4(b, x, x), dot4(c, x, x)
    total = zero
    for chain in (a, b, c):
        total = total + chain[0] + chain[1] + chain[2] + chain[3]
    store(sums, thread * LANES, total)


TURNS = 20_000  # of `multiply_accumulate` in one call
PRODUCTS = 64 * CHAINS * TURNS  # multiply-accumulates of one call on one thread
