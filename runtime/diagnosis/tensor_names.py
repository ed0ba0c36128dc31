"""What the name of a tensor says, in Hugging Face's folders and in GGUF files."""

import re
from collections.abc import Iterator

from bitsim.simulator.model_spec import ModelSpec

from ..checkpoints.checkpoint import LINEARS, NORMS
from ..checkpoints.gguf_names import LINEAR, NORM
from ..checkpoints.hugging_face import LINEAR_NAMES, NORM_NAMES
from ..checkpoints.hugging_face_config import Quantisation

CLASSES = ("embedding", "head", *LINEARS, "norm", "bias", "other")
SCALE_SUFFIXES = (".weight_scale", ".scale")
_LAYER = re.compile(r"(?:^|\.)(?:layers|blk)\.(\d{1,6})\.")
_VOCABULARY = {
    "model.embed_tokens.weight": "embedding",
    "token_embd.weight": "embedding",
    "lm_head.weight": "head",
    "output.weight": "head",
}
_MODULES = {module: name for names in (LINEAR_NAMES, LINEAR) for name, module in names.items()}
_NORM = re.compile(r"norm|_ln\.|layernorm")
# Left by old versions of transformers and of llama.cpp's converter; computed anew by every reader.
_LEFT_OVER = re.compile(r"rotary_emb\.inv_freq$|^rope_factors_(long|short)\.weight$")


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to, None for one of the whole model."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def class_of(name: str) -> str:
    """Return which of CLASSES a tensor belongs to; a scale belongs to what it scales."""
    if name in _VOCABULARY:
        return _VOCABULARY[name]
    if name.endswith(".bias"):
        return "bias"
    module = name.removesuffix(".weight")
    for suffix in SCALE_SUFFIXES:
        module = module.removesuffix(suffix)
    linear = next((known for ending, known in _MODULES.items() if module.endswith(f".{ending}")), None)
    return linear or ("norm" if _NORM.search(name) else "other")


def names_read(spec: ModelSpec, form: str, rule: Quantisation | None) -> set[str]:
    """Return the names of all tensors that a reader of this model looks at, where they are there.

    Args:
        spec: the model's shape.
        form: "gguf" or "hf".
        rule: how a folder's linear layers are stored.
    """
    whole = ("token_embd", "output_norm", "rope_freqs") if form == "gguf" else ("model.embed_tokens", "model.norm")
    names = {f"{name}.weight" for name in whole}
    if not spec.tied_head:
        names.add("output.weight" if form == "gguf" else "lm_head.weight")
    for layer in range(spec.layers):
        names.update(_of_layer(spec, form, rule, layer))
    return names


def _of_layer(spec: ModelSpec, form: str, rule: Quantisation | None, layer: int) -> Iterator[str]:
    prefix = f"blk.{layer}." if form == "gguf" else f"model.layers.{layer}."
    for name in NORMS:
        if _has_norm(spec, name):
            yield from (f"{prefix}{known}.weight" for known in ((NORM[name],) if form == "gguf" else NORM_NAMES[name]))
    for name in LINEARS:
        module = prefix + (LINEAR if form == "gguf" else LINEAR_NAMES)[name]
        yield f"{module}.weight"
        if spec.output_bias if name == "o" else spec.qkv_bias and name in "qkv":
            yield f"{module}.bias"
        if form == "gguf":
            yield f"{module}.scale"
        elif rule is not None and not rule.keeps(module):
            yield from [f"{module}.weight_scale"] * (not rule.online)
            yield from [f"{module}.rms_norm.weight"] * rule.inner_norm


def _has_norm(spec: ModelSpec, name: str) -> bool:
    if name.endswith("sub_norm"):
        return spec.sub_norms
    return spec.qk_norm or name not in ("q_norm", "k_norm")


def is_left_over(name: str) -> bool:
    """Whether nobody reads a tensor of this name, and nobody misses it."""
    return _LEFT_OVER.search(name) is not None
