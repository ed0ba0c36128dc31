"""What lies in a file, beside slow counts of the same."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from refusals import refusal
from small_models import ONLINE, WIDE
from trained_model import change_config, change_tensors

from bitsim.runtime.checkpoints import (
    LINEARS,
    NORMS,
    Checkpoint,
    open_checkpoint,
    quantized,
    write_gguf,
    write_hugging_face,
)
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.diagnosis import Contents, class_rows, read_contents, tensor_rows
from bitsim.runtime.packing import Ternary


def slow(checkpoint: Checkpoint, name: str) -> tuple[int, list[int], float, float]:
    """Return of a class of matrices the weights, how many are -1, 0 and 1, and the range of scales."""
    counts, weights, scales = [0, 0, 0], 0, []
    for layer in range(checkpoint.config.spec.layers):
        matrix = checkpoint.linear(layer, name).weights
        assert isinstance(matrix, Ternary)
        weights += matrix.weights.size
        for i, code in enumerate((-1, 0, 1)):
            counts[i] += int((matrix.weights == code).sum())
        scales += matrix.scales.reshape(-1).tolist()
    return weights, counts, min(scales), max(scales)


@pytest.fixture(scope="module")
def ternary(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    changes: dict[str, Any] = WIDE | {"tie_word_embeddings": True, "attention_bias": True}
    return quantized(open_checkpoint(small_models.folder(tmp_path_factory.mktemp("m"), "bitnet", **changes)))


KINDS = {"hf": "2-bit", "packed": None, "tq1_0": "TQ1_0", "tq2_0": "TQ2_0", "i2_s": "I2_S"}
BITS = {"hf": 2.0, "tq1_0": 54 * 8 / 256, "tq2_0": 66 * 8 / 256, "i2_s": 2.0}


@pytest.mark.parametrize("form", KINDS)
def test_counts(ternary: Checkpoint, form: str, tmp_path: Path) -> None:
    place = tmp_path / "m"
    if form == "hf":
        write_hugging_face(ternary, place)
    elif form == "packed":
        convert_to_packed(ternary, place)
    else:
        write_gguf(ternary, place, form)
    contents = read_contents(place)
    rows = {row.tensor_class: row for row in class_rows(contents)}
    checkpoint = open_checkpoint(place)
    for name in LINEARS:
        weights, counts, low, high = slow(checkpoint, name)
        row = rows[name]
        assert (row.tensors, row.weights) == (2, weights)
        assert row.zero_fraction == pytest.approx(counts[1] / weights)
        shares = [count / weights for count in counts]
        assert row.entropy == pytest.approx(-sum(share * math.log2(share) for share in shares))
        assert (row.scale_low, row.scale_high) == pytest.approx((low, high), rel=1e-6)
        assert row.bits_per_weight == pytest.approx(8 * row.bytes / weights)
        assert KINDS[form] in (None, row.formats)
        assert row.bits_per_weight == pytest.approx(BITS.get(form, 2.3), abs=0.01 if form in BITS else 0.6)
    spec = checkpoint.config.spec
    assert rows["embedding"].weights == spec.vocab * spec.hidden
    assert rows["embedding"].zero_fraction is None
    assert rows["all"].weights == spec.parameters
    norms = [checkpoint.norm(layer, name) for layer in range(spec.layers) for name in NORMS]
    assert rows["norm"].weights == sum(len(norm) for norm in norms if norm is not None) + spec.hidden
    size = place.stat().st_size if place.is_file() else (place / "model.safetensors").stat().st_size
    assert contents.bytes == size
    assert size - 60_000 < rows["all"].bytes < size  # but for a header, and a tokenizer
    each = tensor_rows(contents)
    assert sum(row.weights for row in each) == spec.parameters
    assert sum(row.bytes for row in each) == rows["all"].bytes


def test_rows_that_are_no_multiple_of_four(tmp_path: Path) -> None:
    """Hugging Face's bytes hold rows that are not there as zeros, which must not count as -1."""
    from safetensors.numpy import save_file

    from bitsim.runtime.packing import CODECS

    place = small_models.folder(tmp_path / "m", "llama", ONLINE, intermediate_size=46)
    source = open_checkpoint(place)

    def pack(tensors: dict[str, Any]) -> None:
        for layer in range(2):
            for name, module in zip(LINEARS, ("q_proj", "k_proj", "v_proj", "o_proj", *MLP), strict=True):
                prefix = f"model.layers.{layer}.{'mlp' if module in MLP else 'self_attn'}.{module}"
                matrix = source.linear(layer, name).weights
                assert isinstance(matrix, Ternary)
                tensors[f"{prefix}.weight"] = CODECS["hf"].pack(matrix.weights)
                tensors[f"{prefix}.weight_scale"] = matrix.scales.reshape(1)

    weights = {name: np.copy(tensor) for name, tensor in small_tensors(place).items()}
    pack(weights)
    save_file(weights, place / "model.safetensors")
    change_config(place, quantization_config={"quant_method": "bitnet", "linear_class": "autobitlinear"})
    rows = {row.tensor_class: row for row in class_rows(read_contents(place))}
    count, counts, _, _ = slow(source, "up")
    assert rows["up"].weights == count == 2 * 46 * 32
    assert rows["up"].zero_fraction == pytest.approx(counts[1] / count)
    assert rows["up"].entropy == pytest.approx(-sum(n / count * math.log2(n / count) for n in counts))


MLP = ("gate_proj", "up_proj", "down_proj")


def small_tensors(place: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(place / "model.safetensors"))


def test_full_numbers(tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "qwen2", tie_word_embeddings=False)
    rows = {row.tensor_class: row for row in class_rows(read_contents(place))}
    assert [rows[name].formats for name in ("embedding", "head", "q", "norm", "bias")] == ["F32"] * 5
    assert all(row.bits_per_weight == 32 and row.zero_fraction is None for row in rows.values())
    assert rows["all"].weights == open_checkpoint(place).config.spec.parameters


def test_three_values_in_full_numbers_are_ternary(tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama")

    def round_off(tensors: dict[str, Any]) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] = np.where(np.arange(tensors[name].size).reshape(tensors[name].shape) % 2, 0, 0.25).astype("f4")
        tensors[name][::2] *= -1

    change_tensors(place, round_off)
    rows = {row.name: row for row in tensor_rows(read_contents(place))}
    row = rows["model.layers.0.mlp.up_proj.weight"]
    assert (row.zero_fraction, row.entropy, row.scale_low, row.scale_high) == (0.5, 1.5, 0.25, 0.25)
    assert rows["model.layers.1.mlp.up_proj.weight"].zero_fraction is None


def test_a_safetensors_file_alone(tmp_path: Path, ternary: Checkpoint) -> None:
    write_hugging_face(ternary, tmp_path / "m")
    folder, file = read_contents(tmp_path / "m"), read_contents(tmp_path / "m" / "model.safetensors")
    assert (file.form, file.config, file.text) == ("safetensors", None, None)
    assert class_rows(file) == class_rows(folder)


def test_a_model_that_does_not_run(tmp_path: Path) -> None:
    """The tensors are shown all the same, and why it does not run."""
    place = small_models.folder(tmp_path / "m", "llama")
    change_config(place, model_type="gemma3_text", hidden_act="gelu_pytorch_tanh")
    contents: Contents = read_contents(place)
    assert contents.checkpoint is None
    assert "model_type: expected one of" in contents.refusals["config"]
    assert {row.tensor_class for row in class_rows(contents)} == {"embedding", "head", *LINEARS, "norm", "all"}


@pytest.mark.parametrize("content", [b"", b"GG", b"GGUF", b"some text", b"\x08\0\0\0\0\0\0\0{"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m"
    file.write_bytes(content)
    assert str(file) in (refusal(lambda: read_contents(file)) or "")


def test_a_file_cut_anywhere(tmp_path: Path, ternary: Checkpoint) -> None:
    write_gguf(ternary, tmp_path / "whole", "i2_s")
    content = (tmp_path / "whole").read_bytes()
    for end in np.linspace(1, len(content) - 1, 25).astype(int):
        (tmp_path / "cut").write_bytes(content[:end])
        assert refusal(lambda: read_contents(tmp_path / "cut")) is not None
