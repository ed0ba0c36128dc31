"""What is computed otherwise on a CPU than transformers would, to the same result: attention and the loss.

In bfloat16 the gradient of torch's attention takes more than twice the time that it takes in float32 (2.13, heads of
16 and 32); and torch's cross-entropy passes some ten times over float32 copies of the logits: a fifth of a small
model's step.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.masking_utils import sdpa_mask

from .loss_kernels import loss_gradient, row_losses
from .row_kernels import in_parts

ATTENTION = "bitsim_float32"
IGNORED = -100  # a label that counts for nothing, as in torch


def suit_cpu(model: PreTrainedModel) -> None:
    """Have a model of transformers compute its attention in float32 and its loss by our kernels."""
    model.set_attn_implementation(ATTENTION)
    model.loss_function = next_token_loss


def float32_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Return torch's attention computed in float32, in the data type of the query; see `sdpa_attention_forward`."""
    with torch.autocast(query.device.type, enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return out.to(query.dtype), None


AttentionInterface.register(ATTENTION, float32_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def next_token_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return the mean cross-entropy (nats) of the next tokens; the same as transformers' `ForCausalLMLoss`.

    Args:
        logits: (batch, tokens, vocabulary), float32 or bfloat16.
        labels: (batch, tokens) the tokens themselves: they are shifted here.
        vocab_size: of the logits.
        num_items_in_batch: what the sum is divided by; None: as many as there are labels.
        options: others of transformers; with any of them transformers computes.
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.bfloat16) or options:
        return ForCausalLMLoss(logits, labels, vocab_size, num_items_in_batch, **options)
    targets = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].reshape(-1)
    total: torch.Tensor = _CrossEntropy.apply(logits.view(-1, vocab_size), targets)
    return total / ((targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def _bits(x: torch.Tensor) -> Any:
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


class _CrossEntropy(torch.autograd.Function):
    """The sum over rows of logits."""

    @staticmethod
    def forward(context: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = len(logits)
        normalizers, losses = np.empty((rows, 2), np.float32), np.empty(rows)
        in_parts(row_losses, rows, _bits(logits), targets.numpy(), normalizers, losses)
        context.save_for_backward(logits, targets, torch.from_numpy(normalizers))
        return torch.tensor(losses.sum(), dtype=torch.float32)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, normalizers = context.saved_tensors
        out = torch.empty_like(logits, memory_format=torch.contiguous_format)
        factor = np.float32(gradients[0].item())
        in_parts(loss_gradient, len(logits), _bits(logits), targets.numpy(), normalizers.numpy(), factor, _bits(out))
        return out, None
