"""What `config.json` of a Hugging Face folder says: the model's constants, and how its linear layers are quantised."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.simulator.model_config import spec_from_config
from bitsim.simulator.model_spec import ModelSpec

from ..model.config import ModelConfig, Rope
from .json_file import Keys
from .rope import attention_factor

FAMILIES = ("bitnet", "llama", "mistral", "qwen2", "qwen3")
ACTIVATIONS = ("silu", "relu2")
# What the classes of transformers 5 have where config.json is silent.
_THETA = {"bitnet": 500_000.0}
_EPS = {"bitnet": 1e-5}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the linear layers of a Hugging Face checkpoint are stored.

    Attributes:
        scale_multiplies: of `weight_scale` beside packed weights; otherwise it divides.
        online: weights are full numbers, made ternary by their mean size when used.
        kept: names of modules that stay full numbers, or their beginnings or ends.
        inner_norm: an RMSNorm inside of each linear layer; inner_norm_eps is its epsilon.
    """

    scale_multiplies: bool = False
    online: bool = False
    kept: tuple[str, ...] = ()
    inner_norm: bool = False
    inner_norm_eps: float = 1e-6

    def keeps(self, module: str) -> bool:
        """Whether a module, such as `model.layers.0.mlp.up_proj`, stays full numbers."""
        return any(module == name or module.startswith(f"{name}.") or module.endswith(name) for name in self.kept)


def model_config(config: Mapping[str, Any], where: str) -> ModelConfig:
    """Read the shape and the constants of a model.

    Raises:
        BitsimError: a family, an activation or a kind of attention that the runtime does not have; the key is named.
    """
    spec, keys = spec_from_config(config, where), Keys(config, where)
    if spec.architecture not in FAMILIES:
        raise BitsimError(f"{where}: model_type: expected one of {', '.join(FAMILIES)}, got '{spec.architecture}'")
    if spec.activation not in ACTIVATIONS:
        raise BitsimError(
            f"{where}: hidden_act: expected one of {', '.join(ACTIVATIONS)}, got '{spec.activation[:40]}'"
        )
    if spec.head_dim % 2:
        raise BitsimError(f"{where}: head_dim: expected an even number, got {spec.head_dim}")
    if is_1bit_llm(config, where):
        spec = replace(spec, sub_norms=True)
    return ModelConfig(
        spec=spec,
        norm_eps=keys.number("rms_norm_eps", _EPS.get(spec.architecture, 1e-6), high=1.0),
        rope=_rope(config, spec, where),
        sliding_window=_sliding_window(keys, spec),
    )


def is_1bit_llm(config: Mapping[str, Any], where: str) -> bool:
    """Whether the config is of the 1bitLLM family: master weights, sub-norms, and the keys weight_bits and input_bits.

    Raises:
        BitsimError: other bits than the family's 1 and 8.
    """
    if config.get("weight_bits") is None:
        return False
    for key, bits in (("weight_bits", 1), ("input_bits", 8)):
        if config.get(key) != bits:
            raise BitsimError(f"{where}: {key}: expected {bits}, got '{shown(config.get(key), 40)}'")
    return True


def quantisation(config: Mapping[str, Any], where: str) -> Quantisation | None:
    """Read how linear layers are stored; None for full numbers.

    Raises:
        BitsimError: another method than `bitnet`, or a key that is wrong.
    """
    if is_1bit_llm(config, where):
        return Quantisation(online=True)
    keys = Keys(Keys(config, where).table("quantization_config"), f"{where}: quantization_config")
    if not keys.content:
        return None
    keys.choice("quant_method", None, ("bitnet",))
    auto = keys.choice("linear_class", "bitlinear", ("bitlinear", "autobitlinear")) == "autobitlinear"
    return Quantisation(
        scale_multiplies=auto,
        online=auto and keys.choice("quantization_mode", "offline", ("offline", "online")) == "online",
        kept=_kept(keys),
        inner_norm=keys.boolean("use_rms_norm", default=False),
        inner_norm_eps=keys.number("rms_norm_eps", 1e-6, high=1.0),
    )


def _kept(keys: Keys) -> tuple[str, ...]:
    """Return modules_to_not_convert: names only, as a pattern of a stranger may take for ever to match."""
    names = keys.content.get("modules_to_not_convert") or []
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name.replace(".", "").replace("_", "").isalnum() for name in names
    ):
        raise BitsimError(f"{keys.where}: modules_to_not_convert: expected a list of names, got '{shown(names)}'")
    return tuple(names)


def _sliding_window(keys: Keys, spec: ModelSpec) -> int | None:
    """Return how far attention looks back, where all layers agree."""
    if spec.architecture == "mistral":
        stated = "sliding_window" in keys.content
        return keys.integer("sliding_window", 0 if stated else 4096) or None
    if spec.architecture in ("llama", "bitnet") or not keys.boolean("use_sliding_window", default=False):
        return None
    full_layers = keys.integer("max_window_layers", 28)
    kinds = keys.content.get("layer_types") or [
        "full_attention" if layer < full_layers else "sliding_attention" for layer in range(spec.layers)
    ]
    if kinds == ["full_attention"] * spec.layers:
        return None
    if kinds != ["sliding_attention"] * spec.layers:
        raise BitsimError(f"{keys.where}: use_sliding_window: expected the same attention in all layers, got a mixture")
    return keys.integer("sliding_window", 4096) or None


def _rope(config: Mapping[str, Any], spec: ModelSpec, where: str) -> Rope:
    """Read the rotary embedding from transformers 5's `rope_parameters`, or from `rope_theta` and `rope_scaling`."""
    top = Keys(config, where)
    name = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    keys = Keys(top.table(name), f"{where}: {name}")
    default = top.number("rope_theta", _THETA.get(spec.architecture, 10_000.0), low=1.0)
    theta = keys.number("rope_theta", default, low=1.0)
    for table in (top, keys):
        if table.number("partial_rotary_factor", 1.0) != 1.0:
            raise BitsimError(f"{table.where}: partial_rotary_factor: expected 1 (rotation of the whole head)")
    old_name = "rope_type" if keys.content.get("rope_type") is not None else "type"
    scaling = keys.choice(old_name, "default", ("default", "linear", "llama3", "yarn"))
    if scaling == "default":
        return Rope(theta=theta)
    if scaling == "linear":
        return Rope(theta=theta, scaling="linear", factor=keys.number("factor"))
    context = keys.integer("original_max_position_embeddings", spec.max_context)
    if context < 1:
        raise BitsimError(f"{keys.where}: original_max_position_embeddings: expected a number above 0, got 0")
    if scaling == "yarn":
        return _yarn(keys, theta, context, spec)
    low, high = keys.number("low_freq_factor"), keys.number("high_freq_factor")
    if high <= low:
        raise BitsimError(f"{keys.where}: high_freq_factor: expected more than low_freq_factor ({low:g}), got {high:g}")
    return Rope(
        theta=theta,
        scaling="llama3",
        factor=keys.number("factor"),
        original_context=context,
        low_frequency=low,
        high_frequency=high,
    )


def _yarn(keys: Keys, theta: float, context: int, spec: ModelSpec) -> Rope:
    if not keys.boolean("truncate", default=True):
        raise BitsimError(f"{keys.where}: truncate: expected true, got false")
    factor = keys.number("factor", (spec.max_context or context) / context)
    return Rope(
        theta=theta,
        scaling="yarn",
        factor=factor,
        original_context=context,
        beta_fast=keys.number("beta_fast", 32.0),
        beta_slow=keys.number("beta_slow", 1.0),
        attention_factor=keys.number("attention_factor", _attention_factor(keys, factor)),
    )


def _attention_factor(keys: Keys, factor: float) -> float:
    """Return yarn's factor of cosine and sine; DeepSeek's two keys make it a ratio."""
    if keys.content.get("mscale") and keys.content.get("mscale_all_dim"):
        return attention_factor(factor, keys.number("mscale")) / attention_factor(factor, keys.number("mscale_all_dim"))
    return attention_factor(factor)
