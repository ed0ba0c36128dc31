"""Attention of one token, beside numpy: groups of heads, windows, one position, scores that are huge or all alike."""

from typing import Any

import numpy as np
import pytest
from made_checkpoint import MadeCheckpoint, small_spec

from bitsim.runtime.compile import compiled
from bitsim.runtime.entry import call_at
from bitsim.runtime.model import kv_cache
from bitsim.runtime.model.attention import attend_bytes, attend_halves
from bitsim.runtime.model.kv_cache import Sequence

Float32 = np.ndarray[Any, np.dtype[np.float32]]

LAYERS, KV_HEADS, CAPACITY = 2, 3, 64
HEADS = LAYERS * KV_HEADS


@compiled
def write(memory: Any, number: Any, width: int, position: int, x: Float32, key: int, value: int) -> None:
    if memory[2] == 0:
        kv_cache.write_halves(memory, number, width, position, x, key, value)
    else:
        kv_cache.write_bytes(memory, number, width, position, x, key, value)


@compiled
def attend(
    address: int, memory: Any, number: Any, query: Any, group: int, span: Any, scores: Float32, out: Float32
) -> None:
    call_at(address, memory, number, query, group, span, scores, out)


class Cache:
    """Keys and values of all heads, written to a sequence and kept as they should be after rounding."""

    def __init__(self, kind: str, head: int, keys: Float32, values: Float32) -> None:
        spec = small_spec(layers=LAYERS, heads=KV_HEADS, kv_heads=KV_HEADS, head_dim=head)
        self.sequence = Sequence(MadeCheckpoint(spec).config, CAPACITY, kind)
        for part in (self.sequence._keys, self.sequence._values, self.sequence._scales):
            part.view(np.uint8)[:] = 0xFF  # not a number, until something is written
        self.wide, self.kind = kv_cache.padded_head(head), kind
        self.keys, self.values = keys, values  # (heads, positions, head)
        for number, position in np.ndindex(keys.shape[:2]):
            x = np.zeros(2 * self.wide, np.float32)
            x[:head], x[self.wide : self.wide + head] = keys[number, position], values[number, position]
            write(self.sequence.row, (number, HEADS), self.wide, position, x, 0, self.wide)

    def rounded(self, values: Float32) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return keys or values as the cache should have them."""
        if self.kind == "f16":
            return values.astype(np.float16).astype(np.float64)
        scale: Float32 = np.maximum(np.abs(values).max(axis=-1, keepdims=True), np.float32(1e-30)) / np.float32(127)
        steps: np.ndarray[Any, np.dtype[np.float64]] = np.rint(values / scale).astype(np.float64)
        return steps * scale.astype(np.float64)

    def attention(self, number: int, queries: Float32, first: int, last: int) -> Float32:
        """Return what compiled attention gives for some queries of a key head."""
        group, head = queries.shape
        padded = np.zeros((group, self.wide), np.float32)
        padded[:, :head] = queries
        out = np.full(16 + group * self.wide + 16, -77, np.float32)
        factor = np.float32(head**-0.5)
        entry = attend_halves if self.kind == "f16" else attend_bytes
        scores = np.full(4 * CAPACITY, np.nan, np.float32)
        query = np.concatenate([np.full(16, 9, np.float32), padded.reshape(-1)]), 16, self.wide, factor
        memory, heads = self.sequence.row, (number, HEADS)
        attend(entry.address, memory, heads, query, group, (first, last), scores, out)
        assert (out[:16] == -77).all()
        assert (out[-16:] == -77).all()
        whole: Float32 = out[16:-16].reshape(group, self.wide)
        assert not whole[:, head:].any()
        return whole[:, :head]

    def right(self, number: int, queries: Float32, first: int, last: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the same from the definition."""
        keys, values = self.rounded(self.keys)[number, first:last], self.rounded(self.values)[number, first:last]
        scores = queries.astype(np.float64) @ keys.T / np.sqrt(queries.shape[1])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: np.ndarray[Any, np.dtype[np.float64]] = weights / weights.sum(axis=1, keepdims=True) @ values
        return result


def numbers(*shape: int, size: float = 1.0) -> Float32:
    return (np.random.default_rng(shape).normal(size=shape) * size).astype(np.float32)


def check(cache: Cache, group: int, spans: list[tuple[int, int]], size: float = 1.0, close: float = 2e-5) -> None:
    queries = numbers(group, cache.keys.shape[2], size=size)
    for number in (0, HEADS - 1):
        for first, last in spans:
            found, right = (way(number, queries, first, last) for way in (cache.attention, cache.right))
            np.testing.assert_allclose(found, right, atol=close * np.abs(right).max())


@pytest.mark.parametrize("kind", ["f16", "int8"])
@pytest.mark.parametrize("head", [2, 16, 20, 32, 100])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 8, 9])
def test_groups_and_heads(kind: str, head: int, group: int) -> None:
    check(Cache(kind, head, numbers(HEADS, 20, head), numbers(HEADS, 20, head)), group, [(0, 20), (3, 19)])


@pytest.mark.parametrize("kind", ["f16", "int8"])
def test_edges_of_blocks_and_windows(kind: str) -> None:
    edges = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64]
    spans = [(first, last) for first in edges for last in edges if first < last]
    check(Cache(kind, 16, numbers(HEADS, CAPACITY, 16), numbers(HEADS, CAPACITY, 16)), 2, spans)


@pytest.mark.parametrize("kind", ["f16", "int8"])
def test_one_position_gives_its_value(kind: str) -> None:
    cache = Cache(kind, 16, numbers(HEADS, 1, 16), numbers(HEADS, 1, 16))
    found = cache.attention(0, numbers(3, 16), 0, 1)
    np.testing.assert_allclose(found, np.broadcast_to(cache.rounded(cache.values)[0], (3, 16)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["f16", "int8"])
@pytest.mark.parametrize("size", [0.0, 1e-6, 30.0, 3e3])
def test_scores_that_are_alike_or_far_apart(kind: str, size: float) -> None:
    """Up to sizes where one position takes all; half precision ends at 65,504."""
    keys, values = numbers(HEADS, 33, 16, size=size), numbers(HEADS, 33, 16, size=1e3)
    check(Cache(kind, 16, keys, values), 3, [(0, 33), (17, 33)], size=1.0, close=1e-2 if size == 3e3 else 1e-3)


@pytest.mark.parametrize("kind", ["f16", "int8"])
def test_values_of_zeros(kind: str) -> None:
    cache = Cache(kind, 16, numbers(HEADS, 5, 16), np.zeros((HEADS, 5, 16), np.float32))
    assert not cache.attention(1, numbers(4, 16), 0, 5).any()


def test_heads_do_not_touch_each_other() -> None:
    """Every head has keys and values of its own size: a wrong place would show."""
    sizes = np.arange(1, HEADS + 1, dtype=np.float32)[:, None, None]
    for kind in ("f16", "int8"):
        cache = Cache(kind, 20, numbers(HEADS, 40, 20) * sizes, numbers(HEADS, 40, 20) * sizes * 10)
        for number in range(HEADS):
            queries = numbers(2, 20)
            right = cache.right(number, queries, 0, 40)
            np.testing.assert_allclose(cache.attention(number, queries, 0, 40), right, atol=1e-4 * np.abs(right).max())
