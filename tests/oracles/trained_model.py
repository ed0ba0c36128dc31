"""A small ternary model that knows one short text by heart, trained in a few seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from fake_language_model import byte_level_tokenizer
from small_models import ONLINE

STEPS, RATE = 120, 6e-3
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
}


def trained_folder(place: Path, text: str, **changes: Any) -> Path:
    """Train a BitNet (absmean, straight through) on the first 256 tokens of a text; save it with its master weights."""
    import torch
    import transformers
    from torch.nn.utils import parametrize

    torch.manual_seed(0)
    tokenizer = byte_level_tokenizer()
    model = transformers.BitNetForCausalLM(transformers.BitNetConfig(**(SHAPE | changes)))
    linears = [part for part in model.model.modules() if isinstance(part, torch.nn.Linear)]

    class Absmean(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            scale = weight.abs().mean().clamp(min=1e-5)
            return weight + ((weight / scale).round().clamp(-1, 1) * scale - weight).detach()

    for linear in linears:
        parametrize.register_parametrization(linear, "weight", Absmean())
    tokens = torch.tensor([tokenizer.encode(text).ids[:256]])
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10) * (1 - step / STEPS)
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for linear in linears:
        parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)
    model.save_pretrained(place)
    tokenizer.save(str(place / "tokenizer.json"))
    change_config(place, quantization_config=ONLINE)
    return place


def change_config(place: Path, **changes: Any) -> None:
    """Change keys of a folder's config.json; those that become None are taken out."""
    file = place / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_tensors(place: Path, change: Any) -> None:
    """Hand the tensors of a folder to a function that changes the dict."""
    from safetensors.numpy import load_file, save_file

    file = place / "model.safetensors"
    tensors: dict[str, np.ndarray[Any, Any]] = load_file(file)
    change(tensors)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, file)
