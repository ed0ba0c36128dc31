import gc
import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or transformers' quantisers compile C++ for a minute

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.models.bitnet.modeling_bitnet import BitNetRMSNorm

from bitsim.training import fused
from bitsim.training.bitlinear import BitLinear, SubNorm, bit_linears, transform
from bitsim.training.quantize import Quantization, absmax, ternary

TERNARY = Quantization("ternary")
FLOAT, BRAIN, HALF = torch.float32, torch.bfloat16, torch.float16


def layer(quantization: Quantization = TERNARY, bias: bool = True, norm_eps: float | None = None) -> BitLinear:
    torch.manual_seed(3)
    made = BitLinear(70, 50, bias, quantization=quantization, norm_eps=norm_eps)
    if made.rms_norm is not None:
        with torch.no_grad():
            made.rms_norm.weight.add_(torch.randn(70) / 10)
    return made


def activations(dtype: torch.dtype = FLOAT, rows: int = 600) -> torch.Tensor:
    """Enough rows for two threads; some of zeros, of next to nothing, of huge numbers."""
    x = torch.randn(rows, 70, generator=torch.Generator().manual_seed(4)) * torch.linspace(0, 3, rows)[:, None]
    x[5], x[6] = 1e-7, 3e4
    return x.to(dtype)


def run(one: BitLinear, x: torch.Tensor, plain: bool) -> list[Any]:
    """Return the output and every gradient, of the quick form or the plain one."""
    one.zero_grad()
    x = x.clone().requires_grad_()
    out = one._plain(x if one.rms_norm is None else one.rms_norm(x)) if plain else one(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    total: Any = (out.float() * weights).sum()
    total.backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in one.parameters())]


def assert_near(some: list[Any], others: list[Any], of_the_largest: float) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert (one.float() - other.float()).abs().max() <= of_the_largest * other.float().abs().max()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plain form fail, so that the test is of the quick one."""
    monkeypatch.setattr(BitLinear, "_plain", None)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("dtype", "to"), [(FLOAT, FLOAT), (FLOAT, BRAIN), (BRAIN, BRAIN), (HALF, HALF), (FLOAT, HALF)])
def test_rounded_activations_are_the_plain_ones(dtype: torch.dtype, to: torch.dtype, bits: int) -> None:
    x = activations(dtype)
    huge = torch.full((2, 3), torch.finfo(dtype).max, dtype=dtype)
    for some in (x, x[:, ::2], x[:0], huge, x.view(6, 100, 70)):
        rounded = fused.round_input(some, bits, to, "")
        assert torch.equal(rounded.values, absmax(some, bits).to(to))


@pytest.mark.parametrize("to", [FLOAT, BRAIN])
@pytest.mark.parametrize("dtype", [FLOAT, BRAIN])
def test_normed_activations_are_made_again_as_they_were(dtype: torch.dtype, to: torch.dtype) -> None:
    norm = SubNorm(70, 1e-5)
    for x in (activations(dtype), activations(dtype)[:0], activations(dtype).view(6, 100, 70)):
        rounded = fused.round_normed_input(x, fused.inverse_size(x, 1e-5), norm.weight, 8, to, "")
        assert torch.equal(rounded.values, absmax(norm(x)).to(to))
        assert rounded.integers is not None
        assert rounded.scales is not None
        assert torch.equal(fused._made_again(rounded.integers, rounded.scales, to), rounded.values)


@pytest.mark.parametrize("to", [FLOAT, BRAIN, HALF])
@pytest.mark.parametrize("dtype", [FLOAT, BRAIN])
@pytest.mark.parametrize("grain", ["tensor", "row"])
def test_rounded_weights_are_the_plain_ones(grain: Any, dtype: torch.dtype, to: torch.dtype) -> None:
    weight = activations(dtype) / 100
    weight[9] = torch.nextafter(weight[9], torch.ones(()).to(dtype))
    rounded = fused.round_weight(weight, grain, to, "")
    assert rounded.values.dtype == to
    worth = (rounded.values.float() * rounded.factor).to(dtype)
    assert torch.equal(worth.to(to), ternary(weight, grain).to(to))


@pytest.mark.parametrize("dtype", [FLOAT, BRAIN])
def test_norm_equals_transformers(dtype: torch.dtype) -> None:
    one, other = SubNorm(70, 1e-5), BitNetRMSNorm(70, 1e-5)
    with torch.no_grad():
        one.weight.add_(torch.randn(70) / 10)
        other.weight.copy_(one.weight)
    results = []
    for norm in (one, other):
        x = activations(dtype).requires_grad_()
        out: Any = norm(x)
        (out * torch.linspace(-1, 1, 70)).sum().backward()
        results.append([out, x.grad, norm.weight.grad])
    assert torch.equal(results[0][0], results[1][0])
    assert_near(results[0][1:], results[1][1:], 1e-6 if dtype == FLOAT else 2e-2)
    half = activations(HALF)
    assert torch.equal(one(half), other(half))


def test_transform_takes_over_the_sub_norms() -> None:
    norms = nn.ModuleDict(
        {"attn_sub_norm": BitNetRMSNorm(8, 1e-5), "norm": BitNetRMSNorm(8), "linear": nn.Linear(8, 8)}
    )
    weight = norms["attn_sub_norm"].weight
    assert transform(norms, TERNARY) == 1
    made = norms["attn_sub_norm"]
    assert isinstance(made, SubNorm)
    assert made.weight is weight
    assert made.variance_epsilon == 1e-5
    assert type(norms["norm"]) is BitNetRMSNorm


def test_halves_of_a_weight_round_to_zero() -> None:
    weight = torch.tensor([[0.5, -0.5, 2.0, -1.0, 1.0, 1.0]])  # mean size 1
    assert fused.round_weight(weight, "tensor", BRAIN, "").values.tolist() == [[0, 0, 1, -1, 1, 1]]


@pytest.mark.parametrize("norm_eps", [None, 1e-6])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "quantization", [TERNARY, Quantization("ternary", "row"), Quantization("ternary", "tensor", 4)]
)
def test_equals_the_plain_form_in_float32(quantization: Quantization, bias: bool, norm_eps: float | None) -> None:
    one = layer(quantization, bias, norm_eps)
    assert_near(run(one, activations(), plain=False), run(one, activations(), plain=True), 1e-6)


@pytest.mark.parametrize("norm_eps", [None, 1e-6])
@pytest.mark.parametrize("inputs", [FLOAT, BRAIN])
@pytest.mark.parametrize("dtype", [BRAIN, HALF])
def test_equals_the_plain_form_under_autocast(dtype: torch.dtype, inputs: torch.dtype, norm_eps: float | None) -> None:
    """Within the rounding of the type: 8 bits hold a bfloat16, and gradients are sums of such."""
    one, x = layer(norm_eps=norm_eps), activations(inputs).clamp(-10, 10)  # or a float16 overflows
    with torch.autocast("cpu", dtype=dtype):
        assert_near(run(one, x, plain=False), run(one, x, plain=True), 2e-2)


@pytest.mark.parametrize("dtype", [BRAIN, HALF])
def test_a_whole_model_in_half_precision(dtype: torch.dtype) -> None:
    one = layer(norm_eps=1e-6).to(dtype)
    x = activations(dtype)[:, None].clamp(-10, 10)
    assert_near(run(one, x, plain=False), run(one, x, plain=True), 3e-2)


def test_with_two_threads_as_with_one() -> None:
    threads = torch.get_num_threads()
    one = layer(norm_eps=1e-6)
    try:
        torch.set_num_threads(1)
        expected = run(one, activations(), plain=False)
        torch.set_num_threads(2)
        assert_near(run(one, activations(), plain=False), expected, 1e-6)
    finally:
        torch.set_num_threads(threads)


class Count:
    """How often the module's functions round weights and activations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights = self.inputs = 0
        round_weight, round_input = fused.round_weight, fused.round_input

        def weights(*arguments: Any) -> Any:
            self.weights += 1
            return round_weight(*arguments)

        def inputs(*arguments: Any) -> Any:
            self.inputs += 1
            return round_input(*arguments)

        monkeypatch.setattr(fused, "round_weight", weights)
        monkeypatch.setattr(fused, "round_input", inputs)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    return Count(monkeypatch)


def small_llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        **changes,
    )
    model = transformers.LlamaForCausalLM(config)
    transform(model, TERNARY)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(1))


def test_each_tensor_is_rounded_once(count: Count) -> None:
    model = small_llama()
    model(tokens()).logits.sum().backward()
    assert (count.inputs, count.weights) == (2 * 4, 2 * 7)  # q, k and v take the same, gate and up too
    model(tokens()).logits.sum().backward()  # the next micro-batch
    assert (count.inputs, count.weights) == (4 * 4, 2 * 7)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.eval()
    with torch.no_grad():
        model(tokens())
        model(tokens())
    assert (count.inputs, count.weights) == (8 * 4, 4 * 7)


@pytest.mark.parametrize("change", ["in place", "step", "step on data", "other", "loaded", "data and eval"])
def test_changed_weights_are_rounded_anew(change: str) -> None:
    one, x = layer(bias=False), activations()
    other = torch.randn(50, 70)
    one(x)
    if change == "in place":
        with torch.no_grad():
            one.weight.copy_(other)
    elif change == "step":
        one.weight.grad = one.weight.detach() - other
        torch.optim.SGD([one.weight], lr=1).step()
    elif change == "step on data":
        Assigning([one.weight], other).step()
    elif change == "other":
        one.weight = nn.Parameter(other)
    elif change == "loaded":
        one.load_state_dict({"weight": other})
    else:
        one.weight.data.copy_(other)
        one.eval()
    torch.testing.assert_close(one(x), one._plain(x), rtol=1e-4, atol=1e-4)


class Assigning(torch.optim.Optimizer):
    """An optimizer that writes past the version of a tensor, as some of other packages do."""

    def __init__(self, parameters: list[torch.Tensor], value: torch.Tensor) -> None:
        self.value = value
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["params"][0].data.copy_(self.value)


def test_activations_changed_in_place_are_rounded_anew(count: Count) -> None:
    one, x = layer(), activations()
    with torch.no_grad():
        first = one(x)
        assert torch.equal(one(x), first)
        assert count.inputs == 1
        x.mul_(-1)
        assert not torch.equal(one(x), first)
    one(x)  # with gradients now
    assert count.inputs == 3


def test_rounded_activations_live_no_longer_than_the_full_ones() -> None:
    one = layer()
    with torch.no_grad():
        one(activations())
    gc.collect()
    assert one.shared._last is None


def test_twice_in_one_pass() -> None:
    one = BitLinear(20, 20, quantization=TERNARY)
    x = torch.randn(6, 20)
    out: Any = one(one(x))
    out.sum().backward()
    quick = one.weight.grad
    one.zero_grad()
    out = one._plain(one._plain(x))
    out.sum().backward()
    torch.testing.assert_close(quick, one.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool, count: Count) -> None:
    model = small_llama().train()
    model(tokens(), labels=tokens()).loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    assert count.weights == 14
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
    model.train()
    count.weights = 0
    model(tokens(), labels=tokens(), use_cache=False).loss.backward()
    assert count.weights == 14  # not once more for the second forward pass
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, expected[name]), name


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_of_a_single_layer(reentrant: bool) -> None:
    one = layer(norm_eps=1e-6)
    expected = run(one, activations(), plain=False)
    one.zero_grad()
    x = activations().requires_grad_()
    out: Any = checkpoint(one, x, use_reentrant=reentrant)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(5))).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, expected[1])


@pytest.mark.usefixtures("quick")
def test_evaluation_in_inference_mode_then_training() -> None:
    one, x = layer(norm_eps=1e-6), activations()
    with torch.inference_mode():
        expected = one(x)
        one(x.clone())
    out: Any = one(x)
    assert torch.equal(out, expected)
    out.sum().backward()


@pytest.mark.usefixtures("quick")
def test_frozen_parts_get_no_gradient() -> None:
    one, x = layer(), activations()
    one.weight.requires_grad_(False)
    one(x).sum().backward()
    assert one.weight.grad is None
    assert one.bias.grad is not None
    one = layer(bias=False)
    one(x).sum().backward()  # into activations that need none
    assert one.weight.grad is not None


def test_distributed(tmp_path: Path, count: Count) -> None:
    """DDP gives the gradients of one process; nothing is kept, for FSDP's sake."""
    model = small_llama()
    model(tokens()).logits.sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):
            count.weights = 0
            model.zero_grad(set_to_none=True)
            parallel(tokens()).logits.sum().backward()
            assert count.weights == 14
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    finally:
        torch.distributed.destroy_process_group()


def test_what_the_quick_form_leaves_to_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = activations()
    weight = layer().weight
    assert fused.product_type(x, weight, TERNARY) == FLOAT
    assert fused.product_type(x, weight, Quantization("binary")) is None
    assert fused.product_type(x, weight, Quantization("ternary", weight_gradient="clipped")) is None
    assert fused.product_type(x, weight, Quantization("ternary", activation_gradient="relu")) is None
    assert fused.product_type(x.double(), weight.double(), TERNARY) is None
    assert fused.product_type(x.bfloat16(), weight, TERNARY) is None  # torch's own error follows
    with torch.autocast("cpu", dtype=BRAIN):
        assert fused.product_type(x, weight, TERNARY) == BRAIN
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert fused.product_type(x, weight, TERNARY) is None


def test_without_a_compiler_a_gpu_rounds_in_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C compiler found")

    monkeypatch.setattr(torch, "compile", no_compiler)
    fused._rounding.cache_clear()
    try:
        assert torch.equal(fused._rounding("cuda")(activations(), 8, BRAIN), absmax(activations()).to(BRAIN))
    finally:
        fused._rounding.cache_clear()


def test_a_model_learns() -> None:
    """The loss on one batch falls far below the log of the vocabulary, in bfloat16 with the quick form."""
    model = small_llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        with torch.autocast("cpu", dtype=BRAIN):
            loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 1.5
    assert all(one.name.startswith("model.layers.") for one in bit_linears(model))
