"""ModelSpec from a Hugging Face `config.json`: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3, BitNet and two MoE."""

from collections.abc import Mapping
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from .model_spec import ModelSpec

# What each class of transformers 5 builds when config.json is silent (configuration_*.py of each model).
_TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3_text")
_QKV_BIAS_ALWAYS = ("qwen2",)
_ATTENTION_BIAS_OPTION = ("llama", "qwen3", "gemma", "gemma2", "gemma3_text", "bitnet", "qwen3_moe")
_QK_NORM = ("qwen3", "qwen3_moe", "gemma3_text")
_POST_NORMS = ("gemma2", "gemma3_text")
_HEAD_DIM_DEFAULT = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}
_KV_HEADS_DEFAULT = {
    "mistral": 8,
    "qwen2": 32,
    "qwen3": 32,
    "gemma": 16,
    "gemma2": 4,
    "gemma3_text": 4,
    "bitnet": 5,
    "mixtral": 8,
    "qwen3_moe": 4,
}
_EXPERT_FAMILIES = ("mixtral", "qwen3_moe")
FAMILIES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "bitnet",
    "mixtral",
    "qwen3_moe",
)


def spec_from_config(config: Mapping[str, Any], where: str, name: str | None = None) -> ModelSpec:
    """Read the shape of a model from the content of its `config.json`.

    Args:
        config: the parsed file.
        where: the file's name, for error messages.
        name: name of the result; the config's own by default.

    Raises:
        BitsimError: a family that is not covered, or a key that is missing or absurd; the key is named.
    """
    if isinstance(config.get("text_config"), Mapping):  # a model with more than one modality: its language part
        config = config["text_config"]
    family = config.get("model_type")
    if family not in FAMILIES:
        got = "nothing" if family is None else f"'{shown(family, 40)}'"
        raise BitsimError(f"{where}: model_type: expected one of {', '.join(FAMILIES)}, got {got}")
    read = _Reader(config, where)
    if config.get("mlp_bias"):
        raise BitsimError(f"{where}: mlp_bias: expected false (feed-forward biases are not covered), got true")
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step") not in (None, 1):
        raise BitsimError(f"{where}: mlp_only_layers, decoder_sparse_step: expected experts in every layer")
    heads = read.integer("num_attention_heads")
    hidden = read.integer("hidden_size")
    # Explicitly null, it means as many as heads; left out, it is what the class of transformers has.
    kv_default = heads if "num_key_value_heads" in config else _KV_HEADS_DEFAULT.get(family, heads)
    bias_option = bool(config.get("attention_bias")) and family in _ATTENTION_BIAS_OPTION
    # transformers 4 called it num_experts in Qwen 3 MoE, transformers 5 writes num_local_experts in both families.
    experts_key = "num_experts" if config.get("num_experts") is not None else "num_local_experts"
    is_mixture = family in _EXPERT_FAMILIES
    return ModelSpec(
        name=name or str(config.get("_name_or_path") or where),
        architecture=family,
        layers=read.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=read.integer("num_key_value_heads", default=kv_default),
        head_dim=read.integer("head_dim", default=_HEAD_DIM_DEFAULT.get(family, max(hidden // heads, 1))),
        ffn=read.integer("moe_intermediate_size" if family == "qwen3_moe" else "intermediate_size"),
        vocab=read.integer("vocab_size"),
        tied_head=read.boolean("tie_word_embeddings", default=family in _TIED_BY_DEFAULT),
        activation=str(config.get("hidden_act") or config.get("hidden_activation") or "silu"),
        sub_norms=family == "bitnet",
        post_norms=family in _POST_NORMS,
        qk_norm=family in _QK_NORM,
        qkv_bias=bias_option or family in _QKV_BIAS_ALWAYS,
        output_bias=bias_option,
        experts=read.integer(experts_key) if is_mixture else 1,
        experts_per_token=read.integer("num_experts_per_tok") if is_mixture else 1,
        max_context=read.integer("max_position_embeddings", default=0) or None,
    )


class _Reader:
    """Typed access to the keys of one config."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config = config
        self._where = where

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
            got = "nothing" if value is None else f"'{shown(value, 40)}'"
            raise BitsimError(f"{self._where}: {key}: expected a whole number above 0, got {got}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BitsimError(f"{self._where}: {key}: expected true or false, got '{shown(value, 40)}'")
        return value
