"""Files with bytes changed anywhere: an answer or a refusal in one line, never another error."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from refusals import refusal
from small_models import WIDE

from bitsim.runtime.checkpoints import open_checkpoint, quantized, write_gguf, write_hugging_face
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.diagnosis import class_rows, diagnose, read_contents, tensor_rows

ROUNDS = 40


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    changes: dict[str, Any] = WIDE | {"num_hidden_layers": 1, "tie_word_embeddings": True}
    place = tmp_path_factory.mktemp("damaged")
    ternary = quantized(open_checkpoint(small_models.folder(place / "full", "bitnet", None, **changes)))
    write_gguf(ternary, place / "tq2_0.gguf", "tq2_0")
    write_gguf(ternary, place / "i2_s.gguf", "i2_s")
    write_hugging_face(ternary, place / "hf")
    convert_to_packed(ternary, place / "packed")
    return {"tq2_0": place / "tq2_0.gguf", "i2_s": place / "i2_s.gguf", "hf": place / "hf", "packed": place / "packed"}


def look_at(place: Path) -> None:
    contents = read_contents(place)
    rows = [dataclasses.asdict(row) for row in class_rows(contents)]
    rows += [dataclasses.asdict(row) for row in tensor_rows(contents)]
    findings = [dataclasses.asdict(finding) for finding in diagnose(place).findings]
    json.dumps([rows, findings], allow_nan=False)


def flipped(content: bytes, random: np.random.Generator, among: int) -> bytes:
    damaged = bytearray(content)
    for place in random.integers(0, min(among, len(content)), random.integers(1, 6)):
        damaged[place] = random.integers(0, 256)
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("form", ["tq2_0", "i2_s", "packed", "hf", "config.json"])
@pytest.mark.parametrize("among", [2000, 1 << 40])
def test_changed_bytes(places: dict[str, Path], form: str, among: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    source = places["hf" if form == "config.json" else form]
    place = tmp_path / "m"
    copy: Callable[[Path, Path], Any] = shutil.copytree if source.is_dir() else shutil.copy
    copy(source, place)
    file = place / ("config.json" if form == "config.json" else "model.safetensors") if source.is_dir() else place
    content = file.read_bytes()
    for _ in range(ROUNDS):
        file.write_bytes(flipped(content, random, among))
        refusal(lambda: look_at(place))
