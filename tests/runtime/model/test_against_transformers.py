"""The compiled step beside transformers, which runs in float32 and rounds as bitsim did: logits and greedy texts.

A rounding that falls the other way, because of float32's last bits, moves the logits by up to a percent, and random
weights leave the two best tokens that close once in a few dozen. So transformers is given bitsim's int8 activations and
its keys and values, each checked to be the nearest; then logits agree far closer than tokens lie apart. What is left to
chance is told by the same numbers: a greedy token must be the best within twice the largest difference of a logit.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from recorded_model import Recorded, RecordedModel

from bitsim.runtime.checkpoints import open_checkpoint
from bitsim.runtime.kernels import best

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or the first unpacking of weights compiles C++ for a minute
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Array = np.ndarray[Any, np.dtype[Any]]

CLOSE = 1e-4  # relative distance of logits with the same roundings
PROMPT, NEW = 30, 64
SHAPE = {
    "vocab_size": 199,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": None,
}
CLASSES = {"bitnet": "BitNet", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
DIVIDES = {"quant_method": "bitnet", "linear_class": "bitlinear"}


def save(family: str, to: Path, dtype: str, quantisation: dict[str, Any] | None, **changes: Any) -> None:
    """Write the folder of a random model; its matrices ternary and packed unless `quantisation` says they are not."""
    import safetensors.torch

    name = CLASSES[family]
    config = getattr(transformers, f"{name}Config")(**(SHAPE | changes))
    torch.manual_seed(3)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.2
            parameter.copy_(torch.randn_like(parameter) * size + (parameter.ndim == 1))
    model.half().to(getattr(torch, dtype)).save_pretrained(to)
    if quantisation is not None:
        content = json.loads((to / "config.json").read_text())
        (to / "config.json").write_text(json.dumps(content | {"quantization_config": quantisation}))
        if quantisation.get("quantization_mode") != "online":
            state = safetensors.torch.load_file(to / "model.safetensors")
            safetensors.torch.save_file(packed(state, quantisation), to / "model.safetensors", {"format": "pt"})


def packed(state: dict[str, Any], quantisation: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of a packed folder, by transformers' own function."""
    from transformers.integrations.bitnet import pack_weights

    result = dict(state)
    for name, tensor in state.items():
        module = name.removesuffix(".weight")
        if not module.endswith("_proj"):
            continue
        divisor = tensor.shape[1] ** 0.5 * (0.7 + 0.6 * torch.rand(1))
        result[name] = pack_weights(torch.randint(-1, 2, tensor.shape).float())
        result[f"{module}.weight_scale"] = divisor if quantisation["linear_class"] == "bitlinear" else 1 / divisor
        if quantisation.get("use_rms_norm"):
            result[f"{module}.rms_norm.weight"] = 0.5 + torch.rand(tensor.shape[1])
    return result


def reference_of(folder: Path) -> Any:
    """Load a folder with transformers, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@contextmanager
def rounding_as(recorded: Recorded, model: Any) -> Iterator[None]:
    """Within the block, let a model of transformers round to the int8, keys and values that bitsim rounded to."""
    bitnet: Any = import_module("transformers.integrations.bitnet")
    module: Any = import_module(type(model).__module__)
    attend = module.eager_attention_forward
    here: dict[str, Any] = {}

    def codes_of(x: Any) -> tuple[Any, Any]:
        scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        codes = recorded.activations(here["layer"], here["name"], (x * scale)[0].double().numpy())
        return torch.tensor(codes, dtype=torch.float32)[None], scale

    class SameCodes:
        @staticmethod
        def apply(x: Any) -> Any:
            codes, scale = codes_of(x)
            return codes / scale

    def attend_kept(layer: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
        pair = (each[0].transpose(0, 1).double().numpy() for each in (key, value))
        kept = recorded.kept(layer.layer_idx, *pair)
        key, value = (torch.tensor(each, dtype=torch.float32).transpose(0, 1)[None] for each in kept)
        return attend(layer, query, key, value, *rest, **named)

    def watch(layer: int, name: str) -> Any:
        return lambda *_: here.update(layer=layer, name=name.removesuffix("_proj"))

    for number, layer in enumerate(model.model.layers):
        for block in (layer.self_attn, layer.mlp):
            for name, linear in block.named_children():
                if name.endswith("_proj"):
                    linear.register_forward_pre_hook(watch(number, name))
    quantise = patch.object(bitnet.BitLinear, "activation_quant", lambda _, x: codes_of(x))
    with (
        quantise,
        patch.object(module, "eager_attention_forward", attend_kept),
        patch.object(bitnet, "ActQuant", SameCodes),
    ):
        yield


def greedy(model: RecordedModel, prompt: Array) -> Array:
    """Return the prompt and what the model says, token by token."""
    sequence = model.sequence(PROMPT + NEW)
    hidden, text = model.step([(sequence, prompt)]), list(prompt)
    while True:
        text.append(int(model.head.top(hidden, 1)[0].ids[0]))
        if len(text) == PROMPT + NEW:
            return np.array(text)
        hidden = model.step([(sequence, np.array(text[-1:]))])


# Packed ones say float32 in their config, or transformers would compute in 16 bits whatever it is asked for.
TERNARY: dict[str, tuple[str, str, dict[str, Any] | None, dict[str, Any]]] = {
    "bitnet, online": ("bitnet", "bfloat16", AUTO | {"quantization_mode": "online"}, {"tie_word_embeddings": True}),
    "bitnet, packed": ("bitnet", "float32", AUTO | {"quantization_mode": "offline"}, {}),
    "llama, bitlinear": ("llama", "float32", DIVIDES, {"rope_theta": 500_000.0}),
    "llama, norms inside": ("llama", "float32", DIVIDES | {"use_rms_norm": True}, {}),
    "llama, online": ("llama", "float16", AUTO | {"quantization_mode": "online"}, {"head_dim": 20}),
}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DENSE: dict[str, tuple[str, str, dict[str, Any] | None, dict[str, Any]]] = {
    f"{family}, {dtype}": (family, dtype, None, changes)
    for dtype in ("float16", "bfloat16")
    for family, changes in {
        "llama": {},
        "qwen2": {"num_key_value_heads": 6},
        "qwen3": {"head_dim": 24},
        "mistral": {"sliding_window": 24},
    }.items()
}
DENSE |= {
    f"llama, {scaling['rope_type']}": ("llama", "float16", None, {"rope_parameters": {"rope_theta": 1e4} | scaling})
    for scaling in (
        LLAMA3 | {"original_max_position_embeddings": 32},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {"rope_type": "linear", "factor": 3.0},
    )
}
MODELS = TERNARY | DENSE


@pytest.mark.parametrize("which", list(MODELS))
def test_logits_and_greedy_texts(which: str, tmp_path: Path) -> None:
    family, dtype, quantisation, changes = MODELS[which]
    save(family, tmp_path, dtype, quantisation, **changes)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config.spec.architecture == family
    model = RecordedModel(checkpoint, best(), threads=2)
    text = greedy(model, np.random.default_rng(4).integers(0, SHAPE["vocab_size"], PROMPT))
    sequence = model.sequence(len(text))
    found = model.head.logits(model.hidden_states(sequence, text))
    reference = reference_of(tmp_path)
    with torch.no_grad(), rounding_as(model.rounding(sequence), reference):
        right = reference(torch.tensor(text)[None]).logits[0].numpy()
    model.close()
    off = np.linalg.norm(found - right, axis=1) / np.linalg.norm(right, axis=1)
    assert off.max() <= CLOSE
    said, before = text[PROMPT:], right[PROMPT - 1 : -1]
    assert (before[np.arange(NEW), said] >= before.max(axis=1) - 2 * np.abs(found - right).max()).all()
    assert (before.argmax(axis=1) == said).mean() > 0.95
    assert len(np.unique(said)) > 3  # not the same few tokens over and over


ALONE = (
    "bitnet, packed",
    "llama, norms inside",
    "llama, bfloat16",
    "qwen3, float16",
    "mistral, float16",
    "llama, yarn",
)


@pytest.mark.parametrize("which", ALONE)
def test_texts_that_transformers_generates_by_itself(which: str, tmp_path: Path) -> None:
    """Nothing is shared but the folder: the same 64 tokens, or up to one where the two best are nearly equal.

    Logits spread by about 1; keys of half precision move them by a thousandth, other roundings to int8 by a hundredth.
    """
    family, dtype, quantisation, changes = MODELS[which]
    save(family, tmp_path, dtype, quantisation, **changes)
    model = RecordedModel(open_checkpoint(tmp_path), best(), threads=2)
    prompt = np.random.default_rng(4).integers(0, SHAPE["vocab_size"], PROMPT)
    said = greedy(model, prompt)[PROMPT:]
    model.close()
    settings = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    answer = reference_of(tmp_path).generate(torch.tensor(prompt)[None], max_new_tokens=NEW, **settings)
    differ = np.flatnonzero(said != answer.sequences[0, PROMPT:].numpy())
    if len(differ):
        best_two = answer.logits[differ[0]].topk(2).values[0]
        assert best_two[0] - best_two[1] < (0.01 if quantisation is None else 0.1), differ
