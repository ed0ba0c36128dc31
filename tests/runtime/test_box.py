"""The model in the box runs, is the run that its card names, and the card says what the records say."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitsim.runtime import load
from bitsim.runtime.box import FOLDER, NAME, model_path
from bitsim.runtime.checkpoints import open_checkpoint
from bitsim.runtime.diagnosis import diagnose
from bitsim.simulator.resolve import resolve_model

RESULTS = Path(__file__).parents[2] / "training" / "results"
CARD = (FOLDER.parent / "README.md").read_text()


def row(name: str) -> list[str]:
    """Return the cells of a row of the card's table."""
    (found,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \| (.*) \|$", CARD, re.MULTILINE)
    return list(found)


def records() -> list[dict[str, Any]]:
    """Return the records of the two runs that the card names, the ternary one first."""
    return [json.loads((RESULTS / run / "record.json").read_text()) for run in row("run (`training/results`)")]


def test_the_card_says_what_the_records_say() -> None:
    ternary, full = records()
    assert (ternary["scheme"], full["scheme"]) == ("b1.58", "fp16")
    assert Path(ternary["start"]).parent.name == full["run"]
    same = ("parameters", "layers", "hidden", "heads", "ffn", "vocab", "context", "data_hash", "tokenizer_hash", "seed")
    assert [ternary[name] for name in same] == [full[name] for name in same]
    assert row("tokens trained on") == [
        f"{full['tokens']:,} in FP16, then {ternary['tokens']:,}",
        f"{full['tokens']:,}",
    ]
    for place, record in enumerate((ternary, full)):
        assert row("parameters, without embedding")[place] == f"{record['parameters']:,}, {record['non_embedding']:,}"
        assert row("held-out loss, nats per token")[place] == f"{record['held_out_loss']:.4f}"
        assert row("held-out bits per byte")[place] == f"{record['bits_per_byte']:.4f}"


def test_the_model_has_the_shape_of_its_run_and_of_the_preset() -> None:
    record, spec, preset = records()[0], open_checkpoint(NAME).config.spec, resolve_model(NAME)
    for shape in (spec, preset):
        assert (shape.layers, shape.hidden, shape.heads, shape.ffn, shape.vocab) == tuple(
            record[name] for name in ("layers", "hidden", "heads", "ffn", "vocab")
        )
    assert replace(spec, name=NAME) == replace(preset, sources=())


def test_it_goes_on_with_a_text() -> None:
    model = load(threads=1)
    pieces = list(model.generate("It is a truth", max_new_tokens=40, temperature=0.8, top_k=40, seed=1))
    text = "".join(piece.text for piece in pieces)
    words = re.findall("[a-z]+", text.lower())
    assert len(words) > 15
    assert {"the", "and", "of", "to", "a", "in", "that", "he", "is", "it"} & set(words)
    model.close()


def test_box_is_the_box_whatever_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box").mkdir()
    assert model_path("box") == FOLDER
    assert model_path("./box") == Path("box")
    assert model_path(Path("box")) == Path("box")
    assert model_path("elsewhere") == Path("elsewhere")


def test_the_doctor_finds_nothing_wrong_with_it() -> None:
    assert [finding.check for finding in diagnose(NAME).findings if finding.severity != "note"] == []
