"""Attention and loss as computed on a CPU, against torch's and transformers' own."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_utils import ForCausalLMLoss

from bitsim.training.model import build_model, training_spec
from bitsim.training.on_cpu import IGNORED, next_token_loss, suit_cpu

FLOAT, BRAIN = torch.float32, torch.bfloat16


def loss_and_gradient(function: Any, logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> Any:
    x = logits.clone().requires_grad_()
    loss = function(x, labels, logits.shape[-1], **options)
    (3 * loss).backward()
    return loss, x.grad


def random_logits(shape: tuple[int, int, int], dtype: torch.dtype, seed: int, spread: float) -> Any:
    random = torch.Generator().manual_seed(seed)
    logits = (torch.randn(shape, generator=random) * spread).to(dtype)
    return logits, torch.randint(shape[2], shape[:2], generator=random)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(2, 100)),
    st.sampled_from([FLOAT, BRAIN]),
    st.sampled_from([0.0, 0.1, 3.0, 40.0, 1e4]),
    st.integers(0, 1000),
    st.booleans(),
)
def test_the_loss_is_that_of_transformers(
    shape: tuple[int, int, int], dtype: torch.dtype, spread: float, seed: int, by_number: bool
) -> None:
    logits, labels = random_logits(shape, dtype, seed, spread)
    options = {"num_items_in_batch": torch.tensor(7)} if by_number else {}
    loss, gradient = loss_and_gradient(next_token_loss, logits, labels, **options)
    expected, slow = loss_and_gradient(ForCausalLMLoss, logits, labels, **options)
    assert loss.dtype == expected.dtype == FLOAT
    assert gradient.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=2e-6, abs=2e-6)
    step = 2.0**-8 if dtype == BRAIN else 2e-6
    assert (gradient.float() - slow.float()).abs().max() <= step * slow.float().abs().max() + 1e-6


def test_rows_on_several_threads_are_those_of_one() -> None:
    logits, labels = random_logits((2, 600, 51), BRAIN, 1, 3.0)
    alone = loss_and_gradient(next_token_loss, logits, labels)
    torch.set_num_threads(3)
    try:
        shared = loss_and_gradient(next_token_loss, logits, labels)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


def test_what_is_ignored_counts_for_nothing() -> None:
    logits, labels = random_logits((2, 9, 33), FLOAT, 2, 3.0)
    labels[0, 3:7] = labels[1, 0] = IGNORED
    loss, gradient = loss_and_gradient(next_token_loss, logits, labels)
    expected, slow = loss_and_gradient(ForCausalLMLoss, logits, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(gradient, slow, atol=1e-7)
    assert not gradient[0, 2:6].any()
    assert not gradient[:, -1].any()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [FLOAT, BRAIN])
def test_a_logit_that_is_no_number_is_not_hidden(wrong: float, dtype: torch.dtype) -> None:
    logits, labels = random_logits((1, 5, 20), dtype, 3, 1.0)
    logits[0, 2, 19] = wrong
    loss, gradient = loss_and_gradient(next_token_loss, logits, labels)
    assert math.isnan(loss.item())
    assert gradient[0, 2].isnan().all()
    assert gradient[0, 1].isfinite().all()


def test_other_options_and_types_are_left_to_transformers() -> None:
    logits, labels = random_logits((1, 5, 20), torch.float64, 3, 1.0)
    assert torch.equal(next_token_loss(logits, labels, 20), ForCausalLMLoss(logits, labels, 20))
    shifted = torch.roll(labels, 1)
    logits = logits.float()
    found = next_token_loss(logits, labels, 20, shift_labels=shifted)
    assert torch.equal(found, ForCausalLMLoss(logits, labels, 20, shift_labels=shifted))


@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
def test_a_model_computes_what_it_did(scheme: str) -> None:
    """In float32 nothing but the order of sums differs; in bfloat16 the gradients are nearer to float32's."""
    ids = torch.randint(300, (3, 33), generator=torch.Generator().manual_seed(4))

    def gradients(suited: bool, brain: bool) -> tuple[float, torch.Tensor]:
        spec = training_spec("150K", 300, scheme=scheme, context=33)
        model = build_model(spec, scheme, seed=0)
        if suited:
            suit_cpu(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=brain):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    (plain, slow), (suited, quick) = gradients(False, False), gradients(True, False)
    assert suited == pytest.approx(plain, rel=1e-6)
    assert (quick - slow).norm() <= 1e-4 * slow.norm()
    (_, plain_brain), (_, suited_brain) = gradients(False, True), gradients(True, True)
    assert (suited_brain - slow).norm() <= 1.1 * (plain_brain - slow).norm()
