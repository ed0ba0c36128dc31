"""bitsim convert: round trips through every form, what is refused, and that nothing half-written keeps its name."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from safetensors import safe_open
from small_models import ONLINE, TOKENS, WIDE, assert_same, folder, transformers_logits

from bitsim.reports import model_files
from bitsim.runtime import load
from bitsim.runtime.checkpoints import Checkpoint, Linear, open_checkpoint
from bitsim.runtime.model.assembly import assemble
from bitsim.runtime.model.packed_file import write_packed
from bitsim.runtime.packing import Ternary

Run = Callable[..., Result]
Folders = Callable[[str], Path]
Array = np.ndarray[Any, np.dtype[Any]]

KEYS_IN_FULL = ["lm_head", *(f"model.layers.{layer}.self_attn.k_proj" for layer in range(2))]
NARROW = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_key_value_heads": 3}
MODELS: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    "bitnet": ("bitnet", ONLINE, {"attention_bias": True}),
    "tied": ("bitnet", ONLINE, WIDE | {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", ONLINE, {}),
    "mixed": ("llama", ONLINE | {"modules_to_not_convert": KEYS_IN_FULL}, {}),
    "full": ("llama", None, NARROW),
    "window": ("mistral", ONLINE, WIDE | {"sliding_window": 4}),
    "large": ("llama", ONLINE, {"vocab_size": 4200}),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return a function from one of MODELS to its folder, made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            family, quantization, changes = MODELS[name]
            made[name] = folder(tmp_path_factory.mktemp(name), family, quantization, **changes)
        return made[name]

    return get


def done(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(result: Result, status: int, *said: str) -> None:
    assert result.exit_code == status, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 700
    assert all(words in result.stderr for words in said), result.stderr


def hidden_states(place: Path) -> Array:
    model = load(place, head="exact", threads=1)
    try:
        return model.hidden_states(model.sequence(), TOKENS)
    finally:
        model.close()


@pytest.mark.parametrize("name", ["bitnet", "qwen2", "mixed", "full"])
def test_a_packed_file_runs_as_its_folder_and_goes_back(
    bitsim: Run, folders: Folders, tmp_path: Path, name: str
) -> None:
    source, packed, back = folders(name), tmp_path / "m.safetensors", tmp_path / "back"
    line = done(bitsim("convert", str(source), str(packed)))
    parameters = open_checkpoint(source).config.spec.parameters
    bits = 8 * packed.stat().st_size / parameters
    assert (
        line
        == f"{packed}: packed, {packed.stat().st_size:,} bytes, {bits:.2f} bits per weight with all that is in it\n"
    )
    np.testing.assert_array_equal(hidden_states(packed), hidden_states(source))
    assert_same(open_checkpoint(source), open_checkpoint(packed))
    assert open_checkpoint(packed).text == open_checkpoint(source).text
    assert f"{back}: hf, " in done(bitsim("convert", str(packed), str(back)))
    np.testing.assert_allclose(transformers_logits(back), transformers_logits(source), rtol=1e-4, atol=1e-5)
    done(bitsim("convert", str(packed), str(tmp_path / "again.safetensors")))
    assert (tmp_path / "again.safetensors").read_bytes() == packed.read_bytes()
    assert sorted(place.name for place in tmp_path.iterdir()) == ["again.safetensors", "back", "m.safetensors"]


@pytest.mark.parametrize("to", [None, "tq1_0", "i2_s"])
def test_a_packed_file_becomes_gguf(bitsim: Run, folders: Folders, tmp_path: Path, to: str | None) -> None:
    source, packed, file = folders("tied"), tmp_path / "m.safetensors", tmp_path / "m.gguf"
    done(bitsim("convert", str(source), str(packed)))
    result = bitsim("convert", str(packed), str(file), *(("--to", to) if to else ()), "--format", "json")
    written = json.loads(done(result))
    assert list(written) == ["source", "target", "to", "bytes", "parameters", "bits_per_weight", "seconds"]
    assert (written["source"], written["target"], written["to"]) == (str(packed), str(file), to or "tq2_0")
    assert written["bytes"] == file.stat().st_size
    assert written["bits_per_weight"] == pytest.approx(8 * written["bytes"] / written["parameters"])
    assert_same(open_checkpoint(source), open_checkpoint(file), scales=2**-11)
    # llama.cpp knows no squared ReLU for such models, bitnet.cpp does.
    assert ("Warning: llama.cpp computes SiLU where this model has squared ReLU" in result.stderr) == (to != "i2_s")
    done(bitsim("convert", str(file), str(packed)))  # a file of that name is replaced
    assert_same(open_checkpoint(file), open_checkpoint(packed))


def test_a_window_that_llama_cpp_does_not_keep_to(bitsim: Run, folders: Folders, tmp_path: Path) -> None:
    result = bitsim("convert", str(folders("window")), str(tmp_path / "m.gguf"))
    assert done(result).startswith(str(tmp_path / "m.gguf"))
    assert result.stderr.startswith("Warning: llama.cpp does not keep to this model's window of 4 tokens")
    assert bitsim("convert", str(folders("window")), str(tmp_path / "m.safetensors")).stderr == ""


def test_a_large_vocabulary_gets_a_screen(bitsim: Run, folders: Folders, tmp_path: Path) -> None:
    packed = tmp_path / "m.safetensors"
    done(bitsim("convert", str(folders("large")), str(packed)))
    with safe_open(packed, "np") as file:
        names = list(file.keys())
    assert any(name.startswith("screen.") for name in names)
    screened, exact = load(packed), load(folders("large"))
    assert type(screened.head) is not type(exact.head)
    states = exact.hidden_states(exact.sequence(), TOKENS)
    best = exact.head.logits(states).argmax(axis=1)
    np.testing.assert_array_equal([found.ids[0] for found in screened.head.top(states, 1)], best)
    for model in (screened, exact):
        model.close()


class Varied:
    """A checkpoint with what no folder here has: scales for rows, and norms inside of linear layers."""

    def __init__(self, base: Checkpoint) -> None:
        self.config, self.text, self._base = base.config, base.text, base
        self.embedding, self.head, self.output_norm, self.norm = base.embedding, base.head, base.output_norm, base.norm

    def linear(self, layer: int, name: str) -> Linear:
        linear = self._base.linear(layer, name)
        random: Any = np.random.default_rng(layer)  # numpy's stubs give a float for an array of float32
        assert isinstance(linear.weights, Ternary)
        rows, columns = linear.weights.weights.shape
        scales = random.random((rows, 1), np.float32) if layer else linear.weights.scales
        norm = random.random(columns, np.float32)
        return replace(linear, weights=Ternary(linear.weights.weights, scales), norm=norm, norm_eps=1e-5 * (layer + 1))


@pytest.mark.parametrize("packing", ["trit48", "nibble9", "i2_s", "tq2_0"])
def test_whatever_the_packing_the_checkpoint_is_the_same(folders: Folders, tmp_path: Path, packing: str) -> None:
    checkpoint = Varied(open_checkpoint(folders("tied")))
    write_packed(assemble(checkpoint, packing), None, tmp_path / "m")
    assert_same(checkpoint, open_checkpoint(tmp_path / "m"))


def test_progress_is_told(folders: Folders, tmp_path: Path) -> None:
    told: list[str] = []
    checkpoint = open_checkpoint(folders("large"))
    model_files.write(checkpoint, str(tmp_path / "m"), "hf", told.append)
    assert "layer 2 of 2" in told
    told.clear()
    model_files.write(checkpoint, str(tmp_path / "m.safetensors"), "packed", told.append)
    assert "packing layers, 50%" in told
    assert "screening the head, 100%" in told
    assert told[-1] == "writing"


def test_a_model_that_is_not_ternary(bitsim: Run, folders: Folders, tmp_path: Path) -> None:
    refused(bitsim("convert", str(folders("full")), str(tmp_path / "m.gguf")), 1, "not ternary", "bitsim quantize")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "args", "status", "said"),
    [
        ("m.gguf", ("--to", "packed"), 2, "expected a name that ends in .safetensors for packed"),
        ("m.safetensors", ("--to", "i2_s"), 2, "expected a name that ends in .gguf for i2_s"),
        ("m.gguf", ("--to", "hf"), 2, "expected a folder's name, not one that ends in .gguf for hf"),
        ("m.gguf", ("--to", "tq3_0"), 2, "'tq3_0' is not one of"),
        ("nowhere/m.safetensors", (), 1, "nowhere' is not there"),
        ("nowhere/m", (), 1, "nowhere' is not there"),
        ("taken", (), 1, "taken: expected a name that is free, or an empty folder"),
        ("taken/file", (), 1, "file: expected a name that is free, or an empty folder"),
        ("a.gguf", (), 1, "a.gguf: expected a name for a file, got a folder"),
        ("pipe.gguf", (), 1, "pipe.gguf: expected a name for a file, got what is no file"),
        ("x" * 300 + ".gguf", (), 1, "File name too long"),
        ("zero\0.gguf", (), 1, "expected a name for a file, got one with a zero byte"),
        ("link", (), 1, "is the source itself"),
        ("source/model.safetensors", (), 1, "is a file of the source"),
    ],
)
def test_targets_that_are_refused(
    bitsim: Run, folders: Folders, tmp_path: Path, target: str, args: tuple[str, ...], status: int, said: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folders("tied"), source)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "a.gguf").mkdir()
    (tmp_path / "pipe.gguf").symlink_to("/dev/null")
    (tmp_path / "link").symlink_to(source)
    there = sorted(tmp_path.rglob("*"))
    refused(bitsim("convert", str(source), str(tmp_path / target), *args), status, said)
    assert sorted(tmp_path.rglob("*")) == there


def test_sources_that_are_refused(bitsim: Run, folders: Folders, tmp_path: Path) -> None:
    packed, target = tmp_path / "m.safetensors", str(tmp_path / "new.safetensors")
    done(bitsim("convert", str(folders("tied")), str(packed)))
    refused(bitsim("convert", str(packed), str(packed)), 1, "is the source itself")
    refused(bitsim("convert", str(tmp_path / "none"), target), 1, "expected a file")
    refused(bitsim("convert", str(tmp_path / "zero\0"), target), 1, "expected a file")
    refused(bitsim("convert", str(tmp_path), target), 1, "config.json: No such file")
    weights = folders("tied") / "model.safetensors"
    refused(bitsim("convert", str(weights), target), 1, "weights without their config.json")
    content = packed.read_bytes()
    old = content.replace(b'"version": "1"', b'"version": "0"')
    start = 8 + int.from_bytes(content[:8], "little")
    flipped = bytearray(content)
    flipped[start + json.loads(content[8:start])["matrices"]["data_offsets"][0]] ^= 1
    for damaged in (b"", b"x", b"GGU", content[:100], content[:-1], old, bytes(flipped)):
        packed.write_bytes(damaged)
        refused(bitsim("convert", str(packed), target), 1, str(packed))
    assert [place.name for place in tmp_path.iterdir()] == ["m.safetensors"]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["m.safetensors", "m.gguf", "folder"])
def test_a_full_disk_leaves_nothing(
    bitsim: Run, folders: Folders, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders("tied"), tmp_path / name
    with files_end_at(10_000):
        result = bitsim("convert", str(source), str(target))
    assert result.exit_code == 1
    assert f"Error: {target}: " in result.stderr
    assert "File too large" in result.stderr
    monkeypatch.setattr(model_files, "_free", lambda target: 1000)
    refused(bitsim("convert", str(source), str(target)), 1, "no room: expected at least", "got 1,000")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.gguf", "folder"])
def test_a_conversion_that_is_stopped_leaves_nothing(
    bitsim: Run, folders: Folders, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_files.Followed, "norm", stopped)
    result = bitsim("convert", str(folders("window")), str(tmp_path / name))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: stopped"
    assert list(tmp_path.iterdir()) == []
