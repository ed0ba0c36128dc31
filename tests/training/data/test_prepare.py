"""A prepared folder: equal to a slow twin, made once, whole or not at all, and refused where it is damaged."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from made_documents import stories, write_lines, write_parquet
from refusals import refusal
from slow_sequences import tokens_of

from bitsim.training.data import Prepared, find_source, open_prepared, pieces, prepare, tokens
from bitsim.training.data.split import DocumentStore, fill
from bitsim.training.data.tokens import token_type

Array = np.ndarray[Any, np.dtype[Any]]


def silent(_: str) -> None:
    pass


def split_of(data: Path, folder: Path) -> tuple[list[str], list[str]]:
    with DocumentStore(folder / "again") as store:
        held = fill(store, find_source(str(data)).documents(silent), None, silent)
        return list(store.texts(~held)), list(store.texts(held))


def test_tokens_are_those_of_the_slow_twin(story_file: Path, prepared: Prepared, tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(prepared.tokenizer))
    train, held = split_of(story_file, tmp_path)
    assert prepared.train.tolist() == tokens_of(train, tokenizer, prepared.eos)
    assert prepared.held_out.tolist() == tokens_of(held, tokenizer, prepared.eos)
    assert prepared.train_bytes == sum(len(text.encode()) for text in train)
    assert prepared.held_out_bytes == sum(len(text.encode()) for text in held)
    assert (prepared.train_documents, prepared.held_out_documents) == (len(train), len(held))
    assert prepared.documents == 300
    assert prepared.vocab == 400
    assert prepared.train.dtype == np.uint16


@pytest.mark.parametrize(("piece", "batch"), [(50, 120), (100_000, 1), (1000, 10**6)])
def test_pieces_and_batches_change_nothing(
    story_file: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, batch: int
) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    monkeypatch.setattr(tokens, "_BATCH", batch)
    again = prepare(str(story_file), tmp_path / "data", tokenizer=prepared.tokenizer, tell=silent)
    assert again.train.tolist() == prepared.train.tolist()
    assert again.hash == prepared.hash


def test_the_tokenizer_has_seen_training_documents_alone(tmp_path: Path) -> None:
    for name, word in (("train", "common"), ("held_out", "unseen")):
        write_parquet(tmp_path / f"{name}.parquet", text=[f"{word} {word} {word} {number}" for number in range(50)])
    made = prepare(str(tmp_path), tmp_path / "out" / "data", vocab=300, tell=silent)
    vocabulary = tokenizers.Tokenizer.from_file(str(made.tokenizer)).get_vocab()
    assert "Ġcommon" in vocabulary
    assert "Ġunseen" not in vocabulary
    assert made.held_out_documents == 50


def test_the_same_request_is_opened_without_work(story_file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    first = prepare(str(story_file), tmp_path / "data", vocab=300, limit=20_000, tell=told.append)
    assert len(told) == 5
    copy = tmp_path / "renamed.parquet"
    shutil.copy(story_file, copy)
    before = {file: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    second = prepare(str(copy), tmp_path / "data", vocab=300, limit=20_000, tell=told.append)
    assert told[5:] == [f"{tmp_path / 'data'} holds these tokens already"]
    assert {file: file.stat().st_mtime_ns for file in second.folder.iterdir()} == before
    assert second.hash == first.hash == open_prepared(tmp_path / "data", check=True).hash


@pytest.mark.parametrize(
    ("changes", "named"), [({"vocab": 301}, "vocab"), ({"limit": 9000}, "limit"), ({"data": "other"}, "source")]
)
def test_another_request_is_refused(prepared: Prepared, story_file: Path, changes: dict[str, Any], named: str) -> None:
    options: dict[str, Any] = {"data": str(story_file), "vocab": 400, "limit": None} | changes
    if "data" in changes:
        other = write_lines(prepared.folder.parent / "other.jsonl", {"text": "a b"}, {"text": "c"})
        options["data"] = str(other)
    message = refusal(lambda: prepare(options.pop("data"), prepared.folder, tell=silent, **options))
    assert message == f"{prepared.folder}: holds tokens made with another {named}; name another folder or remove it"


def test_what_is_on_the_hub_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": text} for text in stories(100)]
    monkeypatch.setattr("bitsim.training.data.documents.revision_of", lambda _: "abc")
    monkeypatch.setattr("bitsim.training.data.documents.open_splits", lambda *_: {"train": rows})
    made = prepare("owner/name", tmp_path / "data", vocab=300, tell=silent)
    assert made.source["revision"] == "abc"
    monkeypatch.undo()
    assert prepare("owner/name", tmp_path / "data", vocab=300, tell=silent).hash == made.hash
    assert "source" in str(refusal(lambda: prepare("owner/name:b", tmp_path / "data", vocab=300, tell=silent)))


def test_the_hash_says_which_text_and_tokenizer(tmp_path: Path) -> None:
    made: dict[str, Prepared] = {}
    for name, texts, vocab in (("a", 50, 300), ("b", 51, 300), ("c", 50, 301)):
        file = write_parquet(tmp_path / f"{name}.parquet", text=stories(texts))
        made[name] = prepare(str(file), tmp_path / name, vocab=vocab, tell=silent)
    assert len({one.hash for one in made.values()}) == 3
    assert made["a"].text_hash == made["c"].text_hash != made["b"].text_hash
    about = json.loads((tmp_path / "a" / "data.json").read_text())
    assert about["train"]["tokens_sha256"] == hashlib.sha256(made["a"].train.tobytes()).hexdigest()


def test_wide_vocabularies_take_wide_tokens(tmp_path: Path) -> None:
    words = {f"w{number}": number for number in range(70_000)} | {"</s>": 70_000}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "w0"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file = write_lines(tmp_path / "a.jsonl", *({"text": f"w69999 w{number}"} for number in range(20)))
    made = prepare(str(file), tmp_path / "data", tokenizer=inner.to_str().encode(), tell=silent)
    assert made.train.dtype == made.held_out.dtype == np.uint32
    assert made.vocab == 70_001
    assert made.train[:3:2].tolist() == [69_999, 70_000]
    assert [token_type(vocab).itemsize for vocab in (2**16, 2**16 + 1)] == [2, 4]


def test_a_tokenizer_that_fails_is_a_refusal(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "</s>": 1}, "missing"))
    file = write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    run = lambda: prepare(str(file), tmp_path / "data", tokenizer=inner.to_str().encode(), tell=silent)  # noqa: E731
    assert "the tokenizer fails" in str(refusal(run))
    assert not (tmp_path / "data").exists()


def test_requests_that_make_no_sense_are_refused(story_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "data"
    assert "expected the size of a vocabulary" in str(refusal(lambda: prepare(str(story_file), place, tell=silent)))
    for limit in (0, -1):
        run = lambda limit=limit: prepare(str(story_file), place, vocab=300, limit=limit, tell=silent)  # noqa: E731
        assert f"limit: expected at least 1 byte of text, got {limit}" in str(refusal(run))
    assert "vocabulary" in str(refusal(lambda: prepare(str(story_file), place, vocab=3, tell=silent)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    message = refusal(lambda: prepare(str(story_file), tmp_path / "full", vocab=300, tell=silent))
    assert message == f"{tmp_path / 'full'}: expected a name that is free, or an empty folder"
    under_a_file = tmp_path / "full" / "file" / "data"
    assert refusal(lambda: prepare(str(story_file), under_a_file, vocab=300, tell=silent)) is not None


def test_nothing_is_left_of_a_folder_that_could_not_be_finished(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text in stories(100)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "{"]))
    assert "a.jsonl:101" in str(
        refusal(lambda: prepare(str(tmp_path / "a.jsonl"), tmp_path / "d", vocab=300, tell=silent))
    )
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_full_disk_is_a_refusal(tmp_path: Path, story_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bitsim.training.data.prepared.write_tokens", full)
    message = refusal(lambda: prepare(str(story_file), tmp_path / "data", vocab=300, tell=silent))
    assert message == f"{tmp_path / 'data'}: No space left on device"
    assert not list(tmp_path.iterdir())


def test_of_two_who_prepare_the_same_at_once_the_second_takes_what_is_there(
    tmp_path: Path, prepared: Prepared, story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_is_done(*_: object) -> Any:
        shutil.copytree(prepared.folder, tmp_path / "data", dirs_exist_ok=True)
        return tokens.write_tokens(*_)  # type: ignore[arg-type]

    monkeypatch.setattr("bitsim.training.data.prepared.write_tokens", first_is_done)
    assert prepare(str(story_file), tmp_path / "data", vocab=400, tell=silent).hash == prepared.hash


def change(folder: Path, key: str, value: object) -> None:
    file = folder / "data.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", shutil.rmtree, "data.json: No such file"),
    ("no json", lambda folder: (folder / "data.json").write_text("{"), "data.json: not JSON"),
    ("version", lambda folder: change(folder, "version", 2), "data.json: version: expected 1, got 2"),
    ("vocab", lambda folder: change(folder, "vocab", "x"), "data.json: vocab: expected a whole number"),
    ("side", lambda folder: change(folder, "train", None), "data.json: train: expected text_sha256"),
    ("eos", lambda folder: change(folder, "eos", 400), "data.json: eos: expected a token below 400, got 400"),
    ("tokenizer", lambda folder: flip(folder / "tokenizer.json"), "tokenizer.json: not the tokenizer that the tokens"),
    ("no tokens", lambda folder: (folder / "train.tokens").unlink(), "train.tokens: No such file"),
    ("short", lambda folder: (folder / "held_out.tokens").write_bytes(b"ab"), "held_out.tokens: expected "),
]


@pytest.mark.parametrize(("damage", "expected"), [entry[1:] for entry in DAMAGES], ids=[entry[0] for entry in DAMAGES])
def test_damaged_folders_are_refused(
    prepared: Prepared, tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared.folder, folder)
    damage(folder)
    assert expected in str(refusal(lambda: open_prepared(folder)))


def test_changed_tokens_are_found_where_asked(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared.folder, folder)
    flip(folder / "train.tokens")
    open_prepared(folder)
    assert "train.tokens: its content is not what was written" in str(
        refusal(lambda: open_prepared(folder, check=True))
    )


def test_tokens_are_mapped_to_be_read_alone(prepared: Prepared) -> None:
    assert isinstance(prepared.train, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        prepared.train[0] = 1
