"""The quick form of `BitLinear`'s product, for ternary weights whose rounding has the identity's gradient.

It computes what rounding each tensor and multiplying computes, with four savings: a row of activations is rounded in
one pass over memory, straight to the data type of the product; layers that are given the same activations (q, k and v)
share the rounded ones; rounded weights are kept until the weights change; and the product is one of plain -1, 0 and 1,
with the scale put in by the matrix product itself, so that bfloat16 does not round it.
"""

import math
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import row_kernels
from .quantize import Grain, Quantization, absmax, check_tensor, scale_of, ternary

Made = TypeVar("Made")

_COMPUTED_IN = (torch.float32, torch.bfloat16, torch.float16)

steps = 0
"""How many steps optimizers have taken in this process: some change weights without a new version of the tensor."""


def _count_step(*_: object) -> None:
    global steps  # noqa: PLW0603
    steps += 1


register_optimizer_step_post_hook(_count_step)


def product_type(x: torch.Tensor, weight: torch.Tensor, quantization: Quantization) -> torch.dtype | None:
    """Return the data type to compute the quick product in, or None where it does not do what is asked."""
    plain = quantization.weight_gradient == quantization.activation_gradient == "identity"
    if quantization.weights != "ternary" or not plain or torch.compiler.is_compiling():
        return None  # a compiler of whole models fuses the plain operations itself
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    fits = x.dtype in _COMPUTED_IN and weight.dtype in _COMPUTED_IN and dtype in _COMPUTED_IN
    same = torch.is_autocast_enabled(device) or x.dtype == weight.dtype
    return dtype if fits and same and x.device == weight.device else None


class RoundedWeight(NamedTuple):
    """A rounded weight matrix (outputs, inputs) and the number that its product is still to be multiplied by."""

    values: torch.Tensor
    factor: float


class KeptWeight:
    """The rounded form of one layer's weights, kept until they change.

    Weights change with a step of any optimizer, with their version (every in-place operation of torch), or by being
    other weights. Writing through `weight.data` outside of an optimizer goes unseen: call `forget` after it. Where
    torch.distributed runs nothing is kept, since FSDP holds a layer's whole weights for a moment only.
    """

    def __init__(self) -> None:
        self.forget()

    def __reduce__(self) -> tuple[type["KeptWeight"], tuple[()]]:
        """Copy and pickle as one that keeps nothing."""
        return KeptWeight, ()

    def forget(self) -> None:
        """Drop the rounded weights."""
        self._weight: weakref.ref[torch.Tensor] | None = None
        self._state: tuple[object, ...] = ()
        self._rounded: RoundedWeight | None = None

    def get(self, weight: torch.Tensor, grain: Grain, dtype: torch.dtype, name: str) -> RoundedWeight:
        """Return the weights rounded; see `round_weight`."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed or weight.is_inference():
            return round_weight(weight, grain, dtype, name)
        state = (weight._version, weight.data_ptr(), steps, grain, dtype)
        if self._rounded is None or self._weight is None or self._weight() is not weight or self._state != state:
            with torch.inference_mode(False):  # or training could not use what evaluation left here
                self._rounded = round_weight(weight, grain, dtype, name)
            self._weight, self._state = weakref.ref(weight), state
        return self._rounded


class SharedInput:
    """The last activations that layers side by side were given, in rounded form, for as long as the full ones live."""

    def __init__(self) -> None:
        self._last: tuple[Any, ...] | None = None

    def __reduce__(self) -> tuple[type["SharedInput"], tuple[()]]:
        """Copy and pickle as one that holds nothing."""
        return SharedInput, ()

    def get(self, x: torch.Tensor, key: tuple[object, ...], make: Callable[[], Made]) -> Made:
        """Return what `make` made of the same unchanged tensor for the same key, or have it made."""
        if x.is_inference():
            return make()
        state = (x._version, torch.is_grad_enabled(), *key)
        last = self._last
        if last is not None and last[0]() is x and last[1] == state:
            return last[2]  # type: ignore[no-any-return]
        made = make()
        own = weakref.ref(self)

        def drop(dead: object) -> None:
            memo = own()
            if memo is not None and memo._last is not None and memo._last[0] is dead:
                memo._last = None

        self._last = (weakref.ref(x, drop), state, made)
        return made


def round_weight(weight: torch.Tensor, grain: Grain, dtype: torch.dtype, name: str) -> RoundedWeight:
    """Return ternary weights in a data type: -1, 0, 1 and their factor where that is free, else worth their scale.

    On a CPU a matrix product takes a factor for free. A GPU would have to wait for the number, and float16 could
    overflow before it is applied.

    Raises:
        BitsimError: NaN or infinity in the weights, found on a CPU.
    """
    weight = weight.detach()
    if weight.device.type != "cpu":
        return RoundedWeight(ternary(weight, grain).to(dtype), 1.0)
    full = weight.float().contiguous()
    scale = scale_of(full, grain)
    if not bool((scale > 0).all()):
        check_tensor(f"{name}.weight", weight)
    if grain == "row" or dtype == torch.float16:
        return RoundedWeight(ternary(weight, grain).to(dtype), 1.0)
    values = torch.empty(full.shape, dtype=dtype)
    row_kernels.in_parts(row_kernels.round_weights, len(full), _rows(full), np.float32(scale.item()), _rows(values))
    unit = (1.0 / scale).clamp_(max=torch.finfo(weight.dtype).max)
    return RoundedWeight(values, unit.item())


class RoundedInput(NamedTuple):
    """Rounded activations and perhaps what they can be made again from, in a half or a quarter of the memory.

    That is for activations that one layer alone takes, after its own norm. Others are kept once for several layers, and
    making them again for each would take longer than it is worth.
    """

    values: torch.Tensor
    integers: torch.Tensor | None
    """What they are multiples of their token's step by, int8."""
    scales: torch.Tensor | None
    """One over each token's step, float32."""


def round_input(x: torch.Tensor, bits: int, dtype: torch.dtype, name: str) -> RoundedInput:
    """Return activations rounded as `absmax` does and then to a data type, with the identity's gradient.

    Raises:
        BitsimError: NaN or infinity in the activations, found on a CPU.
    """
    return RoundedInput(*_Rounded.apply(x, bits, dtype, name))


def round_normed_input(
    x: torch.Tensor, inverse: torch.Tensor, norm: torch.Tensor, bits: int, dtype: torch.dtype, name: str
) -> RoundedInput:
    """Return activations after an RMSNorm, rounded as `round_input` does; on a CPU, in one pass.

    Args:
        x: float32 or bfloat16 activations (..., features).
        inverse: one over each token's root mean square, as `inverse_size` gives it: its part in the gradient is here.
        norm: the norm's float32 weights (features).
        bits: 8 or 4.
        dtype: float32 or bfloat16.
        name: the layer's, for errors.

    Raises:
        BitsimError: NaN or infinity in the activations.
    """
    return RoundedInput(*_NormedRounded.apply(x, inverse, norm, bits, dtype, name))


def rms_norm(x: torch.Tensor, norm: torch.Tensor, eps: float) -> torch.Tensor:
    """Return activations after transformers' RMSNorm: the same numbers in fewer passes, and less kept for backward.

    Args:
        x: float32 or bfloat16 activations (..., features).
        norm: the norm's float32 weights (features).
        eps: what is added to a mean square.
    """
    return _Normed.apply(x, inverse_size(x, eps), norm)  # type: ignore[no-any-return]


def takes_norm(x: torch.Tensor, norm: torch.Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether `rms_norm` takes these, and `round_normed_input` for results of a data type."""
    types = (torch.float32, torch.bfloat16)
    fits = x.device.type == "cpu" and norm.dtype == torch.float32 and x.dtype in types and dtype in types
    return fits and not torch.compiler.is_compiling()


def inverse_size(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return 1 / sqrt(mean x^2 + eps) of each token (..., 1), float32, by the steps of transformers' RMSNorm."""
    return torch.rsqrt(x.detach().float().pow(2).mean(-1, keepdim=True) + eps)


def product(x: RoundedInput, weight: torch.Tensor, rounded: RoundedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rounded activations (..., inputs) times rounded weights, plus bias; its gradient goes to `weight`."""
    return _Product.apply(*x, weight, bias, rounded)  # type: ignore[no-any-return]


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int, dtype: torch.dtype, name: str) -> tuple[torch.Tensor | None, ...]:
        if x.device.type != "cpu" or torch.float16 in (x.dtype, dtype):
            return _rounding(x.device.type)(x, bits, dtype), None, None
        x = x.detach().contiguous()
        made = torch.empty(x.shape, dtype=dtype)
        rows = _rows(x)
        if sum(row_kernels.in_parts(row_kernels.round_rows, len(rows), rows, _top(bits), (_rows(made), None, None))):
            check_tensor(f"input of {name}", x)
        return made, None, None

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return gradients[0], None, None, None


class _NormedRounded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        inverse: torch.Tensor,
        norm: torch.Tensor,
        bits: int,
        dtype: torch.dtype,
        name: str,
    ) -> tuple[torch.Tensor, ...]:
        x = x.detach().contiguous()
        made = _room(x, dtype)
        rows = _rows(x)
        job = (
            row_kernels.round_normed,
            len(rows),
            rows,
            inverse.numpy().reshape(-1),
            _view(norm),
            _top(bits),
        )
        if sum(row_kernels.in_parts(*job, tuple(map(_rows, made)))):
            check_tensor(f"input of {name}", x)
            check_tensor(f"{name}.rms_norm.weight", norm)
        ctx.save_for_backward(x, inverse, norm)
        ctx.mark_non_differentiable(*made[1:])
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *_through_norm(ctx.saved_tensors, gradients[0]), None, None, None


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, inverse: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
        x = x.detach().contiguous()
        out = torch.empty(x.shape, dtype=torch.float32)
        rows = _rows(x)
        row_kernels.in_parts(
            row_kernels.norm_rows, len(rows), rows, inverse.numpy().reshape(-1), _view(norm), _rows(out)
        )
        ctx.save_for_backward(x, inverse, norm)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _through_norm(ctx.saved_tensors, gradients[0])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        integers: torch.Tensor | None,
        scales: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rounded: RoundedWeight,
    ) -> torch.Tensor:
        kept = x if integers is None else integers
        ctx.save_for_backward(kept, scales, rounded.values)
        ctx.factor, ctx.types = rounded.factor, (weight.dtype, bias is not None and bias.dtype)
        out = _multiplied(x.reshape(-1, x.shape[-1]), rounded.values.T, rounded.factor)
        if bias is not None:
            out += bias.to(out.dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scales, values = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, len(values))
        of_x, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_x = _multiplied(gradient, values, ctx.factor).view(x.shape)
        if ctx.needs_input_grad[3]:
            full = x if scales is None else _made_again(x, scales, values.dtype)
            of_weight = (gradient.T @ full.reshape(-1, x.shape[-1])).to(ctx.types[0])
        if ctx.needs_input_grad[4]:
            of_bias = gradient.sum(0, dtype=torch.float32).to(ctx.types[1])
        return of_x, None, None, of_weight, of_bias, None


def _room(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return empty tensors for what a `RoundedInput` holds."""
    scales = torch.empty(*x.shape[:-1], 1, dtype=torch.float32)
    return torch.empty(x.shape, dtype=dtype), torch.empty(x.shape, dtype=torch.int8), scales


def _top(bits: int) -> np.float32:
    return np.float32(2 ** (bits - 1) - 1)


def _made_again(integers: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the values of a `RoundedInput` from the rest of it."""
    made = torch.empty(integers.shape, dtype=dtype)
    rows = _rows(integers)
    row_kernels.in_parts(row_kernels.make_again, len(rows), rows, _rows(scales), _rows(made))
    return made


def _through_norm(
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor], gradient: torch.Tensor
) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Return the gradients of an RMSNorm's input and, after None for its inverse size, of its weights."""
    x, inverse, norm = saved
    of_x = torch.empty_like(x)
    rows, after = _rows(x), _rows(gradient.contiguous())
    norming = (_rows(inverse)[:, 0], _view(norm))
    of_norm = row_kernels.in_parts(row_kernels.normed_gradient, len(rows), rows, *norming, after, _rows(of_x))
    return of_x, None, torch.from_numpy(sum(of_norm))


def _multiplied(left: torch.Tensor, right: torch.Tensor, factor: float) -> torch.Tensor:
    if factor == 1:
        return left @ right
    nothing = left.new_empty(len(left), right.shape[1])
    return torch.addmm(nothing, left, right, beta=0, alpha=factor, out=nothing)


@cache
def _rounding(device: str) -> Callable[[torch.Tensor, int, torch.dtype], torch.Tensor]:
    """Return a function that rounds activations on a device: compiled to one kernel on a GPU, if that works."""

    def plain(x: torch.Tensor, bits: int, dtype: torch.dtype) -> torch.Tensor:
        return absmax(x.detach(), bits).to(dtype)

    if device != "cuda":
        return plain
    try:
        quick = torch.compile(plain, dynamic=True)
        probe = torch.zeros(2, 64, device=device)
        quick(probe, 8, torch.bfloat16)
    except Exception:  # no compiler, or one that fails: whatever it raises, the plain form does the same
        return plain
    return quick


def _rows(tensor: torch.Tensor) -> Any:
    """Return numpy's view (rows, columns) of a contiguous tensor, with uint16 for the bits of bfloat16."""
    rows = tensor.view(math.prod(tensor.shape[:-1]), tensor.shape[-1])
    return _view(rows.view(torch.uint16) if tensor.dtype == torch.bfloat16 else rows)


def _view(tensor: torch.Tensor) -> Any:
    """Return numpy's view of a tensor. Not by `Tensor.numpy`: FSDP could not free what that has looked into."""
    return np.from_dlpack(tensor.detach())
