"""A data set on the hub, streamed: from a hub on this machine, and with no hub to be reached."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_hub import COMMIT, serving
from huggingface_hub import HfApi
from made_documents import stories
from pyarrow import parquet
from refusals import refusal

from bitsim.training.data import find_source, hub

TRY = """
import json, sys
from bitsim.energy_tables import BitsimError
from bitsim.training.data import find_source
found = []
for name in json.loads(sys.argv[1]):
    try:
        documents = find_source(name).documents(lambda _: None)
        held = None if documents.held_out is None else list(documents.held_out)
        found.append([list(documents.train), held, documents.revision])
    except BitsimError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def table(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def asked(endpoint: str, home: Path, *names: str) -> list[Any]:
    """Ask for data sets in a process of its own: the hub's address is read when its package is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", TRY, json.dumps(names)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_splits_are_streamed_at_the_commit_of_now(tmp_path: Path) -> None:
    files = {
        "train.parquet": table(text=stories(20), n=list(range(20))),
        "test.parquet": table(text=stories(3, 100), n=[1, 2, 3]),
        "README.md": b"---\nlicense: mit\n---\n",
    }
    with serving("owner/two-sides", files) as endpoint:
        names = ["owner/two-sides", "owner/none", "owner/two-sides:nope"]
        both, none, config = asked(endpoint, tmp_path, *names)
    assert both == [stories(20), stories(3, 100), COMMIT]
    assert none.startswith("owner/none: no file or folder here, and no data set on the Hugging Face hub; name a local")
    assert "'nope' not found" in config


@pytest.mark.slow
def test_one_split_is_left_to_be_split_and_json_lines_are_read_too(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"story": text, "n": 1}) + "\n" for text in stories(5))
    with serving("owner/lines", {"train.jsonl": lines.encode()}) as endpoint:
        assert asked(endpoint, tmp_path, "owner/lines") == [[stories(5), None, COMMIT]]


@pytest.mark.slow
def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (message,) = asked("http://127.0.0.1:9", tmp_path, "owner/name")
    assert message.startswith("owner/name: no file or folder here, and the Hugging Face hub can't be reached (")
    assert message.endswith(
        "name a local file or folder (.parquet, .jsonl, .json, .txt) instead, or one made by `bitsim corpus`"
    )


def test_rows_without_text_are_passed_over_and_others_refused() -> None:
    assert list(hub.read_split([{"text": "a"}, {"text": None}, {"text": "b"}], "x")) == ["a", "b"]
    message = refusal(lambda: list(hub.read_split([{"a": "x", "b": "y"}], "x (train)")))
    assert message == "x (train): expected a column 'text' or a single column of strings, got the columns a, b"
    assert "expected strings, got int" in str(refusal(lambda: list(hub.read_split([{"text": 1}], "x"))))
    assert list(hub.read_split([{"text": "a"}, {}], "x")) == ["a"]


def test_a_stream_that_breaks_says_so() -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "a"}
        raise ConnectionResetError("reset\nby peer")

    stream = hub.read_split(rows(), "owner/name (train)")
    assert next(stream) == "a"
    assert refusal(lambda: next(stream)) == "owner/name (train): the stream broke: reset by peer"


def test_a_data_set_without_training_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsim.training.data.documents.revision_of", lambda _: COMMIT)
    monkeypatch.setattr("bitsim.training.data.documents.open_splits", lambda *_: {"test": [], "other": []})
    message = refusal(lambda: find_source("owner/name").documents(lambda _: None))
    assert message == "owner/name: expected a split 'train', got test, other"


def test_a_configuration_that_must_be_named_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']")

    monkeypatch.setattr("datasets.load_dataset", missing)
    message = str(refusal(lambda: hub.open_splits("owner/name", None, COMMIT)))
    assert message.endswith("Please pick one among: ['a', 'b']; write NAME:CONFIGURATION")


def test_whatever_the_network_raises_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[31mtwo\nlines")

    monkeypatch.setattr(HfApi, "dataset_info", failing)
    assert "can't be reached" in str(refusal(lambda: hub.revision_of("owner/name")))
