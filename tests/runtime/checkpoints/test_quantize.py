"""Absmean ternary weights, beside plain loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints.quantize import absmean, quantized

Array = np.ndarray[Any, np.dtype[np.float32]]


def plain(values: Array, cells: list[tuple[slice, slice]]) -> Array:
    """One cell of shared scale after the other, as the paper writes it."""
    result = np.empty_like(values)
    for rows, columns in cells:
        block = values[rows, columns]
        scale = np.float32(1) / max(np.float32(np.abs(block.astype(np.float64)).mean()), np.float32(1e-5))
        for place, value in np.ndenumerate(block):
            rounded = max(-1.0, min(1.0, float(np.round(value * scale))))
            result[rows, columns][place] = np.float32(rounded) * (np.float32(1) / scale)
    return result


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 5), st.sampled_from(["tensor", "row", "group"]))
def test_like_plain_loops(seed: int, rows: int, groups: int, grain: str) -> None:
    columns = 4 * groups
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    whole = [(slice(0, rows), slice(0, columns))]
    each_row = [(slice(row, row + 1), slice(0, columns)) for row in range(rows)]
    each_group = [(row, slice(start, start + 4)) for row, _ in each_row for start in range(0, columns, 4)]
    cells = {"tensor": whole, "row": each_row, "group": each_group}[grain]
    ternary = absmean(values, grain, 4 if grain == "group" else None)
    shape = {"tensor": (1, 1), "row": (rows, 1), "group": (rows, groups)}[grain]
    assert ternary.scales.shape == shape
    np.testing.assert_array_equal(ternary.dequantised(), plain(values, cells))


def test_zeros_have_a_scale() -> None:
    ternary = absmean(np.zeros((2, 3), np.float32))
    assert not ternary.weights.any()
    np.testing.assert_allclose(ternary.scales, [[1e-5]], rtol=1e-6)


class Model:
    """Enough of a checkpoint for the checks."""

    def __init__(self) -> None:
        from bitsim.runtime.model.config import ModelConfig, Rope, TextRules
        from bitsim.simulator import ModelSpec

        spec = ModelSpec(
            name="m", architecture="llama", layers=1, hidden=8, heads=1, kv_heads=1, head_dim=8, ffn=12, vocab=4
        )
        self.config = ModelConfig(spec=spec, norm_eps=1e-5, rope=Rope(theta=1e4))
        self.text = TextRules()


@pytest.mark.parametrize(
    ("grain", "group", "message"),
    [
        ("rows", None, "grain: expected one of tensor, row, group, got 'rows'; did you mean 'row'"),
        ("group", None, "group: expected a number of columns with grain 'group', and with no other"),
        ("row", 4, "group: expected a number of columns with grain 'group', and with no other"),
        ("group", 8, "group: expected a divisor of the 12 columns of down, got 8"),
        ("group", 0, "group: expected a divisor of the 8 columns of q, got 0"),
        ("group", -4, "group: expected a divisor of the 8 columns of q, got -4"),
    ],
)
def test_what_is_refused(grain: str, group: int | None, message: str) -> None:
    model: Any = Model()
    with pytest.raises(BitsimError) as caught:
        quantized(model, grain, group)
    assert message in str(caught.value)
    quantized(model, "group", 4)
