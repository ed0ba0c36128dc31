"""bitsim bench --model on a small random model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bitsim.runtime import measure_model
from bitsim.runtime.checkpoints.random_weights import RandomCheckpoint
from bitsim.runtime.conversion import convert_to_packed
from bitsim.simulator.model_spec import ModelSpec

Run = Callable[..., Result]
SPEC = ModelSpec(
    name="small",
    architecture="bitnet",
    layers=2,
    hidden=96,
    heads=3,
    kv_heads=1,
    head_dim=32,
    ffn=160,
    vocab=400,
    tied_head=True,
    activation="relu2",
    sub_norms=True,
    max_context=512,
)
SHORT = ("--prompt-tokens", "20", "--new-tokens", "3", "--rounds", "1")


@pytest.fixture(autouse=True)
def small_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_model, "working_set", lambda: 1 << 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    convert_to_packed(RandomCheckpoint(SPEC, ternary=True), path)
    return path


def test_json_keeps_the_contract(bitsim: Run, model: Path) -> None:
    result: dict[str, Any] = json.loads(
        bitsim("bench", "--model", str(model), *SHORT, "--threads", "1,2", "--batch", "2", "--format", "json").stdout
    )
    assert {"cpu", "isa", "kernel", "read_bandwidth_bytes_per_s"} <= set(result["machine"])
    assert result["model"]["head"] == "ExactHead"
    assert [(row["phase"], row["threads"], row["tokens"], row["context"]) for row in result["results"]] == [
        (phase, threads, tokens, 23 if phase == "decode" else 20)
        for threads in (1, 2)
        for phase, tokens in (("prefill", 40), ("decode", 6))
    ]
    for row in result["results"]:
        assert row["batch"] == 2
        assert row["tokens_per_s"] > 0
        assert row["peak_rss_bytes"] > 10_000_000
        assert row["energy_j_per_token"] == "unavailable" or row["energy_j_per_token"] > 0
        read = result["machine"]["read_bandwidth_bytes_per_s"][str(row["threads"])]
        expected = row["bytes_per_token"] * row["tokens_per_s"] / read
        assert row["fraction_of_read_bandwidth"] == pytest.approx(expected)


def test_bytes_of_a_token_are_weights_head_and_cache(bitsim: Run, model: Path) -> None:
    result = json.loads(bitsim("bench", "--model", str(model), *SHORT, "--threads", "1", "--format", "json").stdout)
    decode = result["results"][1]
    head = SPEC.vocab * SPEC.hidden * 2
    cache = 2 * SPEC.layers * SPEC.head_dim * 2 * (21 + 22 + 23) / 3  # keys and values of each position, in two bytes
    assert decode["bytes_per_token"] == pytest.approx(result["model"]["weight_bytes"] + head + cache)


def test_screen_and_other_options(bitsim: Run, model: Path) -> None:
    options = ("--threads", "1", "--head", "int8", "--kv", "int8")
    screen = bitsim("bench", "--model", str(model), *SHORT, *options).stdout
    assert "prefill" in screen
    assert "decode" in screen
    assert "without the int8 head" in " ".join(screen.split())


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("--kernels", "--model", "x"), 2, "say what to time"),
        (("--model", "bitnet-125x"), 1, "bitnet-125M"),
        (("--model", "bitnet-125M"), 1, "the activation 'gelu' can be estimated, but not run"),
        (("--model", "llama-2-7b", "--scheme", "b1"), 1, "--scheme: expected fp16 or b1.58"),
        (("--model", "llama-2-7b", "--kv", "int4"), 2, "int4"),
    ],
)
def test_wrong_arguments(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    outcome = bitsim("bench", *args)
    assert outcome.exit_code == status
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_a_damaged_file(bitsim: Run, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model.read_bytes()[:-5000])
    outcome = bitsim("bench", "--model", str(broken))
    assert outcome.exit_code == 1
    assert "broken.safetensors" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
