"""Folders that transformers wrote: tensors and constants are those of its own model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import LINEARS, NORMS, Checkpoint, Dense, open_checkpoint
from bitsim.runtime.packing import CODECS, Ternary

Folders = Callable[[str], tuple[Path, Any]]
MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORM_MODULES = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention_sub_norm": "self_attn.attn_sub_norm",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
BITNET = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}


def state_of(model: Any) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def dense_of(weights: Ternary | Dense | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert isinstance(weights, Dense)
    return weights.as_float32()


def half(values: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return values.astype(np.float16).astype(np.float32)


def assert_norms(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    np.testing.assert_array_equal(checkpoint.output_norm(), state["model.norm.weight"])
    for layer in range(checkpoint.config.spec.layers):
        for name in NORMS:
            expected = state.get(f"model.layers.{layer}.{NORM_MODULES[name]}.weight")
            got = checkpoint.norm(layer, name)
            assert (got is None) == (expected is None), name
            if got is not None:
                np.testing.assert_array_equal(got, expected)


def changed(folder: Path, to: Path, **changes: object) -> Path:
    """Copy a folder, with some keys of config.json changed."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text()) | changes
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize("family", ["bitnet", "llama", "mistral", "qwen2", "qwen3"])
def test_full_numbers_are_those_of_the_model(plain_folders: Folders, family: str) -> None:
    folder, model = plain_folders(family)
    checkpoint, state = open_checkpoint(folder), state_of(model)
    np.testing.assert_array_equal(checkpoint.embedding().as_float32(), half(state["model.embed_tokens.weight"]))
    np.testing.assert_array_equal(dense_of(checkpoint.head()), half(state["lm_head.weight"]))
    assert_norms(checkpoint, state)
    for layer in range(2):
        for name in LINEARS:
            linear, module = checkpoint.linear(layer, name), f"model.layers.{layer}.{MODULES[name]}"
            np.testing.assert_array_equal(dense_of(linear.weights), half(state[f"{module}.weight"]))
            bias = state.get(f"{module}.bias")
            assert (linear.bias is None) == (bias is None)
            if bias is not None:
                np.testing.assert_array_equal(linear.bias, bias)
    config = checkpoint.config
    assert config.spec.activation == ("relu2" if family == "bitnet" else "silu")
    assert config.norm_eps == model.config.rms_norm_eps
    assert config.rope.theta == model.config.rope_parameters["rope_theta"]
    assert config.sliding_window == (4096 if family == "mistral" else None)
    assert (checkpoint.text.bos, checkpoint.text.eos) == (1, (2,))


def test_bfloat16_stays_and_numbers_too_large_for_half_become_bfloat16(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    model = make_model("llama", tie_word_embeddings=True)
    model.model.layers[0].self_attn.q_proj.weight.data[0, 0] = 1e6
    model.save_pretrained(tmp_path / "single")
    query = open_checkpoint(tmp_path / "single").linear(0, "q").weights
    expected = model.model.layers[0].self_attn.q_proj.weight.detach().to(torch.bfloat16).float().numpy()
    assert isinstance(query, Dense)
    assert query.brain
    np.testing.assert_array_equal(query.as_float32(), expected)

    model.to(torch.bfloat16).save_pretrained(tmp_path / "brain")
    checkpoint = open_checkpoint(tmp_path / "brain")
    assert checkpoint.head() is None
    assert checkpoint.embedding().brain
    np.testing.assert_array_equal(checkpoint.embedding().as_float32(), state_of(model)["model.embed_tokens.weight"])


def test_a_model_in_several_files(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    checkpoint = open_checkpoint(tmp_path)
    np.testing.assert_array_equal(
        dense_of(checkpoint.linear(1, "down").weights), half(state_of(model)["model.layers.1.mlp.down_proj.weight"])
    )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(re.sub(r'"model-00002[^"]*"', '"../other.safetensors"', index.read_text()))
    with pytest.raises(BitsimError, match=r"weight_map: expected the name of a file in this folder, got '\.\./other"):
        open_checkpoint(tmp_path)


def packed_folder(folder: Path, family: str, model: Any, to: Path, **quantisation: object) -> dict[str, Any]:
    """Write a folder packed by transformers' own function; return what was packed."""
    import torch
    from transformers.integrations.bitnet import pack_weights

    generator = torch.Generator().manual_seed(2)
    state, packed = model.state_dict(), {}
    for name, tensor in list(state.items()):
        module = name.removesuffix(".weight")
        if ".layers." not in name or not module.endswith("_proj"):
            continue
        weights = torch.randint(-1, 2, tensor.shape, generator=generator).float()
        scale = torch.rand(1, generator=generator) + 0.5
        packed[module] = weights.numpy().astype(np.int8), float(scale)
        state[name], state[f"{module}.weight_scale"] = pack_weights(weights.clone()), scale
        if quantisation.get("use_rms_norm"):
            state[f"{module}.rms_norm.weight"] = torch.rand(tensor.shape[1], generator=generator)
    changed(folder, to, quantization_config=BITNET | quantisation)
    save_file({name: tensor.numpy() for name, tensor in state.items()}, to / "model.safetensors")
    return packed


@pytest.mark.parametrize("linear_class", ["autobitlinear", "bitlinear"])
@pytest.mark.parametrize("family", ["bitnet", "llama"])
def test_packed_weights_and_both_senses_of_the_scale(
    plain_folders: Folders, tmp_path: Path, family: str, linear_class: str
) -> None:
    folder, model = plain_folders(family)
    packed = packed_folder(folder, family, model, tmp_path / "packed", linear_class=linear_class)
    checkpoint = open_checkpoint(tmp_path / "packed")
    for layer in range(2):
        for name in LINEARS:
            weights, scale = packed[f"model.layers.{layer}.{MODULES[name]}"]
            linear = checkpoint.linear(layer, name)
            assert isinstance(linear.weights, Ternary)
            np.testing.assert_array_equal(linear.weights.weights, weights)
            expected = scale if linear_class == "autobitlinear" else 1 / scale
            np.testing.assert_allclose(linear.weights.scales, [[expected]], rtol=1e-7)
            assert linear.norm is None
    assert_norms(checkpoint, state_of(model))


def test_a_norm_inside_of_linear_layers(plain_folders: Folders, tmp_path: Path) -> None:
    folder, model = plain_folders("llama")
    packed_folder(folder, "llama", model, tmp_path / "packed", use_rms_norm=True, rms_norm_eps=1e-4)
    linear = open_checkpoint(tmp_path / "packed").linear(1, "down")
    stored = load_file(tmp_path / "packed" / "model.safetensors")["model.layers.1.mlp.down_proj.rms_norm.weight"]
    assert linear.norm is not None
    np.testing.assert_array_equal(linear.norm, stored)
    assert linear.norm_eps == 1e-4


def test_weights_that_transformers_unpacked_before_it_saved_them(plain_folders: Folders, tmp_path: Path) -> None:
    folder, model = plain_folders("bitnet")
    packed = packed_folder(folder, "bitnet", model, tmp_path / "packed")
    file = tmp_path / "packed" / "model.safetensors"
    tensors = load_file(file)
    for module, (weights, _) in packed.items():
        tensors[f"{module}.weight"] = weights.astype(np.float32)
    save_file(tensors, file)
    query = open_checkpoint(tmp_path / "packed").linear(0, "q").weights
    assert isinstance(query, Ternary)
    np.testing.assert_array_equal(query.weights, packed["model.layers.0.self_attn.q_proj"][0])
    tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = 0.5
    save_file(tensors, file)
    with pytest.raises(BitsimError, match=r"layers\.0\.self_attn\.q_proj\.weight: expected packed weights"):
        open_checkpoint(tmp_path / "packed").linear(0, "q")


def test_master_weights_become_what_transformers_makes_of_them(plain_folders: Folders, tmp_path: Path) -> None:
    import torch
    from transformers.integrations.bitnet import WeightQuant

    folder, model = plain_folders("bitnet")
    kept = ["lm_head", "model.layers.1.mlp", "v_proj"]
    online = BITNET | {"quantization_mode": "online", "modules_to_not_convert": kept}
    changed(folder, tmp_path / "online", quantization_config=online)
    checkpoint, state = open_checkpoint(tmp_path / "online"), state_of(model)
    for layer in range(2):
        for name in LINEARS:
            linear = checkpoint.linear(layer, name)
            if name == "v" or (layer == 1 and name in ("gate", "up", "down")):
                assert isinstance(linear.weights, Dense)
                continue
            assert isinstance(linear.weights, Ternary)
            full = torch.from_numpy(state[f"model.layers.{layer}.{MODULES[name]}.weight"])
            expected: Any = WeightQuant.apply(full)  # type: ignore[no-untyped-call]
            np.testing.assert_allclose(linear.weights.dequantised(), expected.numpy(), rtol=1e-6)


def test_the_1bit_llm_family(plain_folders: Folders, tmp_path: Path) -> None:
    folder, model = plain_folders("bitnet")
    to = changed(
        folder, tmp_path / "f", model_type="llama", weight_bits=1, input_bits=8, hidden_act="silu", rope_theta=10000.0
    )
    renamed = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
    tensors = {
        re.sub("attn_sub_norm|ffn_sub_norm", lambda found: renamed[found[0]], name): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(tensors, to / "model.safetensors")
    checkpoint = open_checkpoint(to)
    assert checkpoint.config.spec.sub_norms
    assert checkpoint.config.spec.activation == "silu"
    assert_norms(checkpoint, state_of(model))
    assert isinstance(checkpoint.linear(0, "q").weights, Ternary)
    with pytest.raises(BitsimError, match="weight_bits: expected 1, got '2'"):
        open_checkpoint(changed(to, tmp_path / "g", weight_bits=2))


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    "scaling", [{"rope_type": "linear", "factor": 2.0}, LLAMA3, YARN], ids=lambda s: s["rope_type"]
)
@pytest.mark.parametrize("old", [False, True], ids=["rope_parameters", "rope_scaling"])
def test_scaled_rotary_embeddings(plain_folders: Folders, tmp_path: Path, scaling: dict[str, Any], old: bool) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    folder, _ = plain_folders("llama")
    keys: dict[str, Any] = {"rope_parameters": scaling | {"rope_theta": 7e4}}
    if old:
        older = {("type" if key == "rope_type" else key): value for key, value in scaling.items()}
        keys = {"rope_parameters": None, "rope_theta": 7e4, "rope_scaling": older}
    rope = open_checkpoint(changed(folder, tmp_path / "f", **keys)).config.rope
    assert (rope.theta, rope.scaling, rope.factor) == (7e4, scaling["rope_type"], scaling["factor"])
    if rope.scaling != "linear":
        assert rope.original_context == scaling["original_max_position_embeddings"]
    config = LlamaConfig.from_pretrained(tmp_path / "f")
    _, factor = ROPE_INIT_FUNCTIONS[rope.scaling](config, "cpu")
    assert rope.attention_factor == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, r"hidden_act: expected one of silu, relu2, got 'gelu'"),
        ({"model_type": "gemma2"}, r"model_type: expected one of bitnet, llama, mistral, qwen2, qwen3, got 'gemma2'"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            r"quantization_config: quant_method: expected one of bitnet",
        ),
        ({"quantization_config": {"bits": 2}}, r"quant_method: expected one of bitnet, got nothing"),
        ({"quantization_config": 3}, r"quantization_config: expected an object, got '3'"),
        ({"quantization_config": BITNET | {"modules_to_not_convert": ["(a+)+$"]}}, r"expected a list of names"),
        ({"rms_norm_eps": "small"}, r"rms_norm_eps: expected a number above 0 and at most 1, got 'small'"),
        ({"rope_parameters": {"rope_type": "longrope"}}, r"rope_type: expected one of default, linear, llama3, yarn"),
        ({"rope_parameters": {"rope_theta": float("nan")}}, r"rope_parameters: rope_theta: expected a number above 1"),
        ({"head_dim": 7}, r"head_dim: expected an even number, got 7"),
        ({"num_hidden_layers": 3}, r"no tensor 'model\.layers\.2\.input_layernorm\.weight'; did you mean"),
        ({"num_hidden_layers": 10**30}, r"num_hidden_layers: expected a whole number"),
        ({"hidden_size": 64}, r"model\.embed_tokens\.weight: expected shape \(96, 64\), got \(96, 32\)"),
        ({"intermediate_size": 47}, r"mlp\.gate_proj\.weight: expected shape \(47, 32\), got \(48, 32\)"),
        ({"quantization_config": BITNET}, r"no tensor 'model\.layers\.0\.self_attn\.q_proj\.weight_scale'"),
    ],
)
def test_configs_that_are_refused(
    plain_folders: Folders, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder, _ = plain_folders("llama")
    to = changed(folder, tmp_path / "f", **changes)
    with pytest.raises(BitsimError, match=message):
        open_checkpoint(to).linear(0, "q")


def test_a_mixture_of_attention_is_refused(plain_folders: Folders, tmp_path: Path) -> None:
    folder, _ = plain_folders("qwen2")
    sliding = {"use_sliding_window": True, "sliding_window": 16}
    every = changed(folder, tmp_path / "every", **sliding, layer_types=["sliding_attention"] * 2)
    assert open_checkpoint(every).config.sliding_window == 16
    some = changed(folder, tmp_path / "some", **sliding, layer_types=None, max_window_layers=1)
    with pytest.raises(BitsimError, match="use_sliding_window: expected the same attention in all layers"):
        open_checkpoint(some)


def test_pickled_weights_are_not_opened(plain_folders: Folders, tmp_path: Path) -> None:
    folder, _ = plain_folders("llama")
    to = changed(folder, tmp_path / "f")
    (to / "model.safetensors").rename(to / "pytorch_model.bin")
    with pytest.raises(BitsimError, match=r"can run any program; convert them: .*save_pretrained"):
        open_checkpoint(to)
    (to / "pytorch_model.bin").unlink()
    with pytest.raises(BitsimError, match=r"expected model\.safetensors or model\.safetensors\.index\.json"):
        open_checkpoint(to)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.norm.weight", np.zeros(32, np.int32), r"model\.norm\.weight: expected floating-point numbers, got I32"),
        ("model.norm.weight", np.zeros(31, np.float32), r"model\.norm\.weight: expected shape \(32,\), got \(31,\)"),
        ("model.norm.weight", np.full(32, np.nan, np.float32), r"model\.norm\.weight: expected finite numbers"),
        ("lm_head.weight", np.zeros((24, 32), np.uint8), r"lm_head\.weight: expected shape \(96, 32\)"),
        ("lm_head.weight", np.zeros((96, 32), np.int8), r"lm_head\.weight: dtype: expected F32, F16 or BF16, got I8"),
        (
            "lm_head.weight",
            np.full((96, 32), np.inf, np.float16),
            r"lm_head\.weight: expected finite numbers, got one that is not",
        ),
    ],
)
def test_wrong_tensors(
    plain_folders: Folders, tmp_path: Path, name: str, tensor: np.ndarray[Any, Any], message: str
) -> None:
    folder, _ = plain_folders("llama")
    to = changed(folder, tmp_path / "f")
    save_file(load_file(folder / "model.safetensors") | {name: tensor}, to / "model.safetensors")
    with pytest.raises(BitsimError, match=message):
        _ = (checkpoint := open_checkpoint(to)).output_norm(), checkpoint.head()


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_wrong_scales(plain_folders: Folders, tmp_path: Path, scale: float) -> None:
    folder, model = plain_folders("bitnet")
    packed_folder(folder, "bitnet", model, tmp_path / "f")
    file = tmp_path / "f" / "model.safetensors"
    name = "model.layers.0.mlp.down_proj.weight_scale"
    save_file(load_file(file) | {name: np.array([scale], np.float32)}, file)
    with pytest.raises(BitsimError, match=r"mlp\.down_proj\.weight_scale: expected"):
        open_checkpoint(tmp_path / "f").linear(0, "down")


def test_a_byte_that_is_no_code(plain_folders: Folders, tmp_path: Path) -> None:
    folder, model = plain_folders("bitnet")
    packed_folder(folder, "bitnet", model, tmp_path / "f")
    file, name = tmp_path / "f" / "model.safetensors", "model.layers.0.mlp.down_proj.weight"
    tensors = load_file(file)
    tensors[name][0, 5] |= 3
    save_file(tensors, file)
    assert tensors[name].shape == (8, 48)
    assert CODECS["hf"].packed_bytes(32, 48) == tensors[name].size
    with pytest.raises(BitsimError, match=r"down_proj\.weight: hf: byte 5: .* holds no ternary code"):
        open_checkpoint(tmp_path / "f").linear(0, "down")
