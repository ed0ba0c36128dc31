"""The k-th largest number against numpy's sort."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsim.runtime.compile import compiled
from bitsim.runtime.heads.head import Float32
from bitsim.runtime.heads.select import kth_largest


@compiled
def kth(values: Float32, count: int, k: int) -> Any:
    return kth_largest(values, count, k)


@settings(max_examples=300)
@given(
    values=st.lists(
        st.sampled_from([-np.inf, -2.0, -0.5, 0.0, 0.25, 1.0, 7.5]) | st.floats(width=32, allow_nan=False), min_size=1
    ),
    seed=st.integers(0, 2**32),
)
def test_any_numbers_and_ties(values: list[float], seed: int) -> None:
    k = 1 + seed % len(values)
    kept = np.array([*values, 1e30], np.float32)  # the last is not among them
    assert kth(kept, len(values), k) == np.sort(np.array(values, np.float32))[::-1][k - 1]
    assert kept[-1] == np.float32(1e30)
    assert sorted(kept[:-1].tolist()) == sorted(np.array(values, np.float32).tolist())


def test_many_numbers() -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    right = np.sort(values)[::-1]
    for k in (1, 2, 64, 25_000, 49_999, 50_000):
        assert kth(values.copy(), len(values), k) == right[k - 1]
