"""The model's constants from the metadata of a GGUF file."""

from collections.abc import Mapping

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.simulator.model_spec import ModelSpec

from ..model.config import ModelConfig, Rope
from .checkpoint import Float32
from .gguf_file import Value
from .json_file import Keys
from .rope import attention_factor, llama3_divisors
from .stored import Stored

# Architecture in the file to that of the spec. Mistral's models are stored as llama.
ARCHITECTURES = {
    "llama": "llama",
    "bitnet": "bitnet",
    "bitnet-b1.58": "bitnet",
    "bitnet-25": "bitnet",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
_RELU2 = ("bitnet-b1.58", "bitnet-25")  # bitnet.cpp's, which have no key for it


def gguf_config(metadata: Mapping[str, Value], tensors: Mapping[str, Stored], where: str) -> ModelConfig:
    """Read the shape and the constants of a model.

    Raises:
        BitsimError: an architecture that the runtime does not have, or a key that is missing or absurd; it is named.
    """
    architecture = Keys(metadata, where).choice("general.architecture", None, tuple(ARCHITECTURES))
    prefix = f"{architecture}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    keys = Keys(own, f"{where}: {architecture}")
    spec = _spec(metadata, keys, architecture, tensors)
    return ModelConfig(
        spec=spec,
        norm_eps=keys.number("attention.layer_norm_rms_epsilon", high=1.0),
        rope=_rope(keys, spec, tensors),
    )


def _spec(metadata: Mapping[str, Value], keys: Keys, architecture: str, tensors: Mapping[str, Stored]) -> ModelSpec:
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    if not heads:
        raise BitsimError(f"{keys.where}: attention.head_count: expected a number above 0, got 0")
    head_dim = keys.integer("attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.integer(key, head_dim) != head_dim or head_dim % 2:
            raise BitsimError(f"{keys.where}: {key}: expected an even number, the length of a key ({head_dim})")
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise BitsimError(f"{keys.where}: no matrix 'token_embd.weight'")
    by_architecture = "relu2" if architecture in _RELU2 else "silu"
    return ModelSpec(
        name=str(metadata.get("general.name") or architecture)[:200],
        architecture=ARCHITECTURES[architecture],
        layers=keys.integer("block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=keys.integer("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=keys.integer("feed_forward_length"),
        vocab=embedding.shape[0],
        tied_head="output.weight" not in tensors,
        activation=keys.choice("hidden_activation", by_architecture, ("silu", "relu2")),
        sub_norms="blk.0.attn_sub_norm.weight" in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
        max_context=keys.integer("context_length", 0) or None,
    )


def _rope(keys: Keys, spec: ModelSpec, tensors: Mapping[str, Stored]) -> Rope:
    theta = keys.number("rope.freq_base", 10_000.0, low=1.0)
    # Files made before 2024 have the factor alone.
    scaling = keys.choice(
        "rope.scaling.type", "linear" if "rope.scale_linear" in keys.content else "none", ("none", "linear", "yarn")
    )
    if "rope_freqs.weight" in tensors:
        return _llama3(theta, tensors["rope_freqs.weight"].expect((spec.head_dim // 2,)))
    if scaling == "none":
        return Rope(theta=theta)
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))
    if scaling == "linear":
        return Rope(theta=theta, scaling="linear", factor=factor)
    return Rope(
        theta=theta,
        scaling="yarn",
        factor=factor,
        original_context=keys.integer("rope.scaling.original_context_length", spec.max_context),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0),
        # llama.cpp multiplies what the file states by yarn's own factor.
        attention_factor=keys.number("rope.scaling.attn_factor", 1.0) * attention_factor(factor),
    )


def _llama3(theta: float, stored: Stored) -> Rope:
    """Return the llama3 scaling that has a file's divisors of the frequencies; those of Meta are tried."""
    divisors: Float32 = stored.values()
    if divisors.min() < 1 - 1e-3:
        raise BitsimError(f"{stored.where}: expected divisors of at least 1, got {divisors.min():g}")
    for original in (8192, 4096, 16384, 32768, 65536, 131072):
        rope = Rope(
            theta=theta,
            scaling="llama3",
            factor=float(divisors.max()),
            original_context=original,
            low_frequency=1.0,
            high_frequency=4.0,
        )
        if np.allclose(llama3_divisors(rope, 2 * len(divisors)), divisors, rtol=1e-3):
            return rope
    raise BitsimError(
        f"{stored.where}: expected the scaling of Llama 3, got other divisors: {shown(divisors.tolist())}"
    )
