"""Models built fresh from a ModelSpec: their class, their weights, and how many."""

from dataclasses import replace
from typing import Any

import pytest
from refusals import refusal

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from bitsim.simulator import ModelSpec, resolve_model  # noqa: E402
from bitsim.training.bitlinear import BitLinear, bit_linears  # noqa: E402
from bitsim.training.model import build_model, counts, scheme_norms, training_spec  # noqa: E402
from bitsim.training.quantize import SCHEMES, Quantization  # noqa: E402

SPEC = ModelSpec(
    name="small", architecture="llama", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=300,
    tied_head=True, max_context=32,
)  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "untied": {"tied_head": False},
    "sub-norms": {"sub_norms": True, "architecture": "bitnet"},
    "relu2": {"sub_norms": True, "activation": "relu2", "kv_heads": 4},
    "biases": {"qkv_bias": True, "output_bias": True},
    "narrow heads": {"head_dim": 8},
    "one layer": {"layers": 1, "ffn": 100, "vocab": 17},
}


def weights(model: Any) -> dict[str, Any]:
    return dict(model.named_parameters())


@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_spec(shape: str, scheme: str) -> None:
    spec = replace(SPEC, **SHAPES[shape])
    assert counts(build_model(spec, scheme, seed=0)) == {
        "parameters": spec.parameters,
        "embedding": spec.parameters_embedding,
        "non_embedding": spec.parameters_linear,
        "other": spec.parameters_other,
        "chinchilla": spec.parameters,
    }


def test_norms_inside_are_counted_with_the_others() -> None:
    found = counts(build_model(SPEC, "b1.58", seed=0, norms="inside"))
    inside = SPEC.layers * sum(matrix.inputs for matrix in SPEC.linears())
    assert found["other"] == SPEC.parameters_other + inside
    assert found["parameters"] == SPEC.parameters + inside


@pytest.mark.parametrize("size", ["300K", "1M", "2.5M"])
@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
def test_a_size_is_that_of_the_model(size: str, scheme: str) -> None:
    spec = training_spec(size, 1024, scheme=scheme, context=128)
    model = build_model(spec, scheme, seed=0)
    asked = float(size[:-1]) * {"K": 1e3, "M": 1e6}[size[-1]]
    assert counts(model)["parameters"] == spec.parameters == pytest.approx(asked, rel=0.03)
    assert model.config.max_position_embeddings == 128


def test_twins_have_the_same_widths() -> None:
    specs = [training_spec("1M", 2048, scheme=scheme, context=64) for scheme in SCHEMES]
    assert len({tuple((m.name, m.inputs, m.outputs) for m in spec.linears()) for spec in specs}) == 1
    assert len({(spec.layers, spec.heads, spec.vocab, spec.tied_head) for spec in specs}) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantised_schemes_have_sub_norms_and_the_others_a_llamas(scheme: str) -> None:
    model = build_model(training_spec("300K", 512, scheme=scheme, context=64), scheme, seed=0)
    quantised = SCHEMES[scheme] is not None
    assert type(model).__name__ == ("BitNetForCausalLM" if quantised else "LlamaForCausalLM")
    assert len(list(bit_linears(model))) == (7 * model.config.num_hidden_layers if quantised else 0)
    assert {layer.quantization for layer in bit_linears(model)} == ({SCHEMES[scheme]} if quantised else set())
    assert not isinstance(model.lm_head, BitLinear)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.hidden_act == "silu"


def test_a_full_precision_model_may_have_sub_norms_as_a_control() -> None:
    spec = training_spec("300K", 512, scheme="fp16", norms="sub", context=64)
    model = build_model(spec, "fp16", seed=0)
    assert type(model).__name__ == "BitNetForCausalLM"
    assert list(bit_linears(model)) == []


def test_norms_inside_leave_the_norms_before_at_one_for_good() -> None:
    model = build_model(SPEC, "b1.58", seed=0, norms="inside")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert {layer.rms_norm.variance_epsilon for layer in bit_linears(model) if layer.rms_norm} == {1e-5}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    layers = range(SPEC.layers)
    norms = ("input_layernorm", "post_attention_layernorm")
    assert frozen == {f"model.layers.{layer}.{norm}.weight" for layer in layers for norm in norms}
    assert all((weights(model)[name] == 1).all() for name in frozen)


@pytest.mark.parametrize("norms", ["sub", "none", "inside"])
def test_twins_begin_with_the_same_weights(norms: str) -> None:
    one = weights(build_model(SPEC, "fp16", seed=5))
    other = weights(build_model(SPEC, "b1.58", seed=5, norms=norms))
    assert set(one) <= set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all((other[name] == 1).all() for name in set(other) - set(one))


def test_twins_differ_in_nothing_but_rounding_and_norms() -> None:
    llama = build_model(SPEC, "fp16", seed=0).config
    bitnet = build_model(SPEC, "b1.58", seed=0, norms="sub").config
    own = {"architectures", "model_type", "pretraining_tp", "mlp_bias", "transformers_version"}
    both = (set(llama.to_dict()) & set(bitnet.to_dict())) - own
    assert {key for key in both if llama.to_dict()[key] != bitnet.to_dict()[key]} == set()
    assert {"rope_parameters", "rms_norm_eps", "initializer_range", "hidden_act"} <= both


def test_the_seed_alone_decides_and_the_global_generator_stays() -> None:
    torch.manual_seed(1)
    one = weights(build_model(SPEC, "b1.58", seed=7))
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)
    again = weights(build_model(SPEC, "b1.58", seed=7))
    assert all(torch.equal(one[name], again[name]) for name in one)
    other = weights(build_model(SPEC, "b1.58", seed=8))
    assert all(not torch.equal(one[name], other[name]) for name in one if one[name].ndim > 1)


def test_matrices_are_drawn_with_a_spread_of_their_kind() -> None:
    kinds = {"embed_tokens": 0.02, "o_proj": 0.001, "down_proj": 0.001}
    for name, values in weights(build_model(replace(SPEC, ffn=512), "b1.58", seed=0)).items():
        if values.ndim > 1:
            expected = next((std for kind, std in kinds.items() if kind in name), values.shape[1] ** -0.5)
            assert values.std().item() == pytest.approx(expected, rel=0.08), name
            assert abs(values.mean().item()) < expected / 20, name


def test_an_untied_head_is_a_tensor_of_its_own() -> None:
    model = build_model(replace(SPEC, tied_head=False), "b1.58", seed=0)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_other_gradients_may_be_asked_for() -> None:
    rule = Quantization("ternary", grain="row", weight_gradient="clipped")
    model = build_model(SPEC, "b1.58", seed=0, quantization=rule)
    assert {layer.quantization for layer in bit_linears(model)} == {rule}


@pytest.mark.parametrize("preset", ["bitnet-b1.58-2B-4T", "llama-3-8b", "bitnet-b1.58-700M"])
def test_published_shapes_made_small(preset: str) -> None:
    whole = resolve_model(preset)
    group = whole.heads // whole.kv_heads
    spec = replace(whole, layers=1, heads=2 * group, kv_heads=2, head_dim=4, hidden=8 * group, ffn=32, vocab=50)
    model = build_model(spec, "b1.58", seed=0)
    assert counts(model)["parameters"] == spec.parameters
    assert model.config.hidden_act == spec.activation
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 50)


def test_special_tokens_go_into_the_config() -> None:
    config = build_model(SPEC, "fp16", seed=0, bos=3, eos=4).config
    assert (config.bos_token_id, config.eos_token_id) == (3, 4)
    config = build_model(SPEC, "b1.58", seed=0).config
    assert (config.bos_token_id, config.eos_token_id) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 4, "experts_per_token": 2}, "models with experts can't"),
        ({"post_norms": True}, "norms after attention"),
        ({"qk_norm": True}, "norms of queries and keys"),
        ({"gated_ffn": False}, "without a gate"),
        ({"qkv_bias": True}, "biases of queries"),
        ({"activation": "gelu"}, "the activation 'gelu'"),
        ({"head_dim": 15}, "heads of 15, an odd width"),
        ({"hidden": 66}, "no divisor of the width 66"),
        ({"head_dim": 8, "sub_norms": True}, "heads of 8 and sub-norms"),
    ],
)
def test_what_no_class_has_is_refused(changes: dict[str, Any], message: str) -> None:
    assert message in (refusal(lambda: build_model(replace(SPEC, **changes), "b1.58", seed=0)) or "")


def test_wrong_options_are_refused() -> None:
    assert "did you mean 'b1.58'" in (refusal(lambda: build_model(SPEC, "b1.59", seed=0)) or "")
    assert "norms: expected one of" in (refusal(lambda: scheme_norms("b1.58", "inner")) or "")
    assert "no quantised layers" in (refusal(lambda: scheme_norms("fp16", "inside")) or "")
    assert "eos: expected a token below 300" in (refusal(lambda: build_model(SPEC, "fp16", seed=0, eos=300)) or "")
    assert "context: " in (refusal(lambda: training_spec("1M", 512, scheme="fp16", context=0)) or "")
    assert "smallest possible" in (refusal(lambda: training_spec("1M", 99_000, scheme="fp16", context=8)) or "")
