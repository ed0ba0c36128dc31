"""Small random models as Hugging Face folders, what transformers makes of them, and whether two checkpoints agree."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_language_model import byte_level_tokenizer

from bitsim.runtime.checkpoints import LINEARS, NORMS, Checkpoint, Dense
from bitsim.runtime.packing import Ternary

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or the first unpacking of weights compiles C++ for a minute

Array = np.ndarray[Any, np.dtype[Any]]
TOKENS = np.array([1, 5, 17, 90, 44, 3, 8, 61])
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
SHAPE = {
    "vocab_size": 300,
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
WIDE = {"hidden_size": 256, "intermediate_size": 512}


def folder(place: Path, family: str, quantization: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Save a random model whose numbers half precision holds, with a tokenizer of bytes; biases and norms too."""
    import torch
    import transformers

    name = {"bitnet": "BitNet", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[family]
    config = getattr(transformers, f"{name}Config")(**(SHAPE | changes))
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.half().float().save_pretrained(place)
    byte_level_tokenizer().save(str(place / "tokenizer.json"))
    if quantization is not None:
        file = place / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": quantization}))
    return place


def transformers_logits(place: Path) -> Array:
    """Run TOKENS through a folder in transformers, in float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.quantizers import quantizer_bitnet

    with pytest.MonkeyPatch.context() as patch:  # it asks for a package that it does not need on a CPU
        patch.setattr(quantizer_bitnet, "is_accelerate_available", lambda: True)
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    with torch.no_grad():
        logits: Array = model(torch.tensor(TOKENS[None])).logits.numpy()
    return logits


def assert_same(one: Checkpoint, other: Checkpoint, scales: float = 0.0) -> None:
    """Check that two checkpoints hold the same; scales within a relative error."""
    assert one.config.rope == other.config.rope
    assert one.config.spec.linears() == other.config.spec.linears()
    assert_same_matrix(one.embedding(), other.embedding())
    head, theirs = one.head(), other.head()
    assert (head is None) == (theirs is None)
    if head is not None and theirs is not None:
        assert_same_matrix(head, theirs)
    np.testing.assert_array_equal(one.output_norm(), other.output_norm())
    for layer in range(one.config.spec.layers):
        for name in NORMS:
            np.testing.assert_array_equal(one.norm(layer, name), other.norm(layer, name))
        for name in LINEARS:
            mine, their = one.linear(layer, name), other.linear(layer, name)
            np.testing.assert_array_equal(mine.bias, their.bias)
            np.testing.assert_array_equal(mine.norm, their.norm)
            if mine.norm is not None:
                assert np.float32(mine.norm_eps) == np.float32(their.norm_eps)
            assert_same_matrix(mine.weights, their.weights, scales)


def assert_same_matrix(one: Ternary | Dense, other: Ternary | Dense, scales: float = 0.0) -> None:
    """Check that two matrices hold the same; scales within a relative error."""
    if isinstance(one, Ternary):
        assert isinstance(other, Ternary)
        np.testing.assert_array_equal(one.weights, other.weights)
        assert one.scales.shape == other.scales.shape or scales
        both = np.broadcast_arrays(one.scales, other.scales)
        np.testing.assert_allclose(both[0], both[1], rtol=scales)
    else:
        assert isinstance(other, Dense)
        assert one.brain == other.brain
        np.testing.assert_array_equal(one.bits, other.bits)
