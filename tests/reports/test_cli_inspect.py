"""bitsim inspect: the same numbers in every format, what is shown of each form, and what is refused."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_models
from click.testing import Result
from small_models import ONLINE, WIDE
from trained_model import change_config

from bitsim.runtime.checkpoints import open_checkpoint, write_gguf
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.diagnosis import class_rows, read_contents

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes: dict[str, Any] = WIDE | {"tie_word_embeddings": True}
    return small_models.folder(tmp_path_factory.mktemp("inspect") / "m", "bitnet", ONLINE, **changes)


@pytest.fixture(scope="module")
def gguf(folder: Path) -> Path:
    file = folder.parent / "m.gguf"
    write_gguf(open_checkpoint(folder), file, "tq2_0")
    return file


def done(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_the_screen(bitsim: Run, gguf: Path) -> None:
    lines = done(bitsim("inspect", str(gguf))).splitlines()
    assert lines[0] == f"{gguf}: GGUF file, {gguf.stat().st_size:,} bytes"
    assert lines[1] == (
        "bitnet: 2 layers, hidden 256, 4 heads of 64 (2 for keys), feed-forward 512 (relu2), vocabulary 300"
    )
    assert lines[2] == "with sub-norms, the embedding is the head, context 64, rotary base 500,000"
    assert lines[3] == "tokenizer: yes; chat template: no; tokens that end an answer: 2, 263, 265"
    header = lines[5].split()
    assert header[:4] == ["class", "tensors", "format", "weights"]
    (q,) = (line.split() for line in lines if line.startswith("q "))
    assert q[:6] == ["q", "2", "TQ2_0", "131,072", "33,792", "2.06"]
    assert lines[-1].startswith("all ")
    assert all(line == line.rstrip() or "─" in line or line.startswith(("embedding", "norm")) for line in lines[:5])


def test_full_numbers_have_no_empty_columns(bitsim: Run, tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama")
    output = done(bitsim("inspect", str(place)))
    assert "entropy" not in output
    assert "without sub-norms, head of its own" in output
    assert "bits/weight" in output


def test_formats_agree(bitsim: Run, gguf: Path) -> None:
    expected = class_rows(read_contents(gguf))
    table = json.loads(done(bitsim("inspect", str(gguf), "--format", "json")))
    assert table["form"] == "gguf"
    assert table["model"]["spec"]["hidden"] == 256
    assert (table["tokenizer"], table["chat_template"], table["runs"], table["refusals"]) == (True, False, True, {})
    assert [row["bytes"] for row in table["classes"]] == [row.bytes for row in expected]
    assert [row["entropy"] for row in table["classes"]] == [row.entropy for row in expected]
    rows = list(csv.DictReader(io.StringIO(done(bitsim("inspect", str(gguf), "--format", "csv")))))
    assert [int(row["weights"]) for row in rows] == [row.weights for row in expected]
    markdown = done(bitsim("inspect", str(gguf), "--format", "markdown")).splitlines()
    assert len(markdown) == 2 + len(expected)


def test_every_tensor(bitsim: Run, gguf: Path) -> None:
    table = json.loads(done(bitsim("inspect", str(gguf), "--tensors", "--format", "json")))
    names = [row["name"] for row in table["tensors"]]
    assert "classes" not in table
    assert "blk.1.ffn_down.weight" in names
    row = table["tensors"][names.index("blk.1.ffn_down.weight")]
    assert (row["shape"], row["format"], row["tensor_class"]) == ([256, 512], "TQ2_0", "down")
    screen = done(bitsim("inspect", str(gguf), "--tensors"))
    assert all(f"\n{name} " in screen for name in names)
    rows = list(csv.DictReader(io.StringIO(done(bitsim("inspect", str(gguf), "--tensors", "--format", "csv")))))
    assert [row["shape"] for row in rows if row["name"] == "blk.1.ffn_down.weight"] == ["256 x 512"]


def test_other_forms(bitsim: Run, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.safetensors"
    convert_to_packed(open_checkpoint(folder), packed)
    assert "packed file of bitsim" in done(bitsim("inspect", str(packed)))
    table = json.loads(done(bitsim("inspect", str(packed), "--format", "json")))
    assert table["classes"][-1]["weights"] == open_checkpoint(folder).config.spec.parameters
    alone = done(bitsim("inspect", str(folder / "model.safetensors")))
    assert alone.splitlines()[0].startswith(f"{folder / 'model.safetensors'}: safetensors file, ")
    assert "tokenizer" not in alone
    table = json.loads(done(bitsim("inspect", str(folder), "--format", "json")))
    assert table["linear_layers"]["online"] is True


def test_a_model_that_does_not_run(bitsim: Run, tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama")
    change_config(place, hidden_act="gelu")
    output = done(bitsim("inspect", str(place)))
    assert "bitsim does not run it: " in output
    assert "hidden_act: expected one of silu, relu2, got 'gelu'" in output
    assert "embedding" in output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", b"", "the file is empty"),
        ("text", b"hello, this is no model", "it does not begin with GGUF"),
        ("cut.gguf", b"GGUF\x03\0\0\0\x05\0\0\0\0\0\0\0", "truncated"),
        ("folder", None, "config.json: No such file"),
    ],
)
def test_what_is_refused(bitsim: Run, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    place = tmp_path / name
    place.mkdir() if content is None else place.write_bytes(content)
    for command in ("inspect", "doctor"):
        for path in (place, tmp_path / "nothing"):
            result = bitsim(command, str(path))
            assert (result.exit_code, result.stdout) == (1, "")
            assert len(result.stderr.splitlines()) == 1
            assert result.stderr.startswith(f"Error: {path}")
        assert said in bitsim(command, str(place)).stderr
    assert bitsim("inspect").exit_code == 2
