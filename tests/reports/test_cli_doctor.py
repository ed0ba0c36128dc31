"""bitsim doctor: its exit codes, and the same findings in every format."""

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

from bitsim.runtime.checkpoints import open_checkpoint, write_hugging_face

Run = Callable[..., Result]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    place = small_models.folder(tmp_path / "good", "llama", ONLINE, **WIDE)
    (place / "chat_template.jinja").write_text("{{ messages }}")
    return place


@pytest.fixture
def bad(good: Path, tmp_path: Path) -> Path:
    """Scales that multiply, in a folder that says that they divide."""
    place = tmp_path / "bad"
    write_hugging_face(open_checkpoint(good), place)
    rule = json.loads((place / "config.json").read_text())["quantization_config"]
    change_config(place, quantization_config=rule | {"linear_class": "bitlinear"})
    return place


def test_nothing_to_complain_of(bitsim: Run, good: Path) -> None:
    result = bitsim("doctor", str(good))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{good}: 1 note"  # random weights do not tell the order of their rows
    assert lines[2].startswith("note      rotary-order: ")
    found = json.loads(bitsim("doctor", str(good), "--format", "json").stdout)
    assert found["sound"] is True
    assert [finding["severity"] for finding in found["findings"]] == ["note"]


def test_a_complaint(bitsim: Run, bad: Path, good: Path) -> None:
    result = bitsim("doctor", str(bad))
    assert (result.exit_code, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{bad}: 1 error, 1 note"
    assert lines[1] == ""
    assert lines[2].startswith("error     scale-sense: scales are turned over")
    labels = [line[:10].strip() for line in lines[2:] if line[:1].strip()]
    assert labels == ["error", "evidence", "mend", "note", "evidence", "mend"]
    assert all(line == line.rstrip() and len(line) <= 110 for line in lines[1:])
    assert '"linear_class": "autobitlinear"' in " ".join(line[10:] for line in lines)
    assert "reference" in bitsim("doctor", str(bad), "--against", str(good)).stdout


def test_formats_agree(bitsim: Run, bad: Path) -> None:
    results = {form: bitsim("doctor", str(bad), "--format", form) for form in ("json", "csv", "markdown")}
    assert {result.exit_code for result in results.values()} == {1}
    found = json.loads(results["json"].stdout)
    assert (found["file"], found["sound"], found["measured"]) == (str(bad), False, {})
    assert list(csv.DictReader(io.StringIO(results["csv"].stdout))) == found["findings"]
    lines = results["markdown"].stdout.splitlines()
    assert lines[0] == "| severity | check | what | evidence | mend |"
    assert len(lines) == 2 + len(found["findings"])


def test_a_run(bitsim: Run, tmp_path: Path) -> None:
    place = small_models.folder(tmp_path / "m", "llama", max_position_embeddings=128)
    result = bitsim("doctor", str(place), "--run")
    assert result.exit_code == 1
    assert "warning   no-language: " in result.stdout
    assert "nats a token, as it is" in result.stdout
    (place / "tokenizer.json").unlink()
    result = bitsim("doctor", str(place), "--run")
    assert result.exit_code == 1
    assert "warning   tokenizer: there is no tokenizer" in result.stdout
    assert "note      run: the model was not run" in result.stdout


def test_no_findings_no_rows(bitsim: Run, tmp_path: Path) -> None:
    changes: dict[str, Any] = WIDE | {"num_attention_heads": 16, "num_key_value_heads": 16}
    place = small_models.folder(tmp_path / "m", "llama", **changes)
    (place / "chat_template.jinja").write_text("{{ messages }}")
    found = json.loads(bitsim("doctor", str(place), "--format", "json").stdout)
    checks = [finding["check"] for finding in found["findings"]]
    assert checks in ([], ["rotary-order"])
    assert len(bitsim("doctor", str(place), "--format", "csv").stdout.splitlines()) == (2 if checks else 0)


def test_a_reference_that_is_none(bitsim: Run, good: Path, tmp_path: Path) -> None:
    result = bitsim("doctor", str(good), "--against", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {tmp_path / 'none'}: expected a file, found nothing there\n"
    assert bitsim("doctor", str(good), "--against").exit_code == 2


def test_help(bitsim: Run) -> None:
    text = " ".join(bitsim("doctor", "--help").stdout.split())
    assert "Exit code: 0 if there is nothing to complain of, 1 if there are errors or warnings" in text
    assert "$ bitsim doctor model.gguf --against ./model" in text
