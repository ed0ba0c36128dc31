"""`BitLinear`, a linear layer with rounded weights and activations, and a model made of such layers."""

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.bitnet.modeling_bitnet import BitNetRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

from bitsim.energy_tables import BitsimError

from . import fused
from .quantize import Quantization, check_tensor, mixed


class BitLinear(nn.Linear):
    """A linear layer that rounds its weights and its activations before it multiplies them (arXiv 2402.17764).

    The weights it holds and trains are full ones, under the names that `nn.Linear` has, so that checkpoints of one
    load into the other. With `norm_eps` it has an RMSNorm inside, `rms_norm`, that the activations pass before they
    are rounded, as `AutoBitLinear` of transformers has with `use_rms_norm`.

    Attributes:
        quantization: how weights and activations are rounded.
        strength: the warm-up's lambda: 0 leaves weights and activations full, 1 rounds them wholly.
        name: what errors call this layer; `transform` puts the layer's place in the model here.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        quantization: Quantization,
        norm_eps: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Make a layer with weights as `nn.Linear` draws them."""
        super().__init__(in_features, out_features, bias, device, dtype)
        self.quantization = quantization
        self.strength = 1.0
        self.name = type(self).__name__
        self.shared = fused.SharedInput()
        self._kept = fused.KeptWeight()
        self.rms_norm: LlamaRMSNorm | None = None
        if norm_eps is not None:
            self.rms_norm = LlamaRMSNorm(in_features, eps=norm_eps).to(device=self.weight.device, dtype=dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the product of rounded activations (..., inputs) and rounded weights, plus the bias."""
        if self.strength == 1:
            dtype = fused.product_type(input, self.weight, self.quantization)
            if dtype is not None:
                return self._fused(input, dtype)
        return self._plain(input if self.rms_norm is None else self.rms_norm(input))

    def _fused(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        weight = self._kept.get(self.weight, self.quantization.grain, dtype, self.name)
        return fused.product(self._rounded(x, dtype), self.weight, weight, self.bias)

    def _rounded(self, x: torch.Tensor, dtype: torch.dtype) -> fused.RoundedInput:
        bits, norm = self.quantization.activation_bits, self.rms_norm
        if norm is not None and fused.takes_norm(x, norm.weight, dtype):
            eps = norm.variance_epsilon
            inverse = self.shared.get(x, ("size", eps), lambda: fused.inverse_size(x, eps))
            return fused.round_normed_input(x, inverse, norm.weight, bits, dtype, self.name)
        if norm is not None:
            x = norm(x)
        return self.shared.get(x, (bits, dtype), lambda: fused.round_input(x, bits, dtype, self.name))

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_finite(f"input of {self.name}", x)
            _check_finite(f"{self.name}.weight", self.weight)
        weight = mixed(self.weight, self.quantization.of_weight(self.weight), self.strength)
        x = mixed(x, self.quantization.of_activations(x), self.strength)
        return nn.functional.linear(x, weight, self.bias)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; rounded weights are made anew after it."""
        self._kept.forget()
        return super().train(mode)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows between the brackets."""
        rounding = self.quantization
        return f"{super().extra_repr()}, {rounding.weights} by {rounding.grain}, int{rounding.activation_bits}"


def _check_finite(name: str, tensor: torch.Tensor) -> None:
    """Raise if a tensor holds NaN or infinity; one quick pass if it does not."""
    tensor = tensor.detach()
    if tensor.numel() and not all(torch.isfinite(end) for end in torch.aminmax(tensor)):
        check_tensor(name, tensor)


def transform(
    model: nn.Module,
    quantization: Quantization,
    *,
    norm_eps: float | None = None,
    keep: Sequence[str] = ("lm_head",),
) -> int:
    """Replace the linear layers of a model by `BitLinear` with the same weights, in place, and return how many.

    Sub-norms of BitNet become `SubNorm`, which computes the same.

    The head stays, and so does what shares its weights with an embedding. Any model made of `nn.Linear` will do (Llama,
    Qwen, Mistral, BitNet, GPT-NeoX, ...). GPT-2 is made of `Conv1D` layers, which hold their weights the other way
    round, and is refused.

    Args:
        model: a model of torch or transformers.
        quantization: how the layers are to round.
        norm_eps: if given, each layer gets an RMSNorm inside, with this epsilon.
        keep: names of layers that stay: the last part of a layer's name, or the whole of it.

    Raises:
        BitsimError: no linear layer to replace, or a model of `Conv1D` layers.
    """
    if any(isinstance(module, Conv1D) for module in model.modules()):
        raise BitsimError(f"{type(model).__name__}: is made of Conv1D layers, as GPT-2 is; expected nn.Linear")
    count = _replace(model, quantization, norm_eps, keep)
    if not count:
        raise BitsimError(f"{type(model).__name__}: has no nn.Linear layer to make ternary or binary")
    return count


class SubNorm(LlamaRMSNorm):
    """An RMSNorm of transformers that is quicker on a CPU and keeps less for the backward pass; the numbers are equal.

    Ternary models of the BitNet architecture have two of them in every layer that their FP16 twins do not have.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the activations (..., features) divided by their size, times the weights."""
        if fused.takes_norm(hidden_states, self.weight):
            return fused.rms_norm(hidden_states, self.weight, self.variance_epsilon)
        normed: torch.Tensor = super().forward(hidden_states)
        return normed


def set_strength(model: nn.Module, value: float) -> None:
    """Set the warm-up's lambda, from 0 to 1, of every `BitLinear` in the model."""
    if not 0 <= value <= 1:
        raise BitsimError(f"strength: expected a number from 0 to 1, got {value}")
    for layer in bit_linears(model):
        layer.strength = float(value)


def bit_linears(model: nn.Module) -> Iterator[BitLinear]:
    """Yield every `BitLinear` of a model once."""
    return (module for module in model.modules() if isinstance(module, BitLinear))


def check_finite(model: nn.Module) -> None:
    """Look for NaN and infinity where a loss that is not finite can come from: in weights, then in gradients.

    Made for the moment when a loss has gone wrong: it reads every number of the model.

    Raises:
        BitsimError: a tensor has some; the first such is named.
    """
    for name, parameter in model.named_parameters():
        check_tensor(name, parameter)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            check_tensor(f"gradient of {name}", parameter.grad)


def _replace(model: nn.Module, quantization: Quantization, norm_eps: float | None, keep: Sequence[str]) -> int:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    made: dict[nn.Module, BitLinear] = {}
    for path, parent in list(model.named_modules()):
        shared = fused.SharedInput()
        for child, module in list(parent._modules.items()):
            name = f"{path}.{child}" if path else child
            if type(module) is BitNetRMSNorm and child.endswith("_sub_norm"):
                setattr(parent, child, _sub_norm(module))
            if type(module) is not nn.Linear or module is head or id(module.weight) in embeddings:
                continue
            if child in keep or name in keep:
                continue
            if module not in made:
                made[module] = _like(module, name, quantization, norm_eps)
                made[module].shared = shared
            setattr(parent, child, made[module])
    return len(made)


def _sub_norm(norm: BitNetRMSNorm) -> SubNorm:
    """Return a quicker norm that holds the very weights."""
    with torch.device("meta"):
        made = SubNorm(len(norm.weight), norm.variance_epsilon)
    made.weight = norm.weight
    return made.train(norm.training)


def _like(linear: nn.Linear, name: str, quantization: Quantization, norm_eps: float | None) -> BitLinear:
    """Return a BitLinear that holds the very parameters of a linear layer."""
    layer = BitLinear(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        quantization=quantization,
        norm_eps=norm_eps,
        device="meta",
        dtype=linear.weight.dtype,
    )
    layer.weight, layer.bias, layer.name = linear.weight, linear.bias, name
    if norm_eps is not None:
        layer.rms_norm = LlamaRMSNorm(linear.in_features, norm_eps).to(linear.weight.device, linear.weight.dtype)
    return layer.train(linear.training)
