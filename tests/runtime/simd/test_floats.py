"""Registers of float32 against numpy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bitsim.runtime.compile import compiled
from bitsim.runtime.simd import floats
from bitsim.runtime.simd.floats import (
    absolute,
    exponential,
    from_brain,
    from_half,
    larger_float,
    largest_lane,
    multiply_add,
    rounded,
    sum_of_lanes,
    to_bytes,
    to_half,
    to_integers,
)
from bitsim.runtime.simd.vector import F32X16, I16X16, load, splat, store

Float32 = npt.NDArray[np.float32]


@compiled
def exponentials(x: Float32, out: Float32) -> None:
    for place in range(0, len(x), 16):
        store(out, place, exponential(load(F32X16, x, place)))


@compiled
def halves_to_floats(x: Any, out: Float32) -> None:
    for place in range(0, len(x), 16):
        store(out, place, from_half(load(I16X16, x, place)))


@compiled
def brains_to_floats(x: Any, out: Float32) -> None:
    for place in range(0, len(x), 16):
        store(out, place, from_brain(load(I16X16, x, place)))


@compiled
def floats_to_halves(x: Float32, out: Any) -> None:
    for place in range(0, len(x), 16):
        store(out, place, to_half(load(F32X16, x, place)))


@compiled
def reductions(x: Float32, y: Float32, out: Float32) -> None:
    a, b = load(F32X16, x, 0), load(F32X16, y, 0)
    out[0] = sum_of_lanes(multiply_add(a, b, splat(F32X16, 1.0)))
    out[1] = largest_lane(larger_float(absolute(a), b) / 2.0)


@compiled
def as_bytes(x: Float32, out: Any) -> None:
    for place in range(0, len(x), 16):
        store(out, place, to_bytes(to_integers(rounded(load(F32X16, x, place)))))


def test_exponentials_within_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-87, 88, 160_000), [0.0, -0.0, -1e-30, 1e-30] * 4]).astype(np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    right = np.exp(x.astype(np.float64))
    assert (np.abs(out - right) <= 2 * np.spacing(right.astype(np.float32))).all()


def test_exponentials_beyond_the_bounds() -> None:
    x = np.array([-1e9, -np.inf, 1e9, np.inf] * 4, np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    assert (out[::4] < 2e-38).all()
    assert (out[1::4] < 2e-38).all()
    assert np.isfinite(out).all()
    assert (out[2::4] > 1e38).all()


@pytest.mark.parametrize("native", [True, False])
def test_half_precision_both_ways(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if native and not floats.NATIVE_HALF:
        pytest.skip("this CPU has no instruction for half precision")
    monkeypatch.setattr(floats, "NATIVE_HALF", native)
    functions: list[Any] = [floats.from_half, floats.to_half, halves_to_floats, floats_to_halves]
    for function in functions:
        function.recompile()
    codes = np.arange(1 << 16, dtype=np.uint16)
    finite = codes[np.isfinite(codes.view(np.float16))]
    finite = finite[: len(finite) // 16 * 16]
    out = np.empty(len(finite), np.float32)
    halves_to_floats(finite, out)
    assert np.array_equal(out, finite.view(np.float16).astype(np.float32))
    back = np.empty_like(finite)
    floats_to_halves(out, back)
    assert np.array_equal(back, finite)
    x = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32) * np.float32(3000)
    x[::3] *= np.float32(1e-8)
    rounded_ = np.empty(len(x), np.uint16)
    floats_to_halves(x, rounded_)
    right = x.astype(np.float16).view(np.uint16)
    large = (np.abs(x) >= 2.0**-14) | native
    assert np.array_equal(rounded_[large], right[large])
    assert (np.abs(rounded_[~large].astype(int) - right[~large]) <= 1).all()  # rounded twice


def test_brain_floats() -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    out = np.empty(1 << 16, np.float32)
    brains_to_floats(codes, out)
    assert np.array_equal(out.view(np.uint32), codes.astype(np.uint32) << 16)


def test_sums_and_largest() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    out = np.empty(2, np.float32)
    reductions(x, y, out)
    assert out[0] == pytest.approx((x.astype(float) * y + 1).sum(), rel=1e-5)
    assert out[1] == np.maximum(np.abs(x), y).max() / 2


def test_rounding_to_bytes_takes_halves_to_even() -> None:
    x = np.arange(-128, 127.5, 0.25, dtype=np.float32)
    x = x[: len(x) // 16 * 16]
    out = np.empty(len(x), np.int8)
    as_bytes(x, out.view(np.uint8))
    assert np.array_equal(out, np.rint(x))
