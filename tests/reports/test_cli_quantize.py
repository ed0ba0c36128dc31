"""bitsim quantize: what it writes is the model made ternary, and its perplexities are those of both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from small_models import ONLINE, WIDE, assert_same, folder, transformers_logits

from bitsim.runtime.checkpoints import Checkpoint, Dense, open_checkpoint, quantized
from bitsim.runtime.generation import Perplexity, perplexity
from bitsim.runtime.loading import run_checkpoint

Run = Callable[..., Result]
TEXT = "the thing in the heath; then the other thing, thinner than the rest, and nothing. " * 3
KEYS = ["source", "grain", "group", "target", "to", "bytes", "parameters", "bits_per_weight", "seconds", "text"]
KEYS += ["tokens", "context", "loss_before", "loss_after", "perplexity_before", "perplexity_after"]
KEYS += ["bits_per_byte_before", "bits_per_byte_after"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("full"), "llama", None, **WIDE)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("online"), "llama", ONLINE, **WIDE)


def refused(result: Result, status: int, said: str) -> None:
    assert result.exit_code == status, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


@pytest.mark.parametrize(
    ("name", "args", "grain", "group"),
    [
        ("m.safetensors", (), "tensor", None),
        ("m.safetensors", ("--grain", "row"), "row", None),
        ("m.gguf", ("--grain", "group", "--group", "256", "--to", "tq1_0"), "group", 256),
        ("m.gguf", ("--grain", "row"), "row", None),
        ("m", (), "tensor", None),
    ],
)
def test_what_is_written_is_the_model_made_ternary(
    bitsim: Run, full: Path, tmp_path: Path, name: str, args: tuple[str, ...], grain: str, group: int | None
) -> None:
    target = tmp_path / name
    result = bitsim("quantize", str(full), str(target), *args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{target}: ")
    expected = quantized(open_checkpoint(full), grain, group)
    assert_same(expected, open_checkpoint(target), scales=2**-11 if name == "m.gguf" else 0.0)
    assert [place.name for place in tmp_path.iterdir()] == [name]


def test_transformers_runs_it(bitsim: Run, full: Path, online: Path, tmp_path: Path) -> None:
    assert bitsim("quantize", str(full), str(tmp_path / "m")).exit_code == 0
    np.testing.assert_allclose(transformers_logits(tmp_path / "m"), transformers_logits(online), rtol=1e-4, atol=1e-5)


def test_groups_have_no_kernel(bitsim: Run, full: Path, tmp_path: Path) -> None:
    result = bitsim("quantize", str(full), str(tmp_path / "m.safetensors"), "--grain", "group")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: no kernel has scales for groups")
    weights = open_checkpoint(tmp_path / "m.safetensors").linear(0, "down").weights
    expected = quantized(open_checkpoint(full), "group", 128).linear(0, "down").weights
    assert isinstance(weights, Dense)
    assert not isinstance(expected, Dense)
    np.testing.assert_allclose(weights.as_float32(), expected.dequantised(), rtol=2**-11)


def measured(checkpoint: Checkpoint) -> Perplexity:
    model = run_checkpoint(checkpoint)
    try:
        return perplexity(model, TEXT)
    finally:
        model.close()


def test_perplexity_before_and_after(bitsim: Run, full: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(TEXT)
    args = ("quantize", str(full), str(tmp_path / "m.safetensors"), "--grain", "row", "--text", str(text))
    outcome = bitsim(*args, "--format", "json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    result: dict[str, Any] = json.loads(outcome.stdout)
    assert list(result) == KEYS
    checkpoint = open_checkpoint(full)
    for model, found in (("before", measured(checkpoint)), ("after", measured(quantized(checkpoint, "row")))):
        assert result[f"loss_{model}"] == pytest.approx(found.loss)
        assert result[f"perplexity_{model}"] == pytest.approx(found.perplexity)
        assert result[f"bits_per_byte_{model}"] == pytest.approx(found.bits_per_byte)
        assert (result["tokens"], result["context"]) == (found.tokens, found.context)
    assert result["perplexity_before"] != pytest.approx(result["perplexity_after"])
    lines = bitsim(*args).stdout.splitlines()
    assert lines[0].split() == ["model", "perplexity", "bits", "per", "byte", "nats", "per", "token"]
    assert [line.split()[:2] for line in lines[2:4]] == [
        ["original", f"{result['perplexity_before']:,.4f}"],
        ["ternary", f"{result['perplexity_after']:,.4f}"],
    ]
    assert lines[-1].startswith(f"{tmp_path / 'm.safetensors'}: packed, ")
    assert bitsim(*args, "--format", "csv").stdout.splitlines()[0] == ",".join(KEYS)


def test_without_a_text_there_is_no_perplexity(bitsim: Run, full: Path, tmp_path: Path) -> None:
    result = json.loads(bitsim("quantize", str(full), str(tmp_path / "m.gguf"), "--format", "json").stdout)
    assert list(result) == KEYS
    assert {result[key] for key in KEYS[9:]} == {None}
    assert (result["grain"], result["group"], result["to"]) == ("tensor", None, "tq2_0")


@pytest.mark.parametrize(
    ("target", "args", "status", "said"),
    [
        ("m.gguf", ("--group", "256"), 2, "--group goes with --grain group"),
        ("m.gguf", ("--grain", "group", "--group", "0"), 2, "--group"),
        ("m.gguf", ("--grain", "block"), 2, "'block' is not one of"),
        ("m.gguf", ("--grain", "group"), 2, "tq2_0 holds one scale for 256 columns: --group 256"),
        ("m.gguf", ("--grain", "row", "--to", "i2_s"), 2, "i2_s holds one scale for a matrix"),
        ("m", ("--grain", "row"), 2, "hf holds one scale for a matrix"),
        ("m.safetensors", ("--grain", "group", "--group", "100"), 1, "group: expected a divisor of the 256 columns"),
        ("nowhere/m.gguf", (), 1, "nowhere' is not there"),
        ("m.gguf", ("--text", "no such file"), 1, "no such file"),
        ("m.gguf", ("--text", "short"), 1, "less than two tokens"),
    ],
)
def test_bad_requests_write_nothing(
    bitsim: Run,
    full: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    args: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("a")
    refused(bitsim("quantize", str(full), target, *args), status, said)
    assert [place.name for place in tmp_path.iterdir()] == ["short"]


def test_a_model_that_is_ternary_already(bitsim: Run, online: Path, tmp_path: Path) -> None:
    refused(bitsim("quantize", str(online), str(tmp_path / "m.gguf")), 1, "ternary already: bitsim convert")
    assert list(tmp_path.iterdir()) == []
