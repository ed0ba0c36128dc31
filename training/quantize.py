"""Ternary and binary weights, int8 and int4 activations, and the gradients that pass straight through the rounding.

Rounding has a gradient of zero nearly everywhere, so each function here has a made-up one, its straight-through
estimator: that of the identity (what BitNet trains with), or one that is zero where a value was cut off.

Of finite numbers every function makes finite numbers, huge ones included; of NaN or infinity it makes NaN or infinity,
which `bitsim.training.bitlinear.check_finite` finds the source of.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion

Weights = Literal["ternary", "binary"]
Grain = Literal["tensor", "row"]
WeightGradient = Literal["identity", "clipped"]
ActivationGradient = Literal["identity", "clipped", "relu", "clipped_relu"]

SMALLEST = 1e-5  # no mean and no maximum counts as smaller, so that zeros have a scale; transformers' choice
_FAR = 2.0**-40  # a mean is taken of values this much smaller (exactly: a power of two), so that no sum overflows


def _check(field: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        near = suggestion(str(value), [str(name) for name in known])
        raise BitsimError(f"{field}: expected one of {', '.join(map(str, known))}, got '{shown(value)}'{near}")


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a linear layer computes with, and which gradients its rounding gets.

    Raises:
        BitsimError: a value that the field does not know.
    """

    weights: Weights
    """"ternary" (BitNet b1.58: -1, 0 or 1 by the mean size) or "binary" (BitNet b1: -1 or 1 by the sign)."""
    grain: Grain = "tensor"
    """What shares a scale: the whole matrix, or a row of it (one output)."""
    activation_bits: Literal[4, 8] = 8
    """Bits of an activation; the largest of a token sets the token's scale."""
    weight_gradient: WeightGradient = "identity"
    """See `ternary` and `binary`."""
    activation_gradient: ActivationGradient = "identity"
    """See `absmax`."""

    def __post_init__(self) -> None:
        _check("weights", self.weights, get_args(Weights))
        _check("grain", self.grain, get_args(Grain))
        _check("activation_bits", self.activation_bits, (4, 8))
        _check("weight_gradient", self.weight_gradient, get_args(WeightGradient))
        _check("activation_gradient", self.activation_gradient, get_args(ActivationGradient))

    def of_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weights rounded as this says."""
        made: Callable[..., torch.Tensor] = ternary if self.weights == "ternary" else binary
        return made(weight, self.grain, self.weight_gradient)

    def of_activations(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activations rounded as this says."""
        return absmax(x, self.activation_bits, self.activation_gradient)


SCHEMES: dict[str, Quantization | None] = {
    "fp32": None,
    "fp16": None,
    "bf16": None,
    "b1.58": Quantization("ternary"),
    "b1.58a4": Quantization("ternary", activation_bits=4),
    "b1": Quantization("binary"),
}
"""What training knows by the name of a scheme; None for one whose linear layers stay as they are."""


def ternary(weight: torch.Tensor, grain: Grain = "tensor", gradient: WeightGradient = "identity") -> torch.Tensor:
    """Return weights of which each is -1, 0 or 1 times what their scale says, in their own data type.

    With s = 1 / max(mean |W|, 1e-5) a weight becomes round(W s), at most 1 in size, and is worth that / s (arXiv
    2402.17764, section 2): what `WeightQuant` of transformers gives, bit for bit, where mean |W| is under 2^126.

    Args:
        weight: floating-point matrix (outputs, inputs).
        grain: "tensor" for one scale, "row" for one for each output.
        gradient: "identity", or "clipped" for none where a weight rounds to more than 1 in size.
    """
    integers, unit = ternary_integers(weight.detach(), grain)
    passes = None
    if gradient == "clipped":
        passes = _rounded(weight.detach().float(), grain)[0].abs() <= 1
    return _passed(weight, integers.mul_(unit).to(weight.dtype), passes)


def ternary_integers(weight: torch.Tensor, grain: Grain = "tensor") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the -1, 0, 1 of `ternary` (float32) and what a 1 is worth (float32: one number, or a column of them)."""
    full = weight.detach().float()
    integers, scale = _rounded(full, grain)
    return integers.clamp_(-1, 1), (1.0 / scale).clamp_(max=torch.finfo(weight.dtype).max)


def binary(weight: torch.Tensor, grain: Grain = "tensor", gradient: WeightGradient = "identity") -> torch.Tensor:
    """Return weights of which each is 1 or -1 times their mean size, in their own data type.

    A weight becomes 1 if it is greater than the mean weight, else -1 (arXiv 2310.11453, equations 1 to 3; the sign of 0
    is -1 there), times mean |W| (the beta of its equation 12). So a matrix of zeros stays one.

    Args:
        weight: floating-point matrix (outputs, inputs).
        grain: "tensor" for one mean and one scale, "row" for one each for each output.
        gradient: "identity", or "clipped" for none where a weight is further from the mean than the scale.
    """
    integers, unit = binary_integers(weight, grain)
    passes = None
    if gradient == "clipped":
        full = weight.detach().float()
        passes = (full - _mean(full, grain)).abs() <= unit
    return _passed(weight, integers.mul_(unit).to(weight.dtype), passes)


def binary_integers(weight: torch.Tensor, grain: Grain = "tensor") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the -1 and 1 of `binary` (float32) and what a 1 is worth (float32: one number, or a column of them)."""
    full = weight.detach().float()
    above = full > _mean(full, grain)
    unit = _mean(full.abs(), grain).clamp_(max=torch.finfo(weight.dtype).max)
    # A comparison hides NaN and the cap hides infinity: such a matrix gets NaN for its unit.
    return above.float().mul_(2).sub_(1), torch.where((full.abs().amax() * 0).isnan(), torch.nan, unit)


def absmax(x: torch.Tensor, bits: int = 8, gradient: ActivationGradient = "identity") -> torch.Tensor:
    """Return activations rounded to whole multiples of a step that each token has of its own, in their own data type.

    With s = (2^(bits - 1) - 1) / max(max |x|, 1e-5) over the last axis, x becomes round(x s) / s: with 8 bits what
    `ActQuant` of transformers gives, bit for bit. The largest of a token sets its step, so nothing is cut off and the
    gradient "clipped" is the identity's; it is there for the sake of one set of names.

    Args:
        x: floating-point activations (..., features).
        bits: 8 or 4.
        gradient: "identity" or "clipped" (the same here); "relu" for none where x <= 0; "clipped_relu" for none where
            x <= 0 or x is at the top of its range: the coarse gradients of arXiv 1903.05662, section 2, which are
            meant for layers after a ReLU.
    """
    full = x.detach().float()
    largest = full.abs().amax(dim=-1, keepdim=True).clamp_(min=SMALLEST)
    top = float(2 ** (bits - 1) - 1)
    scale = top / largest
    limit = torch.finfo(x.dtype).max  # the last rounding of a huge number can go above it
    rounded = (full * scale).round_().clamp_(-top - 1, top).div_(scale).clamp_(-limit, limit).to(x.dtype)
    passes = None
    if gradient == "relu":
        passes = full > 0
    elif gradient == "clipped_relu":
        passes = (full > 0) & (full < largest)
    return _passed(x, rounded, passes)


def mixed(full: torch.Tensor, rounded: torch.Tensor, strength: float) -> torch.Tensor:
    """Return full + strength (rounded - full), and `rounded` itself at strength 1.

    The warm-up (lambda) that takes a full-precision checkpoint to a ternary one by and by: raised from 0 to 1 over
    the first steps, for weights and activations alike (Hugging Face, "Fine-tuning LLMs to 1.58bit", 2024).
    """
    return rounded if strength == 1 else torch.lerp(full, rounded, strength)


def _rounded(full: torch.Tensor, grain: Grain) -> tuple[torch.Tensor, torch.Tensor]:
    """Return round(W s), not cut off yet, and s, of float32 weights."""
    scale = scale_of(full, grain)
    return (full * scale).round_(), scale


def scale_of(full: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return 1 / max(mean |W|, 1e-5) of float32 weights: above 0 if all are finite, else 0 or NaN."""
    far = _far_mean(full.abs(), grain).clamp_(min=SMALLEST * _FAR)
    return (1.0 / far) * _FAR  # not 1 / (far / _FAR), which is 0 where the mean is past all float32 numbers


def check_tensor(name: str, tensor: torch.Tensor) -> None:
    """Raise a BitsimError that names the tensor if it holds NaN or infinity."""
    wrong = ~torch.isfinite(tensor.detach())
    count = int(wrong.sum())
    if count:
        first = tuple(wrong.nonzero()[0].tolist())
        value = "NaN" if math.isnan(tensor.detach()[first].item()) else "infinity"
        raise BitsimError(f"{name}: expected finite numbers, found {value} at {list(first)} ({count:,} in all)")


def _mean(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    return _far_mean(values.clone(), grain) / _FAR


def _far_mean(values: torch.Tensor, grain: Grain) -> torch.Tensor:
    """Return _FAR times the mean, at the cost of the values."""
    values = values.mul_(_FAR)
    return values.mean() if grain == "tensor" else values.mean(dim=-1, keepdim=True)


class _Passed(torch.autograd.Function):
    """The rounded value forwards, the gradient past it backwards."""

    @staticmethod
    def forward(ctx: Any, full: torch.Tensor, rounded: torch.Tensor, passes: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(passes)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (passes,) = ctx.saved_tensors
        return gradients[0].clone() if passes is None else gradients[0] * passes, None, None


def _passed(full: torch.Tensor, rounded: torch.Tensor, passes: torch.Tensor | None) -> torch.Tensor:
    if not (full.requires_grad and torch.is_grad_enabled()):
        return rounded
    return _Passed.apply(full, rounded, passes)  # type: ignore[no-any-return]
