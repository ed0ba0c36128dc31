"""The quick form of `BitLinear`'s product, for ternary weights whose rounding has the identity's gradient.

It computes what rounding each tensor and multiplying computes, with four savings: a row of activations is rounded in
one pass over memory, straight to the data type of the product; layers that are given the same activations (q, k and v)
share the rounded ones; rounded weights are kept until the weights change; and the product is one of plain -1, 0 and 1,
with the scale put in by the matrix product itself, so that bfloat16 does not round it.
"""

import math
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from bitsim.runtime.compile import compiled, inlined

from .quantize import SMALLEST, Grain, Quantization, absmax, check_tensor, scale_of, ternary

_COMPUTED_IN = (torch.float32, torch.bfloat16, torch.float16)
_ROWS_OF_A_PART = 256  # fewer rows of activations are not worth another thread

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

    def get(self, x: torch.Tensor, key: tuple[object, ...], make: Callable[[], torch.Tensor]) -> torch.Tensor:
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
    _in_parts(_round_weights, len(full), _rows(full), np.float32(scale.item()), _rows(values))
    unit = (1.0 / scale).clamp_(max=torch.finfo(weight.dtype).max)
    return RoundedWeight(values, unit.item())


def round_input(x: torch.Tensor, bits: int, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Return activations rounded as `absmax` does and then to a data type, with the identity's gradient.

    Raises:
        BitsimError: NaN or infinity in the activations, found on a CPU.
    """
    return _Rounded.apply(x, bits, dtype, name)  # type: ignore[no-any-return]


def round_normed_input(
    x: torch.Tensor, inverse: torch.Tensor, norm: torch.Tensor, bits: int, dtype: torch.dtype, name: str
) -> torch.Tensor:
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
    return _NormedRounded.apply(x, inverse, norm, bits, dtype, name)  # type: ignore[no-any-return]


def norms_too(x: torch.Tensor, norm: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether `round_normed_input` takes these."""
    types = (torch.float32, torch.bfloat16)
    return x.device.type == "cpu" and norm.dtype == torch.float32 and x.dtype in types and dtype in types


def inverse_size(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return 1 / sqrt(mean x^2 + eps) of each token (..., 1), float32, by the steps of transformers' RMSNorm."""
    return torch.rsqrt(x.detach().float().pow(2).mean(-1, keepdim=True) + eps)


def product(x: torch.Tensor, weight: torch.Tensor, rounded: RoundedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rounded activations (..., inputs) times rounded weights, plus bias; its gradient goes to `weight`."""
    return _Product.apply(x, weight, bias, rounded)  # type: ignore[no-any-return]


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int, dtype: torch.dtype, name: str) -> torch.Tensor:
        if x.device.type != "cpu" or torch.float16 in (x.dtype, dtype):
            return _rounding(x.device.type)(x, bits, dtype)
        x = x.detach().contiguous()
        made = torch.empty(x.shape, dtype=dtype)
        rows, top = _rows(x), np.float32(2 ** (bits - 1) - 1)
        if sum(_in_parts(_round_rows, len(rows), rows, top, _rows(made))):
            check_tensor(f"input of {name}", x)
        return made

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
    ) -> torch.Tensor:
        x = x.detach().contiguous()
        made = torch.empty(x.shape, dtype=dtype)
        top = np.float32(2 ** (bits - 1) - 1)
        inputs = (_rows(x), inverse.numpy().reshape(-1), norm.detach().numpy(), top)
        if sum(_in_parts(_round_normed, len(inputs[0]), *inputs, _rows(made))):
            check_tensor(f"input of {name}", x)
            check_tensor(f"{name}.rms_norm.weight", norm)
        ctx.save_for_backward(x, inverse, norm)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inverse, norm = ctx.saved_tensors
        of_x = torch.empty_like(x)
        inputs = (_rows(x), inverse.numpy().reshape(-1), norm.detach().numpy(), _rows(gradients[0].contiguous()))
        of_norm = sum(_in_parts(_normed_gradient, len(inputs[0]), *inputs, _rows(of_x)))
        return of_x, None, torch.from_numpy(of_norm), None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rounded: RoundedWeight
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, rounded.values)
        ctx.factor, ctx.shape, ctx.types = rounded.factor, x.shape, (weight.dtype, bias is not None and bias.dtype)
        out = _multiplied(rows, rounded.values.T, rounded.factor)
        if bias is not None:
            out += bias.to(out.dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, values = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, len(values))
        of_x, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_x = _multiplied(gradient, values, ctx.factor).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.T @ rows).to(ctx.types[0])
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0, dtype=torch.float32).to(ctx.types[1])
        return of_x, of_weight, of_bias, None


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


def _in_parts(job: Callable[..., Any], rows: int, *arguments: Any) -> list[Any]:
    """Return what job(*arguments, first row, last row) returns, called on as many threads as torch uses."""
    parts = min(torch.get_num_threads(), max(rows // _ROWS_OF_A_PART, 1))
    edges = [rows * part // parts for part in range(parts + 1)]
    rest = [_pool(os.getpid(), parts - 1).submit(job, *arguments, *edges[i : i + 2]) for i in range(1, parts)]
    return [job(*arguments, *edges[:2]), *(part.result() for part in rest)]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, f"bitsim-{process}")


def _rows(tensor: torch.Tensor) -> Any:
    """Return numpy's view (rows, columns) of a contiguous tensor: float32, or uint16 for the bits of bfloat16."""
    rows = tensor.view(math.prod(tensor.shape[:-1]), tensor.shape[-1])
    return rows.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else rows.numpy()


_SMALLEST = np.float32(SMALLEST)
_LANES = 64
_LARGEST = np.finfo(np.float32).max
# Bits of a float32 without its sign, of infinity, and of a number near the largest.
_SIZE, _INFINITY, _HUGE = np.int32(0x7FFFFFFF), np.int32(0x7F800000), np.int32(0x7F000000)


@inlined
def _to_brain(bits: Any) -> Any:
    """Round the bits of a finite float32 to those of a bfloat16, halves to even."""
    return np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))


@inlined
def _load(values: Any, i: Any, bits: Any, row: Any) -> None:
    """Copy a row of float32 or bfloat16 to `row`, whose bits are `bits`."""
    for j in range(len(row)):
        if values.itemsize == 2:
            bits[j] = np.int32(values[i, j]) << np.int32(16)
        else:
            row[j] = values[i, j]


@inlined
def _store(bits: Any, row: Any, values: Any, i: Any) -> None:
    for j in range(len(row)):
        if values.itemsize == 2:
            values[i, j] = _to_brain(bits[j])
        else:
            values[i, j] = row[j]


@inlined
def _normalize(bits: Any, row: Any, inverse: Any, brain: Any) -> None:
    """Multiply a row by one over its size; what came as bfloat16 becomes it again, as transformers has it."""
    for j in range(len(row)):
        row[j] = row[j] * inverse
        if brain:
            bits[j] = np.int32(_to_brain(bits[j])) << np.int32(16)


@inlined
def _round_row(bits: Any, row: Any, top: Any) -> Any:
    """Round a row by its largest value and return whether it held NaN or infinity. Same steps as `absmax`."""
    most = np.int32(0)
    for j in range(len(row)):
        size = np.int32(bits[j] & _SIZE)  # of 32 bits again: numba has made it 64
        most = size if size > most else most
    scale = np.float32(1) / max(np.int32(most).view(np.float32), _SMALLEST) * top  # so torch divides a number
    for j in range(len(row)):
        row[j] = np.rint(row[j] * scale) / scale
    if most >= _HUGE:  # the division may have rounded the largest up to infinity
        for j in range(len(row)):
            row[j] = min(max(row[j], -_LARGEST), _LARGEST)
    return most >= _INFINITY


@compiled
def _round_rows(x: Any, top: Any, out: Any, first: int, last: int) -> int:
    """Round rows and return how many held NaN or infinity."""
    bits = np.empty(x.shape[1], np.int32)
    row = bits.view(np.float32)
    wrong = 0
    for i in range(first, last):
        _load(x, i, bits, row)
        wrong += _round_row(bits, row, top)
        _store(bits, row, out, i)
    return wrong


@compiled
def _round_normed(x: Any, inverse: Any, norm: Any, top: Any, out: Any, first: int, last: int) -> int:
    """Normalize rows, multiply them by the norm's weights, round them; return how many held NaN or infinity."""
    bits = np.empty(x.shape[1], np.int32)
    row = bits.view(np.float32)
    wrong = 0
    for i in range(first, last):
        _load(x, i, bits, row)
        _normalize(bits, row, inverse[i], x.itemsize == 2)
        for j in range(len(row)):
            row[j] = norm[j] * row[j]
        wrong += _round_row(bits, row, top)
        _store(bits, row, out, i)
    return wrong


@compiled
def _normed_gradient(x: Any, inverse: Any, norm: Any, gradient: Any, of_x: Any, first: int, last: int) -> Any:
    """Write the gradient of rows before an RMSNorm and return that of its weights.

    With n = x / size and g the gradient after the norm, they are (g w - n mean(g w n)) / size and the sum of g n.
    """
    columns = x.shape[1]
    of_norm = np.zeros(columns, np.float32)
    bits, gradient_bits = np.empty(columns, np.int32), np.empty(columns, np.int32)
    row, g = bits.view(np.float32), gradient_bits.view(np.float32)
    lanes = np.empty(_LANES, np.float32)
    for i in range(first, last):
        _load(x, i, bits, row)
        _load(gradient, i, gradient_bits, g)
        _normalize(bits, row, inverse[i], x.itemsize == 2)
        for j in range(columns):
            of_norm[j] += g[j] * row[j]
            g[j] *= norm[j]
        mean = _dot(g, row, lanes) / np.float32(columns)
        for j in range(columns):
            row[j] = (g[j] - row[j] * mean) * inverse[i]
        _store(bits, row, of_x, i)
    return of_norm


@inlined
def _dot(left: Any, right: Any, lanes: Any) -> Any:
    """Return the sum of products; in lanes, since a compiler may not change the order of a plain sum."""
    lanes[:] = 0
    whole = len(left) // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += left[start + lane] * right[start + lane]
    total = np.float32(0)
    for j in range(whole, len(left)):
        total += left[j] * right[j]
    for lane in range(_LANES):
        total += lanes[lane]
    return total


@compiled
def _round_weights(weights: Any, scale: Any, out: Any, first: int, last: int) -> int:
    """Round finite weights times the scale to -1, 0 or 1. Halves go to the even 0."""
    half = np.float32(0.5)
    for i in range(first, last):
        for j in range(weights.shape[1]):
            value = weights[i, j] * scale
            sign = np.int32(value > half) - np.int32(value < -half)
            if out.itemsize == 2:
                out[i, j] = np.uint16(0x3F80 * (sign & 1) | (0x8000 & sign))
            else:
                out[i, j] = sign
    return 0
