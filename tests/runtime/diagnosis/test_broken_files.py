"""Files broken on purpose, each in one way: the doctor names that way, with numbers, and nothing else."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from refusals import refusal
from small_models import ONLINE, WIDE
from trained_model import change_config, change_tensors

from bitsim.energy_tables.tables import model_rows
from bitsim.runtime.checkpoints import (
    Checkpoint,
    Dense,
    Linear,
    open_checkpoint,
    quantized,
    write_gguf,
    write_hugging_face,
)
from bitsim.runtime.checkpoints.changed import Changed
from bitsim.runtime.checkpoints.gguf_names import halves, neighbours
from bitsim.runtime.checkpoints.stored import brain_bits
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.diagnosis import Finding, diagnose, known
from bitsim.runtime.packing import Ternary

BIASES: dict[str, Any] = WIDE | {"attention_bias": True}
THREE_LAYERS: dict[str, Any] = WIDE | {"num_hidden_layers": 3}
Copy = Callable[[], Path]
Tensors = dict[str, Any]


def grave(place: Path, **how: Any) -> list[Finding]:
    return [finding for finding in diagnose(place, **how).findings if finding.severity != "note"]


def only(place: Path, check: str, *said: str, **how: Any) -> Finding:
    """Check that there is one complaint, of this kind, and that it says this."""
    found = grave(place, **how)
    assert [finding.check for finding in found] == [check], found
    text = f"{found[0].what} {found[0].evidence} {found[0].mend}"
    assert all(words in text for words in said), text
    return found[0]


def packed(checkpoint: Checkpoint, place: Path) -> Path:
    write_hugging_face(checkpoint, place)
    return place


def scaled(checkpoint: Checkpoint, scale: Callable[[Ternary], Any]) -> Checkpoint:
    """Return a checkpoint with other scales."""

    def change(name: str, linear: Linear) -> Linear:
        assert isinstance(linear.weights, Ternary)
        scales = np.full((1, 1), scale(linear.weights), np.float32)
        return replace(linear, weights=Ternary(linear.weights.weights, scales))

    return Changed(checkpoint, change)


def brain(value: Any) -> Any:
    """Round to bfloat16, as scales are stored."""
    return Dense(brain_bits(np.atleast_1d(np.float32(value))), brain=True).as_float32()[0]


def nonzero(weights: Ternary) -> float:
    return float((weights.weights != 0).mean())


def test_scales_that_multiply_where_they_divide(trained: Path, tmp_path: Path) -> None:
    place = packed(open_checkpoint(trained), tmp_path / "packed")
    rule = json.loads((place / "config.json").read_text())["quantization_config"]
    change_config(place, quantization_config={key: value for key, value in rule.items() if key != "linear_class"})
    only(place, "scale-sense", "14 matrices", '"linear_class": "autobitlinear"')
    scales = [open_checkpoint(place).linear(layer, "up").weights for layer in range(2)]
    assert all(isinstance(each, Ternary) and each.scales[0, 0] > 5 for each in scales)


@pytest.mark.parametrize("form", ["i2_s", "full", "packed"])
def test_scales_turned_over_by_a_converter(trained: Path, tmp_path: Path, form: str) -> None:
    wrong = scaled(open_checkpoint(trained), lambda weights: 1 / weights.scales[0, 0])
    place = tmp_path / "m"
    if form == "packed":
        convert_to_packed(wrong, place)
    elif form == "i2_s":
        write_gguf(wrong, place, "i2_s")
    else:  # as bitnet.cpp's F16 files: three values in full numbers
        write_gguf(Changed(wrong, as_half), place)
    only(place, "scale-sense", "14 matrices", "convert the original again")


def as_half(name: str, linear: Linear) -> Linear:
    assert isinstance(linear.weights, Ternary)
    return replace(linear, weights=Dense(linear.weights.dequantised().astype(np.float16).view(np.uint16)))


def test_scales_near_one_turned_over(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in 2B4T's F16 export: 1.56 and 1/1.56 are both likely sizes, but one of them is a number of bfloat16."""
    original = open_checkpoint(trained)
    right = scaled(original, lambda weights: brain(1.2 + int(weights.weights.sum(dtype=np.int64)) % 97 / 137))
    write_gguf(Changed(right, as_half), tmp_path / "right.gguf")
    wrong = scaled(right, lambda weights: 1 / weights.scales[0, 0])
    write_gguf(wrong, tmp_path / "wrong.gguf", "i2_s")
    write_gguf(Changed(wrong, as_half), tmp_path / "wrong-half.gguf")
    assert grave(tmp_path / "right.gguf") == []
    assert grave(tmp_path / "wrong.gguf") == []  # right for a family whose scales divide
    assert "scale-sense" in [finding.check for finding in diagnose(tmp_path / "wrong.gguf").findings]
    spec = original.config.spec
    shape = {name: getattr(spec, name) for name in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")}
    row = model_rows()["bitnet-b1.58-2B-4T"]._replace(name="a known model", **shape)
    monkeypatch.setattr(known, "model_rows", lambda: {"a known model": row})
    assert grave(tmp_path / "right.gguf") == []
    for name in ("wrong", "wrong-half"):
        only(tmp_path / f"{name}.gguf", "scale-sense", "100% of 14", "a known model multiply")
    only(tmp_path / "wrong.gguf", "scale-sense", "one over it", against=tmp_path / "right.gguf")


def test_ternary_weights_made_ternary_again(trained: Path, tmp_path: Path) -> None:
    right = scaled(open_checkpoint(trained), lambda weights: brain(weights.scales[0, 0]))
    wrong = scaled(right, lambda weights: weights.scales[0, 0] * nonzero(weights))
    write_gguf(right, tmp_path / "right.gguf", "i2_s")
    write_gguf(wrong, tmp_path / "wrong.gguf", "i2_s")
    write_gguf(Changed(wrong, as_half), tmp_path / "half.gguf")
    assert grave(tmp_path / "right.gguf") == []
    for name in ("wrong", "half"):
        only(tmp_path / f"{name}.gguf", "requantised", "100% of 14 scales")
    only(tmp_path / "wrong.gguf", "requantised", "14, such as layer 0 q: 0.", against=tmp_path / "right.gguf")
    only(tmp_path / "wrong.gguf", "requantised", "nats each as it is", run=True)


def test_master_weights_that_are_ternary(trained_copy: Copy) -> None:
    place = trained_copy()

    def round_off(tensors: Tensors) -> None:
        for name in tensors:
            if "_proj" in name:
                scale = np.abs(tensors[name]).mean()
                tensors[name] = (np.clip(np.round(tensors[name] / scale), -1, 1) * scale).astype(np.float32)

    change_tensors(place, round_off)
    found = only(place, "requantised", "14 tensors: model.layers.0.", "three values, 0 and ±0.")
    weights = open_checkpoint(place).linear(0, "down").weights  # what it is used as
    assert isinstance(weights, Ternary)
    assert f"±{weights.scales[0, 0]:.4g}" in found.evidence


def test_another_activation(trained_copy: Copy, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = trained_copy()
    change_config(place, hidden_act="silu")
    assert grave(place) == []  # the weights do not tell
    only(place, "activation", "with relu2", '"hidden_act": "relu2"', run=True)
    only(place, "activation", "silu, reference: relu2", against=trained)
    spec = open_checkpoint(place).config.spec
    shape = {name: getattr(spec, name) for name in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")}
    row = model_rows()["bitnet-b1.58-2B-4T"]._replace(name="a known model", **shape)
    monkeypatch.setattr(known, "model_rows", lambda: {"a known model": row})
    only(place, "activation", "the shape is that of a known model", '"hidden_act": "relu2"')


def test_gguf_that_does_not_say_its_activation(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    checkpoint = open_checkpoint(trained)
    spec = replace(checkpoint.config.spec, activation="silu")  # the name that llama.cpp takes for SiLU alone
    write_gguf(Changed(checkpoint, config=replace(checkpoint.config, spec=spec)), file, "i2_s")
    content = file.read_bytes()
    file.write_bytes(content.replace(b"bitnet.hidden_activation", b"bitnet.hidden_activatiox"))
    assert {finding.check for finding in diagnose(file).findings if finding.severity == "note"} >= {"activation"}
    only(file, "activation", "with relu2", "hidden_activation", run=True)


def test_missing_sub_norms(trained_copy: Copy) -> None:
    place = trained_copy()
    change_tensors(place, lambda tensors: tensors.pop("model.layers.1.self_attn.attn_sub_norm.weight"))
    only(place, "missing-sub-norms", "attn_sub_norm in 1 of 2 layers, ffn_sub_norm in 2")
    change_tensors(place, lambda tensors: [tensors.pop(name) for name in list(tensors) if "sub_norm" in name])
    only(place, "missing-sub-norms", "attn_sub_norm in 0 of 2 layers, ffn_sub_norm in 0")


class WithoutSubNorms(Changed):
    """A model as a converter leaves it that does not know sub-norms."""

    def norm(self, layer: int, name: str) -> Any:
        return None if name.endswith("sub_norm") else super().norm(layer, name)


def test_gguf_without_sub_norms(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads, and nobody says a word."""
    original = open_checkpoint(trained)
    config = replace(original.config, spec=replace(original.config.spec, sub_norms=False))
    writer = sys.modules["bitsim.runtime.checkpoints.write_gguf"]
    monkeypatch.setattr(writer, "_architecture", lambda config, kind: "bitnet")
    write_gguf(WithoutSubNorms(original, config=config), tmp_path / "m.gguf", "i2_s")
    assert not open_checkpoint(tmp_path / "m.gguf").config.spec.sub_norms
    only(tmp_path / "m.gguf", "missing-sub-norms", "'bitnet': attn_sub_norm in 0 of 2 layers")


def test_sub_norms_that_nobody_reads(trained_copy: Copy) -> None:
    place = trained_copy()
    change_config(place, model_type="llama", hidden_act="silu")
    only(place, "unread-sub-norms", "4 tensors", "says 'llama'")


def test_biases_that_nobody_reads(tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama", **BIASES)
    change_config(place, attention_bias=False)
    only(place, "unread-tensors", "8 tensors: model.layers.0.self_attn.k_proj.bias")


@pytest.mark.parametrize("moved", [halves, neighbours])
def test_rows_of_a_small_model_in_another_order(trained: Path, tmp_path: Path, moved: Any) -> None:
    """Two layers of four heads do not tell from their weights alone: a run does, and the reference."""

    def change(name: str, linear: Linear) -> Linear:
        assert isinstance(linear.weights, Ternary)
        heads = {"q": 4, "k": 2}.get(name)
        if heads is None:
            return linear
        return replace(linear, weights=Ternary(moved(linear.weights.weights, heads), linear.weights.scales))

    place = packed(Changed(open_checkpoint(trained), change), tmp_path / "m")
    assert [finding.check for finding in diagnose(place).findings] == ["chat-template", "rotary-order"]
    only(place, "rotary-order", "nats each as it is", run=True)
    only(place, "rotary-order", "4, such as layer 0 q", against=trained)


def test_a_model_without_sense(tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama", ONLINE, max_position_embeddings=256)
    only(place, "no-language", "all 300 tokens equally likely: 5.704", run=True)


def test_numbers_that_grow_too_large(trained_copy: Copy) -> None:
    place = trained_copy()
    change_tensors(place, lambda tensors: tensors["model.norm.weight"].fill(3e38))
    only(place, "run", "no finite numbers", run=True)


def test_scales_near_the_end_of_all_numbers(trained: Path, tmp_path: Path) -> None:
    """What is tried with them overflows, which is no reason to fail."""
    place = packed(scaled(open_checkpoint(trained), lambda weights: 3e38), tmp_path / "m")
    assert not diagnose(place, run=True).sound


def test_texts(trained_copy: Copy, trained: Path) -> None:
    place = trained_copy()
    (place / "chat_template.jinja").write_text("{{ messages }}")
    assert [finding.check for finding in diagnose(place, run=True).findings] == []
    only(trained, "chat-template", "is missing", against=place)
    change_config(place, eos_token_id=None)
    (place / "generation_config.json").unlink()
    only(place, "end-of-text", "no token ends an answer")
    only(place, "end-of-text", "reference: [257]", against=trained)
    (place / "tokenizer.json").unlink()
    only(place, "tokenizer", "no tokenizer.json")
    assert any("was not run" in finding.what for finding in diagnose(place, run=True).findings)
    (place / "tokenizer.json").write_text("{}")
    assert [finding.check for finding in grave(place)] == ["tokenizer"]


def test_a_chat_model_without_its_template(trained: Path, tmp_path: Path) -> None:
    place = tmp_path / "Model-2B-Instruct"
    shutil.copytree(trained, place)
    only(place, "chat-template", "Model-2B-Instruct")


def test_the_tokenizer_of_another_model(tmp_path: Path) -> None:
    few = small_models.folder(tmp_path / "few", "llama", vocab_size=1200)
    only(few, "tokenizer", "266 tokens, 1,200 rows")
    many = small_models.folder(tmp_path / "many", "llama", vocab_size=200)
    only(many, "tokenizer", "expected tokens below 200")


def test_illegal_codes(trained: Path, tmp_path: Path) -> None:
    place = packed(open_checkpoint(trained), tmp_path / "m")

    def spoil(tensors: Tensors) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5:8] |= 0b11

    change_tensors(place, spoil)
    found = {finding.check: finding for finding in grave(place)}
    assert set(found) == {"illegal-codes"}
    assert found["illegal-codes"].evidence == "3 or more, in 1 tensor: model.layers.1.mlp.up_proj.weight"


def test_codes_with_a_wrong_offset(trained: Path, tmp_path: Path) -> None:
    place = packed(open_checkpoint(trained), tmp_path / "m")

    def shift(tensors: Tensors) -> None:  # 0, 1 and 2 stand for 0, -1 and 1 instead
        for name, tensor in tensors.items():
            if tensor.dtype == np.uint8:
                fields = [(tensor >> place) & 3 for place in (0, 2, 4, 6)]
                tensors[name] = sum(np.minimum(field, 1) << (2 * i) for i, field in enumerate(fields)).astype(np.uint8)

    change_tensors(place, shift)
    only(place, "lopsided-codes", "14 tensors")


def test_numbers_that_are_none_and_zeros(trained_copy: Copy) -> None:
    place = trained_copy()
    change_tensors(place, lambda tensors: tensors["model.norm.weight"].__setitem__(3, np.nan))
    only(place, "not-finite", "1 tensor: model.norm.weight")
    change_tensors(place, lambda tensors: tensors["model.norm.weight"].__setitem__(3, 1))
    assert grave(place) == []
    checkpoint = open_checkpoint(place)
    bits = checkpoint.embedding().bits.copy()
    bits[7, 3] = 0x7C00  # infinity in half precision
    spoilt = Changed(checkpoint)
    spoilt.embedding = lambda: Dense(bits)  # type: ignore[method-assign]
    convert_to_packed(spoilt, place.parent / "m.safetensors")
    only(place.parent / "m.safetensors", "not-finite", "1 tensor: embedding")
    place = packed(checkpoint, place.parent / "zeros")
    change_tensors(place, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"].__setitem__((), 0b01010101))
    only(place, "zero-matrix", "model.layers.0.mlp.up_proj.weight")


def test_heads(trained_copy: Copy, tmp_path: Path) -> None:
    place = trained_copy()
    change_config(place, tie_word_embeddings=False)
    found = {finding.check for finding in grave(place)}
    assert found == {"head"}
    change_config(place, tie_word_embeddings=True)
    change_tensors(place, lambda ts: ts.__setitem__("lm_head.weight", ts["model.embed_tokens.weight"] + 0))
    assert grave(place) == []  # a copy
    change_tensors(place, lambda tensors: tensors["lm_head.weight"].__setitem__((5, 5), 9))
    only(place, "head", '"tie_word_embeddings": false')


def test_a_configuration_that_was_stripped(trained: Path, tmp_path: Path) -> None:
    place = packed(open_checkpoint(trained), tmp_path / "m")
    change_config(place, quantization_config=None)
    only(place, "quantization-config", "14 packed tensors")


@pytest.mark.parametrize("scale", [0.0, -0.04])
def test_scales_of_zero_and_below(trained: Path, tmp_path: Path, scale: float) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(scaled(open_checkpoint(trained), lambda weights: scale), file, "i2_s")
    only(file, "scale-sign", "14 matrices, such as layer 0 q")
    assert len(grave(file, against=trained)) == 2


def test_a_scale_out_of_line(tmp_path: Path) -> None:
    full = small_models.folder(tmp_path / "full", "llama", **THREE_LAYERS)
    place = packed(quantized(open_checkpoint(full)), tmp_path / "m")
    change_tensors(place, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight_scale"].__imul__(50))
    only(place, "scale-out-of-line", "layer 1: ", "the median of 3 layers")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"GGUF\x03\0\0\0", "truncated, or damaged"),
        (b"hello world", "expected a Hugging Face folder, a GGUF file"),
        (b"\xff\0\0\0\0\0\0\0{", "truncated, or not a safetensors file"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "m"
    file.write_bytes(content)
    assert said in (refusal(lambda: diagnose(file)) or "")
    assert "config.json" in (refusal(lambda: diagnose(tmp_path)) or "")
    assert "expected a file" in (refusal(lambda: diagnose(tmp_path / "none")) or "")


def test_weights_alone_and_a_wrong_reference(trained: Path, tmp_path: Path) -> None:
    assert "without their config.json" in (refusal(lambda: diagnose(trained / "model.safetensors")) or "")
    other = small_models.folder(tmp_path / "other", "llama")
    shapes = {finding.check for finding in grave(trained, against=other)}
    assert "shape" in shapes
    assert refusal(lambda: diagnose(trained, against=tmp_path / "none")) is not None
