"""Norms, rounding to int8, activations, each beside numpy: zeros, huge numbers, widths that fill no register."""

from typing import Any

import numpy as np
import pytest

from bitsim.runtime.compile import compiled
from bitsim.runtime.model import tokenwise

Float32 = np.ndarray[Any, np.dtype[np.float32]]

WIDTHS = [1, 2, 15, 16, 17, 47, 48, 300]
BEFORE = 32  # numbers before the row that is worked on
STAYS = np.float32(-77)  # what lies where nothing may be written


@compiled
def rms_norm(x: Float32, place: int, width: int, weights: Float32, weight: int, eps: float, out: Float32) -> None:
    tokenwise.rms_norm(x, place, width, weights, weight, eps, out)


@compiled
def to_int8(x: Float32, place: int, width: int, out: Any, target: int) -> Any:
    return tokenwise.to_int8(x, place, width, out, target)


@compiled
def scaled(sums: Any, place: int, count: int, factors: Any, out: Float32, target: int, add: bool) -> None:
    tokenwise.scaled(sums, place, count, factors, out, target, add)


@compiled
def copied(source: Float32, place: int, count: int, out: Float32, target: int, add: bool) -> None:
    tokenwise.copied(source, place, count, out, target, add)


@compiled
def gated(x: Float32, gate: int, up: int, width: int, squared: bool, out: Float32, target: int) -> None:
    tokenwise.gated(x, gate, up, width, squared, out, target)


@compiled
def read_embedding(bits: Any, brain: bool, place: int, width: int, out: Float32, target: int) -> None:
    tokenwise.read_embedding(bits, brain, place, width, out, target)


def row_of(values: Float32) -> Float32:
    """Lay numbers out as a step does: something before them, zeros behind them to a whole register, something after."""
    row = np.full(BEFORE + -(-len(values) // 16) * 16 + 16, STAYS, np.float32)
    row[BEFORE:-16] = 0
    row[BEFORE : BEFORE + len(values)] = values
    return row


def numbers(width: int, size: float = 1.0) -> Float32:
    return (np.random.default_rng(width).normal(size=width) * size).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e9, 1e15])
@pytest.mark.parametrize("in_place", [False, True])
def test_rms_norm(width: int, size: float, in_place: bool) -> None:
    x, weights, eps = row_of(numbers(width, size)), row_of(numbers(width) + 1), 1e-6
    weights[BEFORE + width :] = 5.0  # finite is enough
    right = numbers(width, size).astype(np.float64)
    right = right / np.sqrt((right**2).mean() + eps) * weights[BEFORE : BEFORE + width]
    out = x if in_place else np.full_like(x, STAYS)
    rms_norm(x, BEFORE, width, weights, BEFORE, eps, out)
    np.testing.assert_allclose(out[BEFORE : BEFORE + width], right, rtol=1e-5, atol=1e-30)
    assert not out[BEFORE + width : -16].any()
    assert (out[:BEFORE] == STAYS).all()
    assert (out[-16:] == STAYS).all()


def test_rms_norm_of_zeros() -> None:
    out = np.full(16, STAYS, np.float32)
    rms_norm(np.zeros(16, np.float32), 0, 16, np.ones(16, np.float32), 0, 1e-6, out)
    assert not out.any()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e-5, 1.0, 1e30])
def test_int8_by_the_largest(width: int, size: float) -> None:
    x = numbers(width, size)
    largest = max(np.abs(x).max(), np.float32(1e-5))
    scale = np.float32(127) / largest
    out = np.full(width + 40, 99, np.uint8)
    step = to_int8(row_of(x), BEFORE, width, out, 20)
    np.testing.assert_array_equal(out[20 : 20 + width].view(np.int8), np.rint(x * scale).astype(np.int8))
    assert (out[:20] == 99).all()
    assert (out[20 + width :] == 99).all()
    assert step == np.float32(1) / scale


def test_int8_of_zeros_and_of_halves() -> None:
    """127 as the largest makes every other number its own: halves go to the even neighbour, in registers and behind."""
    out = np.full(20, 99, np.uint8)
    assert to_int8(np.zeros(32, np.float32), 0, 20, out, 0) == pytest.approx(1e-5 / 127)
    assert not out.any()
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, 127] * 3, np.float32)
    to_int8(row_of(halves)[BEFORE:], 0, 20, out, 0)
    np.testing.assert_array_equal(out.view(np.int8), ([0, 2, 2, 0, -2, -2, 126, -126, 127] * 3)[:20])


@pytest.mark.parametrize("count", WIDTHS)
@pytest.mark.parametrize("add", [False, True])
def test_sums_are_scaled(count: int, add: bool) -> None:
    sums = np.random.default_rng(0).integers(-(2**31), 2**31, count + 3).astype(np.int32)
    scales, there = numbers(count + 5), numbers(count + 7)
    out = there.copy()
    scaled(sums, 3, count, (scales, 5, np.float32(0.25)), out, 7, add)
    right = sums[3:].astype(np.float32) * (scales[5:] * np.float32(0.25))
    np.testing.assert_array_equal(out[7:], right + there[7:] if add else right)
    np.testing.assert_array_equal(out[:7], there[:7])


@pytest.mark.parametrize("add", [False, True])
def test_numbers_are_copied_or_added(add: bool) -> None:
    source, there = numbers(30), numbers(31)
    out = there.copy()
    copied(source, 2, 21, out, 4, add)
    np.testing.assert_array_equal(out[4:25], source[2:23] + there[4:25] if add else source[2:23])
    np.testing.assert_array_equal(np.delete(out, slice(4, 25)), np.delete(there, slice(4, 25)))


@pytest.mark.parametrize("squared", [False, True])
def test_gates(squared: bool) -> None:
    gate = np.concatenate([numbers(56, 3.0), [0, -0.0, 1e-30, 80, -80, 87, -100, 1e5]]).astype(np.float32)
    up, out = numbers(64), np.full(80, STAYS, np.float32)
    gated(np.concatenate([gate, up]), 0, 64, 64, squared, out, 16)
    wide = gate.astype(np.float64)
    opened = np.maximum(wide, 0) ** 2 if squared else wide / (1 + np.exp(-np.maximum(wide, -700)))
    np.testing.assert_allclose(out[16:], opened * up, rtol=1e-6, atol=1e-30)
    assert (out[:16] == STAYS).all()


def test_rows_of_an_embedding() -> None:
    values = numbers(64, 10.0).reshape(2, 32)
    out = np.full(48, STAYS, np.float32)
    read_embedding(values.astype(np.float16).view(np.uint16).reshape(-1), False, 32, 32, out, 16)
    np.testing.assert_array_equal(out[16:], values[1].astype(np.float16))
    read_embedding((values.view(np.uint32) >> 16).astype(np.uint16).reshape(-1), True, 32, 32, out, 16)
    np.testing.assert_array_equal(out[16:].view(np.uint32), values[1].view(np.uint32) >> 16 << 16)
    assert (out[:16] == STAYS).all()
