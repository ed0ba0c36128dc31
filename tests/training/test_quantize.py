import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or transformers' quantisers compile C++ for a minute

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers.integrations.bitnet import ActQuant, WeightQuant

from bitsim.energy_tables import BitsimError
from bitsim.training.quantize import (
    SCHEMES,
    Quantization,
    absmax,
    binary,
    binary_integers,
    check_tensor,
    mixed,
    ternary,
    ternary_integers,
)

TYPES = (torch.float32, torch.bfloat16, torch.float16)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MATRICES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FINITE)
HUGE = float(np.finfo(np.float32).max)


def gradient(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    out: Any = function(leaf)
    out.backward(g)
    assert leaf.grad is not None
    return leaf.grad


def random(seed: int, *shape: int, size: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1.0, 0.02, 1e-6, 300.0])
@pytest.mark.parametrize(("mine", "theirs"), [(ternary, WeightQuant), (absmax, ActQuant)])
def test_equals_transformers_bit_for_bit(mine: Any, theirs: Any, size: float, dtype: torch.dtype) -> None:
    for seed in range(20):
        x, g = random(seed, 37, 65, size=size, dtype=dtype), random(seed + 100, 37, 65, dtype=dtype)
        x[3] = 0
        assert torch.equal(mine(x), theirs.apply(x))
        assert mine(x).dtype == dtype
        assert torch.equal(gradient(mine, x, g), gradient(theirs.apply, x, g))


@pytest.mark.parametrize("place", [torch.zeros(4, 6), torch.full((4, 6), 0.3), torch.full((4, 6), 1e-40)])
@pytest.mark.parametrize(("mine", "theirs"), [(ternary, WeightQuant), (absmax, ActQuant)])
def test_zeros_constants_and_denormals_as_transformers(mine: Any, theirs: Any, place: torch.Tensor) -> None:
    assert torch.equal(mine(place), theirs.apply(place))


@given(MATRICES, st.sampled_from(["tensor", "row"]))
@settings(deadline=None)
def test_ternary_weights_are_three_values_of_one_finite_scale(values: Any, grain: Any) -> None:
    weight = torch.from_numpy(values)
    integers, unit = ternary_integers(weight, grain)
    assert set(integers.flatten().tolist()) <= {-1.0, 0.0, 1.0}
    assert torch.isfinite(unit).all()
    assert (unit > 0).all()
    assert unit.numel() == (1 if grain == "tensor" else len(weight))
    assert torch.equal(ternary(weight, grain), integers * unit)


@given(MATRICES, st.sampled_from(["tensor", "row"]))
@settings(deadline=None)
def test_binary_weights_are_two_values_of_one_finite_scale(values: Any, grain: Any) -> None:
    weight = torch.from_numpy(values)
    integers, unit = binary_integers(weight, grain)
    assert set(integers.flatten().tolist()) <= {-1.0, 1.0}
    assert torch.isfinite(unit).all()
    assert torch.equal(binary(weight, grain), integers * unit)


@given(MATRICES, st.sampled_from([4, 8]))
@settings(deadline=None)
def test_activations_stay_finite_and_within_half_a_step(values: Any, bits: Any) -> None:
    x = torch.from_numpy(values)
    rounded, top = absmax(x, bits).double(), 2 ** (bits - 1) - 1
    step = x.abs().amax(-1, keepdim=True).double().clamp(min=1e-5) / top
    assert ((rounded - x).abs() <= step * 0.5001).all()
    assert (rounded / step).unique(dim=-1).shape[-1] <= 2 * top + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_largest_numbers_of_a_type_do_not_overflow(dtype: torch.dtype) -> None:
    x = torch.full((3, 5), torch.finfo(dtype).max, dtype=dtype)
    for rounded in (ternary(x), ternary(x, "row"), binary(x), absmax(x), absmax(x, 4)):
        assert torch.isfinite(rounded).all()


def test_constant_rows() -> None:
    weight = torch.tensor([[0.5, 0.5], [-2.0, -2.0], [0.0, 0.0]])
    assert torch.equal(ternary(weight, "row"), weight)
    assert torch.equal(binary(weight, "row"), -weight.abs())  # none is above its mean
    assert torch.equal(ternary(torch.full((2, 3), HUGE)), torch.full((2, 3), HUGE))


def test_binary_by_the_papers_equations() -> None:
    """From arXiv 2310.11453: Sign(W - alpha) with alpha = mean W, -1 where W = alpha; beta = mean |W|."""
    weight = torch.tensor([[1.0, -3.0, 0.5], [2.0, 0.0, -0.5]])  # mean 0, mean size 7/6
    assert torch.equal(binary(weight), torch.tensor([[1.0, -1, 1], [1, -1, -1]]) * torch.tensor(7.0) / 6)
    shifted = weight + 1  # the sign is that of the distance from the mean
    assert torch.equal(binary(shifted).sign(), binary(weight).sign())


def test_rows_are_rounded_each_by_itself() -> None:
    weight = random(5, 6, 40) * torch.arange(1, 7)[:, None]
    assert torch.equal(ternary(weight, "row"), torch.cat([ternary(row[None]) for row in weight]))
    assert torch.equal(binary(weight, "row"), torch.cat([binary(row[None]) for row in weight]))


def test_four_bits() -> None:
    x = torch.tensor([[7.0, -7.0, 3.4, 0.5, 1.5]])
    assert torch.equal(absmax(x, 4), torch.tensor([[7.0, -7.0, 3.0, 0.0, 2.0]]))


def test_clipped_gradient_of_ternary_weights() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.4, -1.6, 0.0, 1.0]])  # mean size 1, and 1.6 rounds to 2
    ones = torch.ones_like(weight)
    assert gradient(ternary, weight, ones).tolist() == [[1] * 6]
    assert gradient(lambda w: ternary(w, "tensor", "clipped"), weight, ones).tolist() == [[1, 1, 1, 0, 1, 1]]


def test_clipped_gradient_of_binary_weights() -> None:
    weight = torch.tensor([[1.0, -1.0, 3.0, -3.0]])  # mean 0, mean size 2
    ones = torch.ones_like(weight)
    assert gradient(binary, weight, ones).tolist() == [[1] * 4]
    assert gradient(lambda w: binary(w, "tensor", "clipped"), weight, ones).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("identity", [1, 1, 1, 1]), ("clipped", [1, 1, 1, 1]), ("relu", [0, 0, 1, 1]), ("clipped_relu", [0, 0, 1, 0])],
)
def test_gradients_of_activations(name: Any, expected: list[int]) -> None:
    """As in arXiv 1903.05662: the derivative of ReLU is 1 above 0; of clipped ReLU, 0 again at the top."""
    x = torch.tensor([[-1.0, 0.0, 1.0, 2.0]])
    assert gradient(lambda x: absmax(x, 8, name), x, torch.ones_like(x)).tolist() == [expected]


def test_strength_goes_from_full_to_rounded() -> None:
    x = random(1, 5, 8)
    rounded = absmax(x)
    assert torch.equal(mixed(x, rounded, 0.0), x)
    assert mixed(x, rounded, 1.0) is rounded
    torch.testing.assert_close(mixed(x, rounded, 0.25), x + 0.25 * (rounded - x))
    g = torch.ones_like(x)
    torch.testing.assert_close(gradient(lambda x: mixed(x, absmax(x), 0.25), x, g), g)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("function", [ternary, binary, absmax, lambda x: ternary(x, "row"), lambda x: binary(x, "row")])
def test_what_is_not_finite_is_not_hidden(function: Any, bad: float) -> None:
    x = random(2, 4, 7)
    x[1, 2] = bad
    assert not torch.isfinite(function(x)).all()


def test_the_tensor_that_is_not_finite_is_named() -> None:
    x = torch.zeros(3, 4)
    check_tensor("q_proj.weight", x)
    x[1, 2] = torch.nan
    x[2, 3] = torch.inf
    with pytest.raises(BitsimError, match=r"^q_proj.weight: expected finite .* NaN at \[1, 2\] \(2 in all\)$"):
        check_tensor("q_proj.weight", x)


def test_fields_are_checked() -> None:
    with pytest.raises(BitsimError, match="weights: expected one of ternary, binary, got 'ternery'; did you mean"):
        Quantization("ternery")  # type: ignore[arg-type]
    with pytest.raises(BitsimError, match="activation_bits: expected one of 4, 8, got '5'"):
        Quantization("ternary", activation_bits=5)  # type: ignore[arg-type]


def test_schemes() -> None:
    assert SCHEMES["bf16"] is None
    assert SCHEMES["b1.58"] == Quantization("ternary", "tensor", 8)
    assert SCHEMES["b1"] == Quantization("binary")
