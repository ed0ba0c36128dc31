"""Writes a GGUF file that llama.cpp runs (TQ1_0, TQ2_0) or bitnet.cpp (I2_S)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion

from ..model.config import ModelConfig
from ..packing import CODECS, Ternary
from ..packing.codec import Bytes, Weights
from ..whole import whole_file
from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Linear
from .gguf_file import I2_S, Value
from .gguf_names import INTERLEAVED, LINEAR, NORM, neighbours
from .gguf_stream import GgufStream
from .rope import attention_factor, llama3_divisors
from .stored import HALF_MAX
from .write_gguf_tokenizer import tokenizer_metadata

KINDS = {"tq1_0": (GGMLQuantizationType.TQ1_0, 36), "tq2_0": (GGMLQuantizationType.TQ2_0, 37), "i2_s": (I2_S, 40)}
HEADS = ("16-bit", "q8_0")
_BLOCK = 256  # weights that share a scale in TQ1_0 and TQ2_0
_PART = 2**20  # numbers quantised at once


def write_gguf(checkpoint: Checkpoint, file: str | Path, kind: str = "tq2_0", head: str = "16-bit") -> None:
    """Write a model as a GGUF file, under the names of llama.cpp's architecture that fits it.

    Sub-norms make it `bitnet` (for I2_S with squared ReLU `bitnet-b1.58`, as bitnet.cpp calls it), others `llama`,
    `qwen2` or `qwen3`. Linear matrices that are not ternary keep their 16 bits. The file appears when it is complete
    and replaces one of its name. Scales of TQ1_0 and TQ2_0 are rounded to half precision, which is all they hold.
    What llama.cpp does not do: Mistral's sliding window, beyond which its answers differ; and, at the time of writing,
    squared ReLU for models with sub-norms. The file says `hidden_activation`, but it computes SiLU.

    Args:
        checkpoint: any model.
        file: where to.
        kind: of ternary matrices: "tq1_0" (1.69 bits a weight), "tq2_0" (2.06) or "i2_s" (2, for bitnet.cpp on x86).
        head: of embedding and head: "16-bit", as they are, or "q8_0".

    Raises:
        BitsimError: another kind, a place that can't be written to, or a model that the format cannot hold; the
            tensor is named.
    """
    for value, known, name in ((kind, tuple(KINDS), "kind"), (head, HEADS, "head")):
        if value not in known:
            near = suggestion(value, known)
            raise BitsimError(f"{name}: expected one of {', '.join(known)}, got '{shown(value)}'{near}")
    architecture = _architecture(checkpoint.config, kind)
    metadata = _metadata(checkpoint, architecture) | {"general.file_type": KINDS[kind][1]}
    metadata |= tokenizer_metadata(checkpoint.text, checkpoint.config.spec.vocab)
    with whole_file(Path(file)) as place, place.open("wb") as output:
        stream = GgufStream(output, metadata, _names(checkpoint.config))
        for name, type_, shape, data in _tensors(checkpoint, architecture, kind, head):
            stream.add(name, type_, shape, data)
        stream.finish()


Tensor = tuple[str, int, tuple[int, ...], npt.NDArray[np.generic]]  # name, type, shape (rows first), bytes


def _architecture(config: ModelConfig, kind: str) -> str:
    spec = config.spec
    if not spec.sub_norms:
        return "qwen3" if spec.qk_norm else "qwen2" if spec.qkv_bias and not spec.output_bias else "llama"
    if not spec.tied_head:
        raise BitsimError(f"{spec.name}: llama.cpp has no separate head for models with sub-norms")
    if config.rope.scaling == "llama3":
        raise BitsimError(f"{spec.name}: llama.cpp has no llama3 scaling for models with sub-norms")
    return "bitnet-b1.58" if kind == "i2_s" and spec.activation == "relu2" else "bitnet"


def _metadata(checkpoint: Checkpoint, architecture: str) -> dict[str, Value]:
    spec, rope = checkpoint.config.spec, checkpoint.config.rope
    own: dict[str, Value] = {
        "block_count": spec.layers,
        "context_length": spec.max_context or 2048,
        "embedding_length": spec.hidden,
        "feed_forward_length": spec.ffn,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": checkpoint.config.norm_eps,
        "rope.dimension_count": spec.head_dim,
        "rope.freq_base": rope.theta,
        "vocab_size": spec.vocab,
        "hidden_activation": spec.activation,
    }
    if rope.scaling in ("linear", "yarn"):
        own |= {"rope.scaling.type": rope.scaling, "rope.scaling.factor": rope.factor}
    if rope.scaling == "yarn":
        own |= {
            "rope.scaling.original_context_length": rope.original_context,
            "rope.scaling.yarn_beta_fast": rope.beta_fast,
            "rope.scaling.yarn_beta_slow": rope.beta_slow,
            "rope.scaling.attn_factor": rope.attention_factor / attention_factor(rope.factor),
        }
    general: dict[str, Value] = {
        "general.architecture": architecture,
        "general.name": spec.name,
        "general.quantization_version": 2,
    }
    return general | {f"{architecture}.{key}": value for key, value in own.items()}


def _names(config: ModelConfig) -> list[tuple[str, int]]:
    """Return names and numbers of dimensions of all tensors, in the order of `_tensors`."""
    spec = config.spec
    names = [("token_embd.weight", 2)] + [("output.weight", 2)] * (not spec.tied_head) + [("output_norm.weight", 1)]
    names += [("rope_freqs.weight", 1)] * (config.rope.scaling == "llama3")
    absent = [] if spec.sub_norms else ["attention_sub_norm", "ffn_sub_norm"]
    absent += [] if spec.qk_norm else ["q_norm", "k_norm"]
    for layer in range(spec.layers):
        names += [(f"blk.{layer}.{NORM[name]}.weight", 1) for name in NORMS if name not in absent]
        for name in LINEARS:
            names.append((f"blk.{layer}.{LINEAR[name]}.weight", 2))
            if spec.output_bias if name == "o" else spec.qkv_bias and name in "qkv":
                names.append((f"blk.{layer}.{LINEAR[name]}.bias", 1))
    return names


def _tensors(checkpoint: Checkpoint, architecture: str, kind: str, head: str) -> Iterator[Tensor]:
    spec = checkpoint.config.spec
    yield _vocabulary("token_embd.weight", checkpoint.embedding(), head)
    separate = checkpoint.head()
    if separate is not None:
        yield _vocabulary("output.weight", separate, head)
    yield _vector("output_norm.weight", checkpoint.output_norm())
    if checkpoint.config.rope.scaling == "llama3":
        yield _vector("rope_freqs.weight", llama3_divisors(checkpoint.config.rope, spec.head_dim))
    for layer in range(spec.layers):
        for name in NORMS:
            norm = checkpoint.norm(layer, name)
            if norm is not None:
                yield _vector(f"blk.{layer}.{NORM[name]}.weight", norm)
        for name in LINEARS:
            linear = checkpoint.linear(layer, name)
            if architecture in INTERLEAVED and name in "qk":
                linear = _in_neighbours(linear, spec.heads if name == "q" else spec.kv_heads)
            yield from _linear(f"blk.{layer}.{LINEAR[name]}", linear, kind)


def _linear(module: str, linear: Linear, kind: str) -> Iterator[Tensor]:
    if linear.norm is not None:
        raise BitsimError(f"{module}: GGUF has no place for a norm inside of a linear layer")
    name = f"{module}.weight"
    if isinstance(linear.weights, Dense):
        yield _full(name, linear.weights)
    else:
        yield name, int(KINDS[kind][0]), linear.weights.weights.shape, _packed(name, linear.weights, kind)
    if linear.bias is not None:
        yield _vector(f"{module}.bias", linear.bias)


def _vector(name: str, values: npt.NDArray[np.float32]) -> Tensor:
    return name, int(GGMLQuantizationType.F32), values.shape, values


def _full(name: str, dense: Dense) -> Tensor:
    kind = GGMLQuantizationType.BF16 if dense.brain else GGMLQuantizationType.F16
    return name, int(kind), dense.bits.shape, dense.bits


def _vocabulary(name: str, dense: Dense, head: str) -> Tensor:
    """Return embedding or head, as it is or in blocks of 8 bits."""
    if head != "q8_0":
        return _full(name, dense)
    rows, columns = dense.bits.shape
    if columns % 32:
        raise BitsimError(f"{name}: q8_0: columns: expected a multiple of 32, got {columns:,}")
    step = max(1, _PART // columns)
    parts = [
        quantize(Dense(dense.bits[start : start + step], dense.brain).as_float32(), GGMLQuantizationType.Q8_0)
        for start in range(0, rows, step)
    ]
    return name, int(GGMLQuantizationType.Q8_0), (rows, columns), np.concatenate(parts)


def _packed(name: str, ternary: Ternary, kind: str) -> Bytes:
    codec, scales = CODECS[kind], ternary.scales
    if kind == "i2_s":
        if scales.size != 1:
            raise BitsimError(f"{name}: i2_s: expected one scale a matrix, got {scales.size:,}")
        return _named(name, codec.pack, ternary, float(scales[0, 0]))
    packed = _named(name, codec.pack, ternary, 1.0)
    rows, columns = ternary.weights.shape
    blocks = columns // _BLOCK
    if scales.shape[1] > 1 and (columns // scales.shape[1]) % _BLOCK:
        got = columns // scales.shape[1]
        raise BitsimError(f"{name}: {kind}: columns that share a scale: expected a multiple of {_BLOCK}, got {got}")
    if scales.max() > HALF_MAX:
        raise BitsimError(f"{name}: {kind}: scales: expected at most {HALF_MAX:g}, got {scales.max():g}")
    each = np.broadcast_to(np.repeat(scales, blocks // scales.shape[1], axis=1), (rows, blocks)).astype("<f2")
    packed.reshape(rows, blocks, -1)[:, :, -2:] = np.ascontiguousarray(each).view(np.uint8).reshape(rows, blocks, 2)
    return packed


def _named(name: str, pack: Callable[[Weights, float], Bytes], ternary: Ternary, scale: float) -> Bytes:
    """Pack, with the tensor's name in what is refused."""
    try:
        return pack(ternary.weights, scale)
    except BitsimError as error:
        raise BitsimError(f"{name}: {error}") from error


def _in_neighbours(linear: Linear, heads: int) -> Linear:
    bias = None if linear.bias is None else neighbours(linear.bias, heads)
    weights = linear.weights
    if isinstance(weights, Dense):
        return replace(linear, weights=Dense(neighbours(weights.bits, heads), weights.brain), bias=bias)
    scales = neighbours(weights.scales, heads) if len(weights.scales) > 1 else weights.scales
    return replace(linear, weights=Ternary(neighbours(weights.weights, heads), scales), bias=bias)
