"""From a trained model to folders of Hugging Face: ternary weights packed, or the full weights to train on from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import Checkpoint, Dense, Linear, write_hugging_face
from bitsim.runtime.checkpoints.hugging_face import LINEAR_NAMES, NORM_NAMES
from bitsim.runtime.checkpoints.hugging_face_config import model_config
from bitsim.runtime.checkpoints.json_file import read_bytes, read_json
from bitsim.runtime.checkpoints.text_rules import checked_tokenizer, plain_tokenizer
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.model.config import ModelConfig, TextRules
from bitsim.runtime.packing import Ternary
from bitsim.runtime.whole import whole_folder

from .bitlinear import BitLinear, bit_linears
from .model import scheme_quantization
from .quantize import SMALLEST

Float32 = npt.NDArray[np.float32]
# In a config.json, the epsilon of norms inside of layers that round as transformers has no word for.
INNER_NORM_KEY = "bitsim_inner_norm_eps"


def export(model: PreTrainedModel, scheme: str, tokenizer: Path | TextRules, folder: Path) -> list[str]:
    """Write a trained model as a folder that transformers and `bitsim.runtime.load` both load.

    A ternary or binary matrix is written as the very -1, 0, 1 that the model multiplies by and their scale, 2 bits a
    weight; binary ones are ternary ones without zeros. Embedding and head are rounded to half precision; norms are not,
    so that transformers gets all that is not packed in float32. A full-precision model is written in float32 (scheme
    `fp32`), half precision (`fp16`) or bfloat16 (`bf16`), norms included: in 16 bits it loses what float32 has beyond
    11 or 8 bits of a number.

    Args:
        model: a model of transformers, as `build_model` or `start_from` gave it.
        scheme: what it was trained in.
        tokenizer: a `tokenizer.json`, or the rules of the checkpoint that the training began with.
        folder: a name that is free, or an empty folder.

    Returns:
        What a user of the folder should know, a line each; empty where it computes what the model does.

    Raises:
        BitsimError: the folder can't be written to, a number is not finite, or a matrix has a scale for each row, which
            Hugging Face's form has no place for (see `export_packed`).
    """
    if scheme == "fp32":
        save_master(model, tokenizer, folder)
        return []
    write_hugging_face(checkpoint_of(model, scheme, tokenizer), folder)
    return differences(model)


def export_packed(model: PreTrainedModel, scheme: str, tokenizer: Path | TextRules, file: Path) -> list[str]:
    """Write a trained model as bitsim's packed file, which has a place for scales of rows; see `export`."""
    convert_to_packed(checkpoint_of(model, scheme, tokenizer), file)
    return differences(model)


def differences(model: PreTrainedModel) -> list[str]:
    """Return in what a model in files will differ from the model that was trained, a line each."""
    layers = list(bit_linears(model))
    found = []
    if any(layer.strength != 1 for layer in layers):
        strength = min(layer.strength for layer in layers)
        found.append(
            f"the warm-up stands at {strength:g} of 1: the model in files is quantised wholly, this one is not"
        )
    bits = {layer.quantization.activation_bits for layer in layers} - {8}
    if bits:
        found.append(f"activations were trained with {bits.pop()} bits; transformers and bitsim run the model with 8")
    return found


def save_master(model: PreTrainedModel, tokenizer: Path | TextRules, folder: Path) -> None:
    """Write the full float32 weights that training goes on from, as a folder of Hugging Face; see `start_from`.

    Where transformers can round as the model does (ternary, one scale a matrix, 8-bit activations), the folder says so
    and transformers computes what the model does, trainable ("quantization_mode": "online"). Otherwise transformers
    reads the weights as those of a full-precision model, which computes something else.

    Args:
        model: a model of transformers, as `build_model` or `start_from` gave it.
        tokenizer: a `tokenizer.json`, or the rules of the checkpoint that the training began with.
        folder: a name that is free, or an empty folder.

    Raises:
        BitsimError: the folder can't be written to, or the tokenizer does not fit the model.
    """
    text = _text(tokenizer, model)
    with whole_folder(folder) as place:
        model.save_pretrained(place)
        _write_json(place / "config.json", read_json(place / "config.json") | _rounding(model))
        _write_tokenizer(place, text)


def checkpoint_of(model: PreTrainedModel, scheme: str, tokenizer: Path | TextRules) -> Checkpoint:
    """Return a model of torch as a checkpoint of the runtime, its tensors converted when asked for.

    Raises:
        BitsimError: a model that the runtime does not run, or a tokenizer that does not fit it.
    """
    return _Trained(model, scheme, _text(tokenizer, model))


class _Trained:
    """A model of torch as a checkpoint."""

    def __init__(self, model: PreTrainedModel, scheme: str, text: TextRules) -> None:
        self.config: ModelConfig = model_config(model.config.to_dict(), "the trained model")
        self.text = text
        self._rounded = scheme_quantization(scheme) is None  # norms too are to fit into 16 bits
        self._brain = scheme == "bf16"
        self._model = model
        self._parameters = dict(model.named_parameters())

    def embedding(self) -> Dense:
        return self._dense("model.embed_tokens")

    def head(self) -> Dense | None:
        return None if self.config.spec.tied_head else self._dense("lm_head")

    def output_norm(self) -> Float32:
        return self._vector("model.norm.weight")

    def norm(self, layer: int, name: str) -> Float32 | None:
        spec = self.config.spec
        if not (spec.sub_norms if name.endswith("sub_norm") else spec.qk_norm or name not in ("q_norm", "k_norm")):
            return None
        return self._vector(f"model.layers.{layer}.{NORM_NAMES[name][0]}.weight")

    def linear(self, layer: int, name: str) -> Linear:
        module = f"model.layers.{layer}.{LINEAR_NAMES[name]}"
        found = self._model.get_submodule(module)
        bias = self._vector(f"{module}.bias") if f"{module}.bias" in self._parameters else None
        if not isinstance(found, BitLinear):
            return Linear(self._dense(module), bias)
        weights = _ternary(found, module)
        if found.rms_norm is None:
            return Linear(weights, bias)
        return Linear(weights, bias, self._vector(f"{module}.rms_norm.weight"), found.rms_norm.variance_epsilon)

    def _dense(self, module: str) -> Dense:
        name = f"{module}.weight"
        return self._in_16_bits(name, self._numbers(name))

    def _vector(self, name: str) -> Float32:
        values = self._numbers(name)
        full: Float32 = values.numpy()
        return self._in_16_bits(name, values).as_float32() if self._rounded else full

    def _numbers(self, name: str) -> torch.Tensor:
        values = self._parameters[name].detach().float().cpu().contiguous()
        _check_finite(name, values)
        return values

    def _in_16_bits(self, name: str, values: torch.Tensor) -> Dense:
        short = values.to(torch.bfloat16 if self._brain else torch.float16)
        if not torch.isfinite(short).all():
            raise BitsimError(f"{name}: expected numbers that 16 bits hold, got one of {float(values.abs().max()):g}")
        return Dense(short.view(torch.uint16).numpy(), self._brain)


def _check_finite(name: str, values: torch.Tensor) -> None:
    if not torch.isfinite(values).all():
        raise BitsimError(f"{name}: expected finite numbers, got one that is not")


def _ternary(layer: BitLinear, where: str) -> Ternary:
    """Return what a layer multiplies by: of its rounded weights the signs and, for each scale, the size."""
    weight = layer.weight.detach().float().cpu()
    _check_finite(f"{where}.weight", weight)
    rounded = layer.quantization.of_weight(weight)
    sizes = rounded.abs()
    scales = sizes.amax(dim=1, keepdim=True) if layer.quantization.grain == "row" else sizes.max().reshape(1, 1)
    scales = torch.where(scales == 0, SMALLEST, scales)
    return Ternary(rounded.sign().to(torch.int8).numpy(), scales.numpy())


def _rounding(model: PreTrainedModel) -> dict[str, Any]:
    """Return what config.json is to say of how the layers round."""
    layer = next(bit_linears(model), None)
    if layer is None:
        return {}
    rule, norm = layer.quantization, layer.rms_norm
    if (rule.weights, rule.grain, rule.activation_bits) != ("ternary", "tensor", 8):
        return {} if norm is None else {INNER_NORM_KEY: norm.variance_epsilon}
    inside = {} if norm is None else {"use_rms_norm": True, "rms_norm_eps": norm.variance_epsilon}
    return {
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "online",
            "modules_to_not_convert": ["lm_head"],
        }
        | inside
    }


def _text(tokenizer: Path | TextRules, model: PreTrainedModel) -> TextRules:
    """Return the rules of a checkpoint as they are, or those of a `tokenizer.json` and the model's special tokens."""
    if isinstance(tokenizer, TextRules):
        return tokenizer
    content = plain_tokenizer(read_bytes(tokenizer), str(tokenizer))
    config = model.config
    made = checked_tokenizer(content, config.vocab_size, str(tokenizer))
    eos = [config.eos_token_id] if isinstance(config.eos_token_id, int) else list(config.eos_token_id or ())
    named = {"bos_token": config.bos_token_id, "eos_token": eos[0] if eos else None}
    texts = {name: made.id_to_token(token) for name, token in named.items() if token is not None}
    special = {name: text for name, text in texts.items() if text is not None}
    return TextRules(tokenizer=content, bos=config.bos_token_id, eos=tuple(eos), special=special)


def _write_tokenizer(place: Path, text: TextRules) -> None:
    if text.tokenizer is None:
        return
    (place / "tokenizer.json").write_bytes(text.tokenizer)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": text.add_bos,
        "clean_up_tokenization_spaces": False,
        **text.special,
    }
    if text.chat_template is not None:
        settings["chat_template"] = text.chat_template
    _write_json(place / "tokenizer_config.json", settings)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
