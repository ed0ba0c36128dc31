"""Every kernel that this CPU has, against plain int64 products: odd shapes, extremes, random cases, wrong arrays."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsim.energy_tables import BitsimError
from bitsim.runtime.kernels import KERNELS, Kernel, TernaryMatrix, available
from bitsim.runtime.packing import CODECS
from bitsim.runtime.threads import Team

Array = npt.NDArray[np.int8]

NAMES = [kernel.name for kernel in available()]
SHAPES = [(1, 1), (2, 9), (31, 8), (32, 36), (33, 37), (97, 300), (130, 1000), (70, 5000)]
TOKENS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70]


@pytest.fixture(scope="module", params=[1, 2, 3])
def team(request: pytest.FixtureRequest) -> Iterator[Team]:
    with Team(request.param) as team:
        yield team


def right(weights: Array, x: Array) -> npt.NDArray[np.int64]:
    return x.astype(np.int64) @ weights.T.astype(np.int64)


def agree(kernel: Kernel, weights: Array, x: Array, team: Team | None = None) -> None:
    product = TernaryMatrix.pack(weights, kernel).multiply(x, team=team)
    assert product.dtype == np.int32
    assert np.array_equal(product, right(weights, x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes_and_every_number_of_tokens(name: str, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    for tokens in TOKENS:
        weights = random.integers(-1, 2, shape).astype(np.int8)
        agree(KERNELS[name], weights, random.integers(-128, 128, (tokens, shape[1])).astype(np.int8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [1, 2, 5, 16, 40])
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("weight", [-1, 0, 1])
def test_sums_as_large_as_they_get(name: str, tokens: int, x: int, weight: int) -> None:
    columns = 20_000
    weights = np.full((40, columns), weight, np.int8)
    agree(KERNELS[name], weights, np.full((tokens, columns), x, np.int8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [1, 6, 40])
def test_signs_that_add_up_to_the_largest_sum_of_each_group(name: str, tokens: int) -> None:
    random = np.random.default_rng(0)
    weights = random.choice(np.array([-1, 1], np.int8), size=(64, 3000))
    x = np.where(weights[: min(64, tokens)] > 0, 127, -128).astype(np.int8)
    agree(KERNELS[name], weights, np.resize(x, (tokens, 3000)))


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads(name: str, team: Team) -> None:
    random = np.random.default_rng(team.threads)
    for rows, columns, tokens in ((1, 5, 1), (33, 100, 3), (200, 77, 1), (200, 77, 40), (65, 400, 9)):
        weights = random.integers(-1, 2, (rows, columns)).astype(np.int8)
        agree(KERNELS[name], weights, random.integers(-128, 128, (tokens, columns)).astype(np.int8), team)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300)
@given(
    rows=st.integers(1, 100),
    columns=st.integers(1, 200),
    tokens=st.integers(1, 40),
    shares=st.sampled_from([(1, 1, 1), (1, 8, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)]),
    span=st.sampled_from([0, 1, 7, 127, 128]),
    seed=st.integers(0, 2**32),
)
def test_random_cases(
    name: str, rows: int, columns: int, tokens: int, shares: tuple[int, int, int], span: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    probabilities = np.array(shares) / sum(shares)
    weights = random.choice(np.array([-1, 0, 1], np.int8), size=(rows, columns), p=probabilities)
    x = random.integers(-span, min(span, 127) + 1, (tokens, columns)).astype(np.int8)
    agree(KERNELS[name], weights, x)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_outside_of_out_is_written(name: str) -> None:
    weights, x = np.ones((45, 50), np.int8), np.ones((19, 50), np.int8)
    for tokens in (1, 4, 19):
        guarded = np.full((tokens + 2, 45), 77, np.int32)
        out = guarded[1:-1]
        assert TernaryMatrix.pack(weights, KERNELS[name]).multiply(x[:tokens], out=out) is out
        assert (out == 50).all()
        assert (guarded[[0, -1]] == 77).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_tokens_are_refused(name: str) -> None:
    with pytest.raises(BitsimError, match=r"activations: expected a contiguous int8 array of shape \(1, 9\)"):
        TernaryMatrix.pack(np.ones((3, 9), np.int8), KERNELS[name]).multiply(np.ones((0, 9), np.int8))


WRONG: list[tuple[Any, str]] = [
    (np.ones((2, 9)), r"shape \(2, 9\), got float64 \(2, 9\)"),
    (np.ones((2, 8), np.int8), r"shape \(2, 9\), got int8 \(2, 8\)"),
    (np.ones(9, np.int8), r"shape \(9, 9\), got int8 \(9,\)"),
    (np.ones((2, 18), np.int8)[:, ::2], "gaps between its elements"),
    (np.ones((9, 2), np.int8).T, "gaps between its elements"),
    ([[1] * 9], "got list"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize(("x", "said"), WRONG)
def test_wrong_activations_are_refused_before_compiled_code(x: Any, said: str) -> None:
    with pytest.raises(BitsimError, match=said):
        TernaryMatrix.pack(np.ones((3, 9), np.int8)).multiply(x)


def test_a_wrong_out_is_refused() -> None:
    matrix, x = TernaryMatrix.pack(np.ones((3, 9), np.int8)), np.ones((2, 9), np.int8)
    wrong: list[Any] = [np.empty((2, 3)), np.empty((3, 2), np.int32).T, np.empty((2, 4), np.int32)]
    for out in wrong:
        with pytest.raises(BitsimError, match=r"out: expected a contiguous int32 array of shape \(2, 3\), got"):
            matrix.multiply(x, out=out)


@pytest.mark.parametrize("name", NAMES)
def test_short_and_foreign_packed_weights_are_refused_and_any_address_will_do(name: str) -> None:
    kernel = KERNELS[name]
    codec = CODECS[kernel.packing]
    raw = codec.pack(np.ones((40, 20), np.int8)).reshape(-1)
    wrong: list[tuple[Any, str]] = [(raw[:-1], "of shape"), (raw.astype(np.float32), "got float32")]
    for packed, said in wrong:
        with pytest.raises(BitsimError, match=said):
            TernaryMatrix(packed, 40, 20, kernel)
    shifted = np.empty(raw.size + 1, np.uint8)[1:]
    shifted[:] = raw
    for tokens in (1, 3, 14, 20):
        x = np.ones((tokens, 20), np.int8)
        assert (TernaryMatrix(shifted, 40, 20, kernel).multiply(x) == 20).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200)
@given(data=st.binary(min_size=0, max_size=4000), rows=st.integers(1, 64), columns=st.integers(1, 64))
def test_any_packed_bytes_give_numbers_or_a_refusal(name: str, data: bytes, rows: int, columns: int) -> None:
    """Bytes that are no code must not lead outside of the tables."""
    kernel = KERNELS[name]
    size = CODECS[kernel.packing].packed_bytes(rows, columns)
    packed = np.resize(np.frombuffer(data or b"\xff", np.uint8), size)
    matrix = TernaryMatrix(packed, rows, columns, kernel)
    for tokens in (1, 3, 17):
        with contextlib.suppress(BitsimError):  # the reference refuses
            assert matrix.multiply(np.ones((tokens, columns), np.int8)).shape == (tokens, rows)
