"""Drawn models, and a preset as its `config.json` would have it."""

from typing import Any

from hypothesis import strategies as st

from bitsim.energy_tables import ModelRow
from bitsim.simulator import ModelSpec


@st.composite
def tiny_specs(draw: st.DrawFn) -> ModelSpec:
    """Models so small that a test can loop over each layer, head and token."""
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    experts = draw(st.sampled_from([1, 1, 2, 5]))
    return ModelSpec(
        name="tiny",
        architecture="llama",
        layers=draw(st.integers(1, 3)),
        hidden=draw(st.integers(1, 40)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 9)),
        ffn=draw(st.integers(1, 70)),
        vocab=draw(st.integers(1, 100)),
        tied_head=draw(st.booleans()),
        gated_ffn=draw(st.booleans()),
        sub_norms=draw(st.booleans()),
        post_norms=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        experts=experts,
        experts_per_token=draw(st.integers(1, experts)),
    )


def config_of(row: ModelRow) -> dict[str, Any]:
    """Return the keys that describe the row's shape in its family's `config.json`."""
    family = row.architecture
    config: dict[str, Any] = {
        "model_type": family,
        "num_hidden_layers": row.layers,
        "hidden_size": row.hidden,
        "num_attention_heads": row.heads,
        "num_key_value_heads": row.kv_heads,
        "head_dim": row.head_dim,
        "moe_intermediate_size" if family == "qwen3_moe" else "intermediate_size": row.ffn,
        "vocab_size": row.vocab,
        "tie_word_embeddings": row.tied_head,
        "hidden_activation" if family.startswith("gemma") else "hidden_act": row.activation,
        "max_position_embeddings": row.max_context or 2048,
        "attention_bias": row.output_bias,
    }
    if row.experts > 1:
        config["num_experts" if family == "qwen3_moe" else "num_local_experts"] = row.experts
        config["num_experts_per_tok"] = row.experts_per_token
    return config
