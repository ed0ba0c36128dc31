"""Bad input gets one line that says what was expected, exit code 1 or 2, and never a traceback."""

import json
import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bitsim.reports.cli import cli

Run = Callable[..., Result]


def refused(result: Result) -> str:
    """Check that a run was refused as it should be; return the line."""
    assert result.exit_code in (1, 2), (result.exit_code, result.output, result.exception)
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 700
    return result.stderr


CASES = [
    (("estimate",), 2, "--size"),
    (("estimate", "--size", "7B", "--model", "llama-2-7b"), 2, "--size"),
    (("estimate", "--size", "seven"), 1, "size"),
    (("estimate", "--size", "nan"), 1, "size"),
    (("estimate", "--size", "inf"), 1, "size"),
    (("estimate", "--size", "-7B"), 1, "size"),
    (("estimate", "--size", "0"), 1, "size"),
    (("estimate", "--size", "1"), 1, "size"),
    (("estimate", "--size", "1e99"), 1, "size"),
    (("estimate", "--size", "7Q"), 1, "size"),
    (("estimate", "--model", "lama-2-7b"), 1, "did you mean 'llama-2-7b'"),
    (("estimate", "--size", "7B", "--hardware", "raspbery-pi5"), 1, "did you mean 'raspberry-pi-5'"),
    (("estimate", "--size", "7B", "--hardware", "no/such.toml"), 1, "no such file"),
    (("estimate", "--size", "7B", "--scheme", "b158"), 1, "did you mean 'b1.58'"),
    (("estimate", "--size", "7B", "--engine", "lamma.cpp"), 1, "did you mean 'llama.cpp'"),
    (("estimate", "--size", "7B", "--node", "5nm"), 1, "7nm"),
    (("estimate", "--size", "7B", "--region", "mars"), 1, "region"),
    (("estimate", "--size", "7B", "--packing", "3bit"), 1, "packing"),
    (("estimate", "--size", "7B", "--kv-bits", "0"), 1, "1 to 32"),
    (("estimate", "--size", "7B", "--kv-bits", "nan"), 1, "1 to 32"),
    (("estimate", "--size", "7B", "--batch", "0"), 1, "batch"),
    (("estimate", "--size", "7B", "--batch", "-3"), 1, "batch"),
    (("estimate", "--size", "7B", "--batch", "1.5"), 2, "batch"),
    (("estimate", "--size", "7B", "--batch", "nan"), 2, "batch"),
    (("estimate", "--size", "7B", "--prompt-tokens", "-1"), 1, "prompt tokens"),
    (("estimate", "--size", "7B", "--new-tokens", "-1"), 1, "new tokens"),
    (("estimate", "--size", "7B", "--prompt-tokens", "0", "--new-tokens", "0"), 1, "above 0"),
    (("estimate", "--size", "7B", "--context", "100"), 1, "context"),
    (("estimate", "--size", "7B", "--context", "1000000000000"), 1, "context"),
    (("estimate", "--size", "7B", "--devices", "0"), 1, "devices"),
    (("estimate", "--size", "7B", "--threads", "0", "--hardware", "m2"), 1, "threads"),
    (("estimate", "--size", "7B", "--tokens", "-2T"), 2, "tokens"),
    (("estimate", "--size", "7B", "--tokens", "nan"), 2, "tokens"),
    (("estimate", "--size", "7B", "--format", "yaml"), 2, "format"),
    (("estimate", "--size", "7B", "--hardware", "ternary-asic", "--scheme", "fp32"), 1, "fp32_flops_per_s"),
    (("estimate", "--size", "7B", "--energy-table", "no.csv"), 1, "no such file"),
    (("estimate", "--size", "7B", "--training", "--tokens", "2T", "--scheme", "xnor"), 1, "fp16 or b1.58"),
    (("estimate", "--size", "7B", "--training", "--tokens", "2T", "--batch", "4"), 2, "--batch has no meaning"),
    (("estimate", "--size", "7B", "--serving", "--context", "4096"), 2, "--context has no meaning"),
    (("estimate", "--size", "7B", "--serving", "--training"), 2, "--serving has no meaning"),
    (("estimate", "--size", "7B", "--prompt-tokens", "100000000"), 1, "together"),
    (("sweep",), 2, "--size"),
    (("sweep", "--size", "7B", "--batch", "8:1"), 2, "numbers"),
    (("sweep", "--size", "7B", "--batch", "1:x"), 2, "numbers"),
    (("sweep", "--size", "7B", "-o", "here.xlsx"), 2, ".csv or .parquet"),
    (("sweep", "--size", "7B", "--batch", "1:1000000", "--prompt-tokens", "1:1000"), 1, "combinations"),
    (("fit-check",), 2, "hardware"),
    (("fit-check", "--hardware", "rasberry-pi-5"), 1, "raspberry-pi-5"),
    (("hardware", "show", "a100"), 1, "a100-80gb"),
    (("tables", "show", "op_enregy"), 1, "op_energy"),
    (("cite", "joupi2021"), 1, "jouppi2021"),
    (("validate", "--group", "speed"), 2, "speeds"),
    (("estmate",), 2, "estimate"),
]


@pytest.mark.parametrize(
    ("args", "status", "said"), CASES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_request_gets_one_line(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    result = bitsim(*args)
    assert said in refused(result)
    assert result.exit_code == status


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ('{"model_type": "llama", "hidden_size": 4096', "expected JSON"),
        ("[1, 2]", "expected a JSON object"),
        ("{}", "model_type"),
        ('{"model_type": "gpt2"}', "model_type"),
        ('{"model_type": "llama"}', "num_attention_heads"),
        ('{"model_type": ["llama"]}', "model_type"),
        ("[" * 100_000, "expected JSON"),
        ('{"model_type": "llama", "hidden_size": 1e400}', "num_attention_heads"),
        ('{"model_type": "llama", "num_attention_heads": 8, "hidden_size": -5}', "hidden_size"),
        ('{"model_type": "llama", "num_attention_heads": 8, "hidden_size": true}', "hidden_size"),
        ('{"model_type": "llama", "num_attention_heads": 8, "hidden_size": "4096"}', "hidden_size"),
        ('{"a": ' + "9" * 10_000 + "}", "expected JSON"),
    ],
)
def test_damaged_config_json(bitsim: Run, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="utf-8")
    line = refused(bitsim("estimate", "--model", str(path)))
    assert said in line
    assert "config.json" in line


def test_absurd_config_json(bitsim: Run, tmp_path: Path) -> None:
    good = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 2816,
        "vocab_size": 5000,
    }
    path = tmp_path / "config.json"
    for key in list(good)[1:]:
        values: list[object] = [0, -1, 10**12, 2**80, 1.5, None, "x", [], {}]
        for value in values:
            path.write_text(json.dumps(good | {key: value}), encoding="utf-8")
            refused(bitsim("estimate", "--model", str(path)))


def test_gigabyte_of_garbage(bitsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(10**9)  # sparse: takes no room
    assert "16 MiB" in refused(bitsim("estimate", "--model", str(path)))
    assert "16 MiB" in refused(bitsim("estimate", "--model", str(tmp_path)))


def test_binary_garbage_missing_and_unreadable(bitsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(bytes(range(256)) * 10)
    assert "UTF-8" in refused(bitsim("estimate", "--model", str(path)))
    assert "no such file" in refused(bitsim("estimate", "--model", str(tmp_path / "none" / "config.json")))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such file" in refused(bitsim("estimate", "--model", str(empty)))


def test_sweep_writes_whole_files_or_none(bitsim: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    assert bitsim("sweep", "--size", "1B,7B", "--batch", "1:8:*2", "-o", str(target)).exit_code == 0
    assert len(target.read_text(encoding="utf-8").splitlines()) == 1 + 2 * 2 * 4
    refused(bitsim("sweep", "--size", "1B", "-o", str(tmp_path / "no" / "such" / "folder.csv")))
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


OPTIONS = [
    "--size",
    "--model",
    "--scheme",
    "--hardware",
    "--engine",
    "--node",
    "--energy",
    "--batch",
    "--prompt-tokens",
    "--new-tokens",
    "--context",
    "--devices",
    "--split",
    "--threads",
    "--packing",
    "--kv-bits",
    "--tokens",
    "--region",
    "--energy-table",
    "--format",
]
values = st.one_of(
    st.text(alphabet=string.printable, max_size=30),
    st.text(max_size=12),
    st.integers(min_value=-(10**30), max_value=10**30).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "7B",
            "fp16",
            "b1.58",
            "a100-80gb",
            "paper",
            "7nm",
            "",
            "/",
            ".",
            "\0",
            "llama-2-7b",
            "1e400",
            "--",
            "%s",
            "{}",
        ]
    ),
)


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(OPTIONS), values), max_size=4))
@example([("--size", "\0")])
@example([("--model", "\0")])
@example([("--model", "x" * 5000)])
@example([("--hardware", "\0.toml")])
def test_whatever_the_options_there_is_a_result_or_one_line(pairs: list[tuple[str, str]]) -> None:
    args = ["estimate", *(part for pair in pairs for part in pair)]
    result = CliRunner().invoke(cli, args, env={"COLUMNS": "100"})
    if result.exit_code != 0:
        refused(result)
