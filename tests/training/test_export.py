"""Train, export, run: the model of torch, transformers on the export, and bitsim's runtime compute the same.

A rounding to int8 that falls the other way, because of float32's last bits, moves the logits by up to a percent or two.
So where the comparison is close, the models of torch are given the runtime's int8 activations, keys and values, each
checked to be the nearest.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from fake_language_model import byte_level_tokenizer, text_rules
from recorded_model import Recorded, RecordedModel
from refusals import refusal
from small_models import assert_same

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or the first unpacking of weights compiles C++ for a minute
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bitsim.runtime.checkpoints import open_checkpoint, write_gguf  # noqa: E402
from bitsim.runtime.checkpoints.safetensors_file import read_safetensors  # noqa: E402
from bitsim.runtime.kernels import best  # noqa: E402
from bitsim.runtime.loading import load  # noqa: E402
from bitsim.simulator import ModelSpec  # noqa: E402
from bitsim.training.bitlinear import BitLinear, bit_linears, set_strength  # noqa: E402
from bitsim.training.export import checkpoint_of, export, export_packed, save_master  # noqa: E402
from bitsim.training.model import build_model  # noqa: E402
from bitsim.training.quantize import Quantization  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]

CLOSE = 1e-4  # relative distance of a token's logits with the same roundings
ROUNDINGS = 0.05  # of all logits with roundings that fall either way
LENGTH = 40
TOKENS = np.random.default_rng(4).integers(0, 300, LENGTH)
SPEC = ModelSpec(
    name="small", architecture="llama", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=300,
    tied_head=True, max_context=64,
)  # fmt: skip
TERNARY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sub-norms": ("b1.58", "sub", {}),
    "norms inside": ("b1.58", "inside", {}),
    "no more norms": ("b1.58", "none", {}),
    "relu2, untied": ("b1.58", "sub", {"activation": "relu2", "tied_head": False}),
    "biases": ("b1.58", "sub", {"qkv_bias": True, "output_bias": True}),
    "binary": ("b1", "sub", {}),
    "binary, norms inside": ("b1", "inside", {}),
}
FULL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "fp16": ("fp16", "none", {}),
    "bf16, untied": ("bf16", "none", {"tied_head": False}),
    "fp16, sub-norms": ("fp16", "sub", {}),
    "fp32": ("fp32", "none", {}),
}
CASES = TERNARY | FULL
BITS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def trained(scheme: str, norms: str, changes: dict[str, Any], rule: Quantization | None = None) -> Any:
    """Take a few steps on random data, from weights large enough that what comes out hangs on what goes in."""
    model: Any = build_model(replace(SPEC, **changes), scheme, seed=3, norms=norms, bos=262, eos=263, quantization=rule)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(4):
        batch = torch.randint(0, 300, (4, 32), generator=generator)
        model(input_ids=batch, labels=batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def round_as_exported(model: Any, scheme: str) -> None:
    """Round what the export rounds: embedding and head, and in a full-precision model of 16 bits everything."""
    for name, parameter in model.named_parameters():
        whole = scheme in BITS
        if whole or (parameter.ndim > 1 and not name.endswith("_proj.weight")):
            parameter.data = parameter.data.to(BITS.get(scheme, torch.float16)).float()


def reference_of(folder: Path) -> Any:
    """Load a folder with transformers, in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(model: Any) -> Array:
    with torch.no_grad():
        found: Array = model(input_ids=torch.tensor(TOKENS)[None]).logits[0].numpy()
    return found


def farthest(one: Array, other: Array) -> float:
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


def distance(one: Array, other: Array) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@contextmanager
def rounding_as(recorded: Recorded, model: Any) -> Iterator[None]:
    """Within the block, let a model of torch round to the int8, keys and values that the runtime rounded to.

    A linear layer is given whole multiples of the token's step, so its own rounding leaves them as they are.
    """
    module: Any = import_module(type(model).__module__)
    attend = module.eager_attention_forward

    def stepped(layer: int, name: str, x: Any) -> Any:
        scale = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        codes = recorded.activations(layer, name, (x * scale)[0].double().numpy())
        return torch.tensor(codes, dtype=torch.float32)[None] / scale

    def attend_kept(layer: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
        pair = (each[0].transpose(0, 1).double().numpy() for each in (key, value))
        kept = recorded.kept(layer.layer_idx, *pair)
        key, value = (torch.tensor(each, dtype=torch.float32).transpose(0, 1)[None] for each in kept)
        return attend(layer, query, key, value, *rest, **named)

    def watch(layer: int, name: str, linear: Any) -> Any:
        if linear.rms_norm is None:
            return linear.register_forward_pre_hook(lambda _, inputs: (stepped(layer, name, inputs[0]),))
        return linear.rms_norm.register_forward_hook(lambda *seen: stepped(layer, name, seen[2]))

    before, model.config._attn_implementation = model.config._attn_implementation, "eager"
    handles = [
        watch(number, name.removesuffix("_proj"), linear)
        for number, layer in enumerate(model.model.layers)
        for block in (layer.self_attn, layer.mlp)
        for name, linear in block.named_children()
        if hasattr(linear, "rms_norm")
    ]
    with patch.object(module, "eager_attention_forward", attend_kept):
        yield
    for handle in handles:
        handle.remove()
    model.config._attn_implementation = before


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    byte_level_tokenizer().save(str(file))
    return file


@pytest.mark.parametrize("which", [*TERNARY, *FULL][:-1])  # not fp32: the runtime keeps matrices in 16 bits
def test_three_ways_to_run_it_agree_closely(which: str, tokenizer: Path, tmp_path: Path) -> None:
    scheme, norms, changes = CASES[which]
    model = trained(scheme, norms, changes)
    assert export(model, scheme, tokenizer, tmp_path / "out") == []
    runtime = RecordedModel(open_checkpoint(tmp_path / "out"), best(), threads=2)
    sequence = runtime.sequence(LENGTH)
    found = runtime.head.logits(runtime.hidden_states(sequence, TOKENS))
    round_as_exported(model, scheme)
    models = {"torch": model, "transformers": reference_of(tmp_path / "out")}
    right = {}
    for name, each in models.items():
        with rounding_as(runtime.rounding(sequence), each):
            right[name] = logits_of(each)
    runtime.close()
    assert farthest(right["torch"], right["transformers"]) <= CLOSE
    assert farthest(found, right["torch"]) <= CLOSE
    assert len(np.unique(found.argmax(axis=1))) > 3


@pytest.mark.parametrize("which", ["sub-norms", "norms inside", "no more norms", "binary", *FULL])
def test_three_ways_to_run_it_agree_with_nothing_shared(which: str, tokenizer: Path, tmp_path: Path) -> None:
    scheme, norms, changes = CASES[which]
    model = trained(scheme, norms, changes)
    export(model, scheme, tokenizer, tmp_path / "out")
    runtime = load(tmp_path / "out", threads=2, head="exact")
    found = runtime.head.logits(runtime.hidden_states(runtime.sequence(LENGTH), TOKENS))
    runtime.close()
    limit = ROUNDINGS if which in TERNARY else 0.02 if scheme == "bf16" else 0.003
    right = logits_of(model)
    assert distance(found, right) <= limit
    assert distance(logits_of(reference_of(tmp_path / "out")), right) <= limit


@pytest.mark.parametrize("which", TERNARY)
def test_packed_weights_are_the_very_ones_that_were_trained(which: str, tokenizer: Path, tmp_path: Path) -> None:
    scheme, norms, changes = TERNARY[which]
    model = trained(scheme, norms, changes)
    export(model, scheme, tokenizer, tmp_path / "out")
    reference = reference_of(tmp_path / "out")
    for name, layer in model.named_modules():
        if isinstance(layer, BitLinear):
            theirs = reference.get_submodule(name)
            torch.testing.assert_close(theirs.weight * theirs.weight_scale, weights_of(layer), rtol=0, atol=0)
    stored, _ = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert {stored[name].kind for name in stored if name.endswith("proj.weight")} == {"U8"}
    if which != "biases":  # in the file each is divided by the scale
        assert_same(open_checkpoint(tmp_path / "out"), checkpoint_of(model, scheme, tokenizer))


def weights_of(layer: BitLinear) -> Any:
    with torch.no_grad():
        return layer.quantization.of_weight(layer.weight)


def test_binary_weights_become_ternary_ones_without_zeros(tokenizer: Path, tmp_path: Path) -> None:
    export(trained("b1", "sub", {}), "b1", tokenizer, tmp_path / "out")
    weights: Any = open_checkpoint(tmp_path / "out").linear(1, "gate").weights
    assert set(np.unique(weights.weights)) == {-1, 1}


@pytest.mark.parametrize(("scheme", "kind"), [("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")])
def test_full_precision_models_are_plain_folders(scheme: str, kind: str, tokenizer: Path, tmp_path: Path) -> None:
    model = trained(scheme, "none", {})
    export(model, scheme, tokenizer, tmp_path / "out")
    stored, _ = read_safetensors(tmp_path / "out" / "model.safetensors")
    assert {tensor.kind for tensor in stored.values()} == {kind}
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    for name, parameter in reference_of(tmp_path / "out").named_parameters():
        rounded = model.get_parameter(name).to(BITS.get(scheme, torch.float32)).float()
        assert torch.equal(parameter, rounded), name


@pytest.mark.parametrize("which", ["sub-norms", "norms inside", "no more norms", "biases", "fp16"])
def test_transformers_reads_the_full_weights_and_rounds_them_as_we_do(
    which: str, tokenizer: Path, tmp_path: Path
) -> None:
    scheme, norms, changes = CASES[which]
    model = trained(scheme, norms, changes)
    save_master(model, tokenizer, tmp_path / "out")
    reference = reference_of(tmp_path / "out")
    theirs = dict(reference.named_parameters())
    assert set(theirs) == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in model.named_parameters())
    assert distance(logits_of(reference), logits_of(model)) <= (ROUNDINGS if which in TERNARY else 0)
    online = reference.train()(input_ids=torch.tensor(TOKENS)[None], labels=torch.tensor(TOKENS)[None])
    online.loss.backward()  # trainable by anyone
    assert all(parameter.grad is not None for parameter in reference.model.layers[0].mlp.parameters())
    assert open_checkpoint(tmp_path / "out").config.spec.hidden == SPEC.hidden


def test_transformers_has_the_tokenizer(tokenizer: Path, tmp_path: Path) -> None:
    model = trained("b1.58", "sub", {})
    export(model, "b1.58", tokenizer, tmp_path / "out")
    save_master(model, tokenizer, tmp_path / "master")
    own = byte_level_tokenizer()
    for folder in (tmp_path / "out", tmp_path / "master"):
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert theirs("the thin thing").input_ids == own.encode("the thin thing").ids
        assert (theirs.bos_token_id, theirs.eos_token_id) == (262, 263)
        text = open_checkpoint(folder).text
        assert (text.bos, text.eos, text.add_bos) == (262, (263,), False)
        assert text.special == {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
        assert (folder / "tokenizer.json").read_bytes() == tokenizer.read_bytes()


def test_rules_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    rules, model = text_rules(byte_level_tokenizer(), add_bos=True), trained("b1.58", "sub", {})
    export(model, "b1.58", rules, tmp_path / "out")
    save_master(model, rules, tmp_path / "master")
    for folder in (tmp_path / "out", tmp_path / "master"):
        text = open_checkpoint(folder).text
        assert (text.chat_template, text.add_bos, text.bos) == (rules.chat_template, True, rules.bos)
        assert set(text.eos) >= {263}


def test_a_gguf_file_of_the_export_runs(tokenizer: Path, tmp_path: Path) -> None:
    wide = {"hidden": 256, "heads": 4, "head_dim": 64, "ffn": 256}
    model = trained("b1.58", "sub", wide)
    export(model, "b1.58", tokenizer, tmp_path / "out")
    write_gguf(open_checkpoint(tmp_path / "out"), tmp_path / "out.gguf", "tq2_0")
    runtime = load(tmp_path / "out.gguf", threads=2, head="exact")
    found = runtime.head.logits(runtime.hidden_states(runtime.sequence(LENGTH), TOKENS))
    runtime.close()
    assert distance(found, logits_of(model)) <= ROUNDINGS


def test_scales_of_rows_go_into_the_packed_file_alone(tokenizer: Path, tmp_path: Path) -> None:
    model = trained("b1.58", "sub", {}, Quantization("ternary", grain="row"))
    assert "one scale a matrix" in (refusal(lambda: export(model, "b1.58", tokenizer, tmp_path / "out")) or "")
    assert list(tmp_path.iterdir()) == []
    assert export_packed(model, "b1.58", tokenizer, tmp_path / "out.safetensors") == []
    runtime = load(tmp_path / "out.safetensors", threads=2, head="exact")
    found = runtime.head.logits(runtime.hidden_states(runtime.sequence(LENGTH), TOKENS))
    runtime.close()
    assert distance(found, logits_of(model)) <= ROUNDINGS


def test_activations_of_4_bits_are_said_to_run_with_8(tokenizer: Path, tmp_path: Path) -> None:
    model = trained("b1.58a4", "sub", {})
    (line,) = export(model, "b1.58a4", tokenizer, tmp_path / "out")
    assert line == "activations were trained with 4 bits; transformers and bitsim run the model with 8"
    for layer in bit_linears(model):
        layer.quantization = replace(layer.quantization, activation_bits=8)
    assert distance(logits_of(reference_of(tmp_path / "out")), logits_of(model)) <= ROUNDINGS


def test_a_warm_up_that_is_not_over_is_told(tokenizer: Path, tmp_path: Path) -> None:
    model = trained("b1.58", "sub", {})
    set_strength(model, 0.5)
    (line,) = export(model, "b1.58", tokenizer, tmp_path / "out")
    assert "warm-up stands at 0.5 of 1" in line


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.embed_tokens.weight", float("nan"), "expected finite numbers"),
        ("model.layers.1.mlp.down_proj.weight", float("inf"), "expected finite numbers"),
        ("model.norm.weight", float("nan"), "expected finite numbers"),
        ("model.embed_tokens.weight", 1e5, "expected numbers that 16 bits hold, got one of 100000"),
    ],
)
def test_numbers_that_have_no_place_are_named(
    name: str, value: float, message: str, tokenizer: Path, tmp_path: Path
) -> None:
    model = trained("b1.58", "sub", {})
    model.get_parameter(name).data.view(-1)[7] = value
    found = refusal(lambda: export(model, "b1.58", tokenizer, tmp_path / "out")) or ""
    assert found.startswith(f"{name}: {message}")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tokenizer: Path, tmp_path: Path) -> None:
    model = trained("b1.58", "sub", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    writers: list[tuple[Any, ...]] = [(export, "b1.58"), (save_master,)]
    calls = [lambda f=first, r=rest: f(model, *r, tokenizer, tmp_path / "full") for first, *rest in writers]
    assert all("expected a name that is free" in (refusal(call) or "") for call in calls)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_tokenizer_that_does_not_fit_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    model = build_model(replace(SPEC, vocab=100), "b1.58", seed=0)
    assert "tokens below 100" in (refusal(lambda: export(model, "b1.58", tokenizer, tmp_path / "out")) or "")
    missing = tmp_path / "none.json"
    assert str(missing) in (refusal(lambda: save_master(model, missing, tmp_path / "out")) or "")
