"""Small random models that transformers makes and saves."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or the first unpacking of weights compiles C++ for a minute

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def make_model() -> Make:
    """Return a function from a family and changes of its config to a random model of transformers."""
    import torch
    import transformers

    classes = {
        "bitnet": (transformers.BitNetConfig, transformers.BitNetForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }

    def make(family: str, **changes: object) -> Any:
        config, model = classes[family]
        torch.manual_seed(1)
        head_dim = {"head_dim": 8} if family == "qwen3" else {}
        made = model(config(**(SHAPE | head_dim | changes)))
        with torch.no_grad():
            for parameter in made.parameters():  # norms too, which would be ones
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return made.eval()

    return make


@pytest.fixture(scope="session")
def plain_folders(make_model: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Return a function from a family to a folder that transformers saved, and its model; each made once."""
    made: dict[str, tuple[Path, Any]] = {}

    def folder(family: str) -> tuple[Path, Any]:
        if family not in made:
            place = tmp_path_factory.mktemp(family)
            model = make_model(family)
            model.save_pretrained(place)
            made[family] = place, model
        return made[family]

    return folder
