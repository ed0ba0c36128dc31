import copy
import os
import pickle

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or transformers' quantisers compile C++ for a minute

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.bitnet import AutoBitLinear

from bitsim.energy_tables import BitsimError
from bitsim.training.bitlinear import BitLinear, bit_linears, check_finite, set_strength, transform
from bitsim.training.quantize import SCHEMES, Quantization, absmax, binary, mixed, ternary

TERNARY = Quantization("ternary")
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEARS = {"Llama": 14, "Qwen2": 14, "Mistral": 14, "BitNet": 14, "GPTNeoX": 8}


def model(family: str = "Llama", **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**(SHAPE | changes))
    return getattr(transformers, f"{family}ForCausalLM")(config)


def tokens() -> torch.Tensor:
    return torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_equals_transformers(bias: bool, norm: bool) -> None:
    torch.manual_seed(3)
    theirs = AutoBitLinear(40, 24, bias, online_quant=True, use_rms_norm=norm)
    mine = BitLinear(40, 24, bias, quantization=TERNARY, norm_eps=1e-6 if norm else None)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, 40)
    gradients = []
    for layer in (mine, theirs):
        inputs = x.clone().requires_grad_()
        out = layer(inputs)
        (out * torch.linspace(-1, 1, 24)).sum().backward()
        gradients.append([out, inputs.grad, *(parameter.grad for parameter in layer.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(mine._plain(x), theirs(x)) or norm


@pytest.mark.parametrize("family", LINEARS)
def test_transform(family: str) -> None:
    full = model(family)
    weights = {name: parameter.detach().clone() for name, parameter in full.named_parameters()}
    assert transform(full, TERNARY) == LINEARS[family]
    assert len(list(bit_linears(full))) == LINEARS[family]
    assert type(full.get_output_embeddings()) is nn.Linear
    after = dict(full.named_parameters())
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    full(tokens(), labels=tokens()).loss.backward()
    assert all(parameter.grad is not None for parameter in full.parameters())


def test_transform_keeps_the_very_parameters() -> None:
    full = model()
    before = set(full.parameters())
    transform(full, TERNARY)
    assert set(full.parameters()) == before  # an optimizer made before goes on


def test_transform_with_norms_inside() -> None:
    full = model().to(torch.bfloat16)
    transform(full, TERNARY, norm_eps=1e-5)
    layer = full.model.layers[0].mlp.down_proj
    assert isinstance(layer, BitLinear)
    assert layer.rms_norm is not None
    assert layer.rms_norm.weight.dtype == torch.bfloat16
    assert layer.rms_norm.weight.shape == (48,)
    assert layer.rms_norm.variance_epsilon == 1e-5
    assert "model.layers.0.mlp.down_proj.rms_norm.weight" in full.state_dict()
    full(tokens()).logits.sum().backward()


def test_transform_keeps_what_it_is_told() -> None:
    full = model()
    assert transform(full, TERNARY, keep=("lm_head", "o_proj", "model.layers.1.mlp.up_proj")) == 14 - 3
    assert type(full.model.layers[0].self_attn.o_proj) is nn.Linear
    assert type(full.model.layers[1].mlp.up_proj) is nn.Linear
    assert isinstance(full.model.layers[0].mlp.up_proj, BitLinear)


def test_transform_leaves_what_shares_the_embedding() -> None:
    embedding, head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
    head.weight = embedding.weight
    full = nn.Sequential(embedding, nn.Linear(8, 8), head)
    assert transform(full, TERNARY) == 1
    assert full[2] is head
    tied = model(tie_word_embeddings=True)
    assert transform(tied, TERNARY) == 14
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


def test_transform_keeps_shared_layers_shared() -> None:
    layer = nn.Linear(8, 8)
    full = nn.ModuleDict({"one": layer, "two": layer, "three": nn.Sequential(layer)})
    assert transform(full, TERNARY) == 1
    assert isinstance(full["one"], BitLinear)
    three: Any = full["three"]
    assert full["one"] is full["two"] is three[0]


def test_transform_on_meta() -> None:
    with torch.device("meta"):
        full = model()
    transform(full, TERNARY, norm_eps=1e-6)
    assert {parameter.device.type for parameter in full.parameters()} == {"meta"}


def test_transform_keeps_evaluation() -> None:
    full = model().eval()
    transform(full, TERNARY)
    assert not any(module.training for module in full.modules())


def test_gpt_2_is_refused() -> None:
    gpt_2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=10))
    with pytest.raises(BitsimError, match="GPT2LMHeadModel: is made of Conv1D layers"):
        transform(gpt_2, TERNARY)
    with pytest.raises(BitsimError, match=r"Embedding: has no nn.Linear layer"):
        transform(nn.Embedding(3, 4), TERNARY)


def test_strength_zero_is_the_full_model_and_one_the_rounded() -> None:
    full, rounded = model().eval(), model().eval()
    transform(rounded, TERNARY)
    with torch.no_grad():
        expected, wholly = full(tokens()).logits, rounded(tokens()).logits
        set_strength(rounded, 0)
        assert torch.equal(rounded(tokens()).logits, expected)
        set_strength(rounded, 0.5)
        assert not torch.allclose(rounded(tokens()).logits, wholly)
        set_strength(rounded, 1)
        assert torch.equal(rounded(tokens()).logits, wholly)
    with pytest.raises(BitsimError, match=r"strength: expected a number from 0 to 1, got 1\.5"):
        set_strength(rounded, 1.5)
    with pytest.raises(BitsimError, match="strength"):
        set_strength(rounded, float("nan"))


@pytest.mark.parametrize(
    "quantization",
    [
        TERNARY,
        Quantization("ternary", "row"),
        SCHEMES["b1.58a4"],
        SCHEMES["b1"],
        Quantization("binary", "row"),
        Quantization("ternary", weight_gradient="clipped", activation_gradient="relu"),
    ],
)
def test_every_setting_computes_what_its_parts_do(quantization: Quantization) -> None:
    torch.manual_seed(5)
    layer = BitLinear(24, 16, quantization=quantization)
    x = torch.randn(3, 24)
    weight = (ternary if quantization.weights == "ternary" else binary)(layer.weight, quantization.grain)
    expected = nn.functional.linear(absmax(x, quantization.activation_bits), weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    layer.strength = 0.3
    expected = nn.functional.linear(
        mixed(x, absmax(x, quantization.activation_bits), 0.3), mixed(layer.weight, weight, 0.3), layer.bias
    )
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", ["b1.58", "b1"])
@pytest.mark.parametrize("norm_eps", [None, 1e-6])
def test_nan_names_the_layer(norm_eps: float | None, scheme: str) -> None:
    full = model()
    quantization = SCHEMES[scheme]
    assert quantization is not None
    transform(full, quantization, norm_eps=norm_eps)
    with torch.no_grad():
        full.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    message = r"model\.layers\.1\.mlp\.up_proj\.weight: expected finite numbers, found NaN at \[3, 4\] \(1 in all\)"
    with pytest.raises(BitsimError, match=message):
        full(tokens())
    with pytest.raises(BitsimError, match=message):
        check_finite(full)
    with torch.no_grad():
        full.model.layers[1].mlp.up_proj.weight[3, 4] = 0
        full.model.embed_tokens.weight[tokens()[0, 0]] = torch.inf
    with pytest.raises(BitsimError, match=r"input of model\.layers\.0\.self_attn\.q_proj: .* NaN"):
        full(tokens())  # the norm before it has made NaN of infinity
    with pytest.raises(BitsimError, match=r"model\.embed_tokens\.weight: .* infinity"):
        check_finite(full)


def test_check_finite_looks_at_gradients_after_weights() -> None:
    layer = BitLinear(3, 2, bias=False, quantization=TERNARY)
    check_finite(layer)
    layer.weight.grad = torch.zeros(2, 3)
    check_finite(layer)
    layer.weight.grad[0, 1] = -torch.inf
    with pytest.raises(BitsimError, match=r"gradient of weight: expected finite numbers, found infinity at \[0, 1\]"):
        check_finite(layer)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(make: Any) -> None:
    full = model()
    transform(full, TERNARY, norm_eps=1e-6)
    expected = full(tokens()).logits
    twin = make(full)
    assert torch.equal(twin(tokens()).logits, expected)
    attention = twin.model.layers[0].self_attn
    assert attention.q_proj.shared is attention.k_proj.shared
    assert attention.q_proj.shared is not full.model.layers[0].self_attn.q_proj.shared
    with torch.no_grad():
        twin.model.layers[0].mlp.up_proj.weight.normal_()
    assert torch.equal(full(tokens()).logits, expected)
    assert not torch.equal(twin(tokens()).logits, expected)


def test_printed_form() -> None:
    layer = BitLinear(3, 2, quantization=Quantization("ternary", "row", 4))
    assert repr(layer) == "BitLinear(in_features=3, out_features=2, bias=True, ternary by row, int4)"
