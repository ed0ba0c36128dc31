"""Writes a Hugging Face folder that transformers loads: ternary matrices packed in bytes, the rest in 16 bits."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from bitsim.energy_tables import BitsimError

from ..model.config import ModelConfig, Rope, TextRules
from ..packing import CODECS, Ternary
from ..whole import whole_folder
from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Linear
from .hugging_face import LINEAR_NAMES, NORM_NAMES
from .stored import brain_bits
from .write_safetensors import SafetensorsWriter

_CLASSES = {
    "bitnet": "BitNetForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_FORMATS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
Numbers = Dense | npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Tensor = tuple[str, Numbers]


@dataclass(slots=True)
class _Seen:
    """What the linear layers turn out to be while they are written."""

    full: list[str]  # names of those that are not ternary
    inner_norms: set[float | None]  # epsilons of the norms inside of ternary layers, None for no norm


def write_hugging_face(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write a model as transformers has it: its class, `quantization_config` of BitNet, packed weights, tokenizer.

    The folder appears when it is complete. Scales multiply (`autobitlinear`). transformers wants one number format for
    everything that is not packed: it is that of the embedding where it holds every number as it is, else float32. The
    tokenizer and the chat template are those of the checkpoint.

    Args:
        checkpoint: any model.
        folder: a name that is free, or an empty folder.

    Raises:
        BitsimError: the folder can't be written to, or transformers has no place for the model: several scales in a
            matrix, rows that are no multiple of 4, or norms that no class of it has together.
    """
    family = _family(checkpoint.config)
    with whole_folder(Path(folder)) as place:
        seen, dtype = _Seen([], set()), _dtype(checkpoint)
        layers = checkpoint.config.spec.layers
        with (place / "model.safetensors").open("wb") as file:
            # A linear layer has at most a matrix, a scale, a bias and a norm.
            writer = SafetensorsWriter(file, 3 + layers * (4 * len(LINEARS) + len(NORMS)), {"format": "pt"})
            for name, numbers in _tensors(checkpoint, seen):
                writer.add(name, *_formatted(numbers, dtype))
            writer.finish()
        config = _config(checkpoint, family, dtype)
        config |= _quantisation(seen, checkpoint.config.spec.layers * len(LINEARS))
        _write_json(place / "config.json", config)
        _write_text_rules(place, checkpoint.text)


def _tensors(checkpoint: Checkpoint, seen: _Seen) -> Iterator[Tensor]:
    yield "model.embed_tokens.weight", checkpoint.embedding()
    head = checkpoint.head()
    if head is not None:
        yield "lm_head.weight", head
    yield "model.norm.weight", checkpoint.output_norm()
    for layer in range(checkpoint.config.spec.layers):
        for name in NORMS:
            norm = checkpoint.norm(layer, name)
            if norm is not None:
                yield f"model.layers.{layer}.{NORM_NAMES[name][0]}.weight", norm
        for name in LINEARS:
            yield from _linear(f"model.layers.{layer}.{LINEAR_NAMES[name]}", checkpoint.linear(layer, name), seen)


def _linear(module: str, linear: Linear, seen: _Seen) -> Iterator[Tensor]:
    bias = linear.bias
    if isinstance(linear.weights, Dense):
        seen.full.append(module)
        yield f"{module}.weight", linear.weights
        if bias is not None:
            yield f"{module}.bias", bias
        return
    yield f"{module}.weight", _packed(module, linear.weights)
    scale = linear.weights.scales.reshape(1)
    yield f"{module}.weight_scale", scale
    if bias is not None:
        yield f"{module}.bias", bias / scale  # AutoBitLinear adds it before it multiplies
    seen.inner_norms.add(None if linear.norm is None else linear.norm_eps)
    if linear.norm is not None:
        yield f"{module}.rms_norm.weight", linear.norm


def _dtype(checkpoint: Checkpoint) -> str:
    """Return the embedding's number format if it holds all numbers as they are, else float32."""
    dtype = "bfloat16" if checkpoint.embedding().brain else "float16"
    held = all(_holds(dtype, numbers) for _, numbers in _tensors(checkpoint, _Seen([], set())))
    return dtype if held else "float32"


def _holds(dtype: str, numbers: Numbers) -> bool:
    if isinstance(numbers, Dense):
        return numbers.brain == (dtype == "bfloat16")
    if numbers.dtype == np.uint8:
        return True
    rounded = Dense(_formatted(numbers, dtype)[1].view(np.uint16), dtype == "bfloat16").as_float32()
    return bool((rounded == numbers).all())


def _formatted(numbers: Numbers, dtype: str) -> tuple[str, npt.NDArray[np.generic]]:
    """Return the name that safetensors has for a number format, and the numbers in it; packed bytes as they are."""
    if not isinstance(numbers, Dense) and numbers.dtype == np.uint8:
        return "U8", numbers
    if isinstance(numbers, Dense) and dtype != "float32":
        return _FORMATS[dtype], numbers.bits
    full = numbers.as_float32() if isinstance(numbers, Dense) else numbers.astype(np.float32)
    if dtype == "bfloat16":
        return "BF16", brain_bits(full)
    with np.errstate(over="ignore"):  # what half precision does not hold is written in float32
        return _FORMATS[dtype], full.astype(dtype)


def _packed(module: str, ternary: Ternary) -> npt.NDArray[np.uint8]:
    if ternary.scales.size != 1:
        got = f"got {ternary.scales.size:,}"
        raise BitsimError(f"{module}: expected one scale a matrix, as Hugging Face's packed form has no more, {got}")
    if len(ternary.weights) % 4:
        raise BitsimError(f"{module}: rows: expected a multiple of 4 for packing, got {len(ternary.weights):,}")
    return CODECS["hf"].pack(ternary.weights)


def _family(config: ModelConfig) -> str:
    """Return the family of transformers that has this model's norms and biases."""
    spec = config.spec
    bias = {(False, False): "none", (True, True): "all", (True, False): "qkv"}.get((spec.qkv_bias, spec.output_bias))
    if spec.sub_norms:
        family = "bitnet" if bias != "qkv" and spec.query_width == spec.hidden else None
    elif config.sliding_window and not spec.qk_norm and bias == "none":
        family = "mistral"
    else:
        family = "qwen2" if bias == "qkv" else "qwen3" if spec.qk_norm else "llama"
    has_window = family in ("mistral", "qwen2", "qwen3")
    if (
        family is None
        or bias is None
        or spec.qk_norm != (family == "qwen3")
        or (config.sliding_window and not has_window)
    ):
        raise BitsimError(
            f"{spec.name}: no class of transformers has this model's sub-norms, norms of heads, biases and sliding"
            " window together"
        )
    return family


def _config(checkpoint: Checkpoint, family: str, dtype: str) -> dict[str, Any]:
    model, spec, text = checkpoint.config, checkpoint.config.spec, checkpoint.text
    config: dict[str, Any] = {
        "architectures": [_CLASSES[family]],
        "model_type": family,
        "torch_dtype": dtype,
        "vocab_size": spec.vocab,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": spec.activation,
        "max_position_embeddings": spec.max_context or 2048,
        "rms_norm_eps": model.norm_eps,
        "attention_bias": spec.output_bias,
        "tie_word_embeddings": spec.tied_head,
        "bos_token_id": text.bos,
        "eos_token_id": list(text.eos) or None,
        "rope_theta": model.rope.theta,
        "rope_scaling": _scaling(model.rope),
    }
    if family == "mistral":
        config["sliding_window"] = model.sliding_window
    elif model.sliding_window:
        window = {
            "use_sliding_window": True,
            "max_window_layers": 0,
            "layer_types": ["sliding_attention"] * spec.layers,
        }
        config |= {"sliding_window": model.sliding_window} | window
    return config


def _scaling(rope: Rope) -> dict[str, Any] | None:
    """Return the scaling under the keys that transformers 4 and 5 both read."""
    if rope.scaling == "none":
        return None
    scaling = {"rope_type": rope.scaling, "type": rope.scaling, "factor": rope.factor}
    if rope.scaling == "linear":
        return scaling
    scaling["original_max_position_embeddings"] = rope.original_context
    if rope.scaling == "llama3":
        return scaling | {"low_freq_factor": rope.low_frequency, "high_freq_factor": rope.high_frequency}
    turns = {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow}
    return scaling | turns | {"attention_factor": rope.attention_factor}


def _quantisation(seen: _Seen, linears: int) -> dict[str, Any]:
    """Return quantization_config; nothing where all matrices are full numbers."""
    if len(seen.full) == linears:
        return {}
    if len(seen.inner_norms) != 1:
        raise BitsimError("expected a norm of the same epsilon inside of all ternary layers, or of none; got a mixture")
    (epsilon,) = seen.inner_norms
    norm = {} if epsilon is None else {"use_rms_norm": True, "rms_norm_eps": epsilon}
    return {
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
            "modules_to_not_convert": ["lm_head", *seen.full],
        }
        | norm
    }


def _write_text_rules(place: Path, text: TextRules) -> None:
    generation = {"bos_token_id": text.bos, "eos_token_id": list(text.eos) or None}
    _write_json(
        place / "generation_config.json", {key: value for key, value in generation.items() if value is not None}
    )
    if text.tokenizer is None:
        return
    (place / "tokenizer.json").write_bytes(_with_bos(text))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": text.add_bos,
        "clean_up_tokenization_spaces": False,
        **text.special,
    }
    if text.chat_template is not None:
        settings["chat_template"] = text.chat_template
    _write_json(place / "tokenizer_config.json", settings)


def _with_bos(text: TextRules) -> bytes:
    """Return the tokenizer with a last step that puts `bos` first, where it is to be and the tokenizer does not."""
    content = text.tokenizer or b""
    if not text.add_bos or text.bos is None:
        return content
    tokenizer = Tokenizer.from_str(content.decode("utf-8"))
    name = tokenizer.id_to_token(text.bos)
    if name is None or tokenizer.encode("").ids[:1] == [text.bos]:
        return content
    tokenizer.post_processor = TemplateProcessing(
        single=[name, "$A"], pair=[name, "$A", name, "$B:1"], special_tokens=[(name, text.bos)]
    )
    return tokenizer.to_str().encode("utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
