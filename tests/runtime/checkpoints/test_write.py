"""What is written, read by those it is for: transformers and the gguf package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from safetensors import safe_open

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import (
    LINEARS,
    NORMS,
    Checkpoint,
    Dense,
    open_checkpoint,
    quantized,
    write_gguf,
    write_hugging_face,
)
from bitsim.runtime.packing import Ternary

Make = Callable[..., Any]
Array = np.ndarray[Any, np.dtype[Any]]
IDS = [[1, 5, 17, 90, 44, 3, 8, 61]]
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def saved(model: Any, folder: Path, **config: object) -> Path:
    """Save a model whose numbers half precision holds exactly, with some keys of config.json changed."""
    model.half().float().save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def logits_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Array:
    """Run a folder in transformers, in float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.quantizers import quantizer_bitnet

    # It asks for a package that it does not need on a CPU.
    monkeypatch.setattr(quantizer_bitnet, "is_accelerate_available", lambda: True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits: Array = model(torch.tensor(IDS)).logits.numpy()
    return logits


FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("bitnet", {}),
    ("bitnet", {"hidden_act": "silu", "tie_word_embeddings": True}),
    ("llama", {"rope_parameters": LLAMA3, "attention_bias": True, "max_position_embeddings": 10_000}),
    ("mistral", {"sliding_window": 4}),
    ("qwen2", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
]


@pytest.mark.parametrize(("family", "changes"), FAMILIES, ids=lambda value: value if isinstance(value, str) else "")
def test_transformers_gives_the_same_logits(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, changes: dict[str, Any]
) -> None:
    """A model made ternary here and written packed, and the same model that transformers makes ternary as it runs."""
    source = saved(make_model(family, **changes), tmp_path / "source")
    plain = logits_of(source, monkeypatch)
    write_hugging_face(quantized(open_checkpoint(source)), tmp_path / "packed")
    online = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    expected = logits_of(
        saved(make_model(family, **changes), tmp_path / "online", quantization_config=online), monkeypatch
    )
    got = logits_of(tmp_path / "packed", monkeypatch)
    assert np.abs(expected - plain).max() > 0.01
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    write_hugging_face(open_checkpoint(source), tmp_path / "full")
    np.testing.assert_allclose(logits_of(tmp_path / "full", monkeypatch), plain, rtol=1e-4, atol=1e-5)


def assert_same(one: Checkpoint, other: Checkpoint, scales: float = 0.0) -> None:
    """Check that two checkpoints hold the same; scales within a relative error."""
    assert one.config.rope == other.config.rope
    np.testing.assert_array_equal(one.embedding().bits, other.embedding().bits)
    head, their_head = one.head(), other.head()
    assert (head is None) == (their_head is None)
    if head is not None and their_head is not None:
        np.testing.assert_array_equal(head.bits, their_head.bits)
    for layer in range(one.config.spec.layers):
        for name in NORMS:
            np.testing.assert_array_equal(one.norm(layer, name), other.norm(layer, name))
        for name in LINEARS:
            mine, theirs = one.linear(layer, name), other.linear(layer, name)
            np.testing.assert_array_equal(mine.bias, theirs.bias)
            np.testing.assert_array_equal(mine.norm, theirs.norm)
            if isinstance(mine.weights, Ternary):
                assert isinstance(theirs.weights, Ternary)
                np.testing.assert_array_equal(mine.weights.weights, theirs.weights.weights)
                np.testing.assert_allclose(mine.weights.scales, theirs.weights.scales, rtol=scales)
            else:
                assert isinstance(theirs.weights, Dense)
                np.testing.assert_array_equal(mine.weights.bits, theirs.weights.bits)


def test_a_packed_folder_read_again(make_model: Make, tmp_path: Path) -> None:
    checkpoint = quantized(open_checkpoint(saved(make_model("bitnet"), tmp_path / "source")))
    write_hugging_face(checkpoint, tmp_path / "packed")
    assert_same(checkpoint, open_checkpoint(tmp_path / "packed"))
    with safe_open(tmp_path / "packed" / "model.safetensors", "np") as file:  # the safetensors package reads it too
        assert file.get_slice("model.layers.0.mlp.down_proj.weight").get_shape() == [8, 48]
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []


GGUF_MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "llama", {"rope_parameters": LLAMA3 | {"rope_theta": 5e5, "factor": 8.0}, "head_dim": 128}),
    ("llama", "llama", {"attention_bias": True, "tie_word_embeddings": True}),
    ("mistral", "llama", {"sliding_window": None}),
    ("qwen2", "qwen2", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    ("qwen3", "qwen3", {"head_dim": 32}),
    ("bitnet", "bitnet", {"tie_word_embeddings": True}),
    ("bitnet", "bitnet", {"tie_word_embeddings": True, "hidden_act": "silu"}),
]


@pytest.mark.parametrize("kind", ["tq1_0", "tq2_0", "i2_s"])
@pytest.mark.parametrize(("family", "architecture", "changes"), GGUF_MODELS)
def test_gguf_read_again(
    make_model: Make, tmp_path: Path, kind: str, family: str, architecture: str, changes: dict[str, Any]
) -> None:
    model = make_model(family, **(WIDE | {"num_hidden_layers": 1} | changes))
    checkpoint = quantized(open_checkpoint(saved(model, tmp_path / "source")))
    file = tmp_path / "m.gguf"
    write_gguf(checkpoint, file, kind)
    again = open_checkpoint(file)
    assert_same(checkpoint, again, scales=1e-7 if kind == "i2_s" else 2**-11)
    assert again.config.spec.activation == checkpoint.config.spec.activation
    if kind == "i2_s":
        return
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == architecture
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    down = checkpoint.linear(0, "down").weights
    assert isinstance(down, Ternary)
    stored = tensors["blk.0.ffn_down.weight"]
    np.testing.assert_allclose(dequantize(stored.data, stored.tensor_type), down.dequantised(), rtol=2**-11)
    query = checkpoint.linear(0, "q").weights
    assert isinstance(query, Ternary)
    rows = query.dequantised()
    if architecture == "llama":  # the permutation of llama.cpp's own converter
        heads = WIDE["num_attention_heads"]
        rows = rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)
    stored = tensors["blk.0.attn_q.weight"]
    np.testing.assert_allclose(dequantize(stored.data, stored.tensor_type), rows, rtol=2**-11)


@pytest.mark.parametrize(("grain", "group"), [("row", None), ("group", 256)])
def test_gguf_with_more_scales(make_model: Make, tmp_path: Path, grain: str, group: int | None) -> None:
    checkpoint = quantized(open_checkpoint(saved(make_model("llama", **WIDE), tmp_path / "s")), grain, group)
    write_gguf(checkpoint, tmp_path / "m.gguf", "tq1_0", head="q8_0")
    again = open_checkpoint(tmp_path / "m.gguf")
    for name in LINEARS:
        mine, theirs = checkpoint.linear(1, name).weights, again.linear(1, name).weights
        assert isinstance(mine, Ternary)
        assert isinstance(theirs, Ternary)
        np.testing.assert_allclose(theirs.dequantised(), mine.dequantised(), rtol=2**-11)
    np.testing.assert_allclose(again.embedding().as_float32(), checkpoint.embedding().as_float32(), atol=0.01)
    with pytest.raises(BitsimError, match=r"blk\.0\.attn_q\.weight: i2_s: expected one scale a matrix, got"):
        write_gguf(checkpoint, tmp_path / "i.gguf", "i2_s")
    with pytest.raises(BitsimError, match=r"q_proj: expected one scale a matrix, as Hugging Face's packed form has no"):
        write_hugging_face(checkpoint, tmp_path / "packed")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["m.gguf", "s"]


def test_what_gguf_cannot_hold(make_model: Make, tmp_path: Path) -> None:
    narrow = quantized(open_checkpoint(saved(make_model("llama"), tmp_path / "narrow")))
    with pytest.raises(
        BitsimError, match=r"blk\.0\.attn_q\.weight: tq2_0: columns: expected a multiple of 256, got 32"
    ):
        write_gguf(narrow, tmp_path / "m.gguf")
    with pytest.raises(BitsimError, match="kind: expected one of tq1_0, tq2_0, i2_s, got 'tq3_0'; did you mean"):
        write_gguf(narrow, tmp_path / "m.gguf", "tq3_0")
    with pytest.raises(BitsimError, match="head: expected one of 16-bit, q8_0, got 'q2'"):
        write_gguf(narrow, tmp_path / "m.gguf", head="q2")
    with pytest.raises(BitsimError, match="No such file or directory"):
        write_gguf(narrow, tmp_path / "nowhere" / "m.gguf")
    separate = quantized(open_checkpoint(saved(make_model("bitnet"), tmp_path / "bitnet")))
    with pytest.raises(BitsimError, match="no separate head for models with sub-norms"):
        write_gguf(separate, tmp_path / "m.gguf")
    small = quantized(open_checkpoint(tmp_path / "narrow"), "group", 16)
    with pytest.raises(BitsimError, match="columns: expected a multiple of 256"):
        write_gguf(small, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_a_folder_that_is_taken(make_model: Make, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(saved(make_model("llama"), tmp_path / "source"))
    with pytest.raises(BitsimError, match="expected a name that is free, or an empty folder"):
        write_hugging_face(checkpoint, tmp_path / "source")
    (tmp_path / "empty").mkdir()
    write_hugging_face(checkpoint, tmp_path / "empty")
    assert_same(checkpoint, open_checkpoint(tmp_path / "empty"))
    with pytest.raises(BitsimError, match="No such file or directory"):
        write_hugging_face(checkpoint, tmp_path / "nowhere" / "f")
