"""What a user may name as data, what is read from it, and what is refused."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_documents import stories, write_lines, write_parquet
from refusals import refusal

from bitsim.training.data import HubSource, LocalSource, find_source
from bitsim.training.data.local_files import read_documents


def read(data: Path | str) -> tuple[list[str], list[str] | None]:
    """Return what a source gives to train on and what it holds out."""
    documents = find_source(str(data)).documents(lambda _: None)
    return list(documents.train), None if documents.held_out is None else list(documents.held_out)


KINDS: list[tuple[str, Callable[[Path, list[str]], object]]] = [
    ("a.parquet", lambda file, texts: write_parquet(file, text=texts, title=["t"] * len(texts))),
    (
        "b.parquet",
        lambda file, texts: write_parquet(file, story=pa.array(texts, pa.large_string()), n=[1] * len(texts)),
    ),
    ("c.parquet", lambda file, texts: write_parquet(file, text=pa.array(texts).dictionary_encode())),
    ("d.jsonl", lambda file, texts: write_lines(file, *({"id": 1, "text": text} for text in texts))),
    ("e.JSON", lambda file, texts: write_lines(file, *({"n": 3, "body": text} for text in texts))),
    ("f.txt", lambda file, texts: file.write_bytes("\r\n<|endoftext|>\n".join(texts).encode())),
]


@pytest.mark.parametrize(("name", "write"), KINDS, ids=[name for name, _ in KINDS])
def test_each_kind_of_file_gives_its_documents(tmp_path: Path, name: str, write: Callable[..., object]) -> None:
    texts = ["one\nand\r\ntwo", "\N{GRINNING FACE} \0 nul", *stories(5)]
    write(tmp_path / name, texts)
    assert read(tmp_path / name) == (texts, None)


def test_rows_without_text_are_passed_over(tmp_path: Path) -> None:
    assert read(write_parquet(tmp_path / "a.parquet", text=["a", None, "b"]))[0] == ["a", "b"]
    assert read(write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": None}, {"text": "b"}))[0] == ["a", "b"]
    (tmp_path / "b.jsonl").write_text('\n{"text": "a"}\n\n  \n{"text": "b"}')
    assert read(tmp_path / "b.jsonl")[0] == ["a", "b"]


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\N{BOM}")))
def test_a_text_file_without_marks_is_one_document_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(text.encode())
    assert list(read_documents(file)) == [text]
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())  # an editor's mark before the text
    assert list(read_documents(file)) == [text]


def test_a_mark_ends_a_document_only_on_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a <|endoftext|> b\n<|endoftext|>\n\nc\n <|endoftext|> \nd")
    assert read(tmp_path / "a.txt")[0] == ["a <|endoftext|> b", "c", "d"]


def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b.txt").write_text("second")
    write_lines(tmp_path / "a.jsonl", {"text": "first"})
    (tmp_path / "sub" / "c.txt").write_text("third")
    (tmp_path / ".hidden" / "d.txt").write_text("unseen")
    (tmp_path / "README.md").write_text("unseen")
    assert read(tmp_path) == (["first", "second", "third"], None)


@pytest.mark.parametrize("held", ["held_out", "validation", "test"])
def test_a_folder_with_a_split_of_its_own_is_split_so_and_nothing_else_is_read(tmp_path: Path, held: str) -> None:
    """The first is the folder of `bitsim corpus`."""
    rows = {"title": ["a"], "source": ["b"], "licence": ["c"]}
    write_parquet(tmp_path / "train.parquet", text=["to train on"], **rows)
    write_parquet(tmp_path / f"{held}.parquet", text=["to measure on"], **rows)
    (tmp_path / "LICENCES.txt").write_text("unseen")
    assert read(tmp_path) == (["to train on"], ["to measure on"])


def test_what_is_there_goes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "a.txt").write_text("here")
    assert isinstance(find_source("owner/name"), LocalSource)
    assert find_source("owner/other") == HubSource("owner/other")
    assert find_source("owner/other:part-1") == HubSource("owner/other", "part-1")


def test_the_same_content_is_the_same_source_whatever_it_is_called(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("some text")
    second.write_text("some text")
    os.utime(second, (0, 0))
    identity = find_source(str(first)).identity()
    assert find_source(str(second)).identity() == identity
    second.write_text("some_text")
    assert find_source(str(second)).identity() != identity
    first.rename(tmp_path / "a.jsonl")
    assert find_source(str(tmp_path / "a.jsonl")).identity() != identity, "it is read in another way"


def test_the_sides_of_a_source_are_part_of_what_it_is(tmp_path: Path) -> None:
    for name, held in (("a", "held_out"), ("b", "train_2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("x")
        (tmp_path / name / f"{held}.txt").write_text("y")
    identities = [find_source(str(tmp_path / name)).identity() for name in "ab"]
    assert identities[0] != identities[1]


def broken_parquet(file: Path, damage: Callable[[bytes], bytes]) -> None:
    write_parquet(file, text=stories(2000))
    file.write_bytes(damage(file.read_bytes()))


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a.csv", lambda file: file.write_text("a,b"), "a.csv: expected a name that ends in .parquet, .jsonl, .json, .txt"),
    ("a.txt", lambda file: file.write_bytes(b"ab\ncd \xff e"), "a.txt:2: expected UTF-8 text, got the byte 0xff"),
    ("u.txt", lambda file: file.write_bytes("text".encode("utf-16")), "u.txt:1: expected UTF-8 text"),
    ("a.jsonl", lambda file: file.write_text('{"text": "a"}\n{"text": "b'), "a.jsonl:2: expected a JSON object on one"),
    (
        "b.jsonl",
        lambda file: file.write_text('{"text": "a"}\n["b"]'),
        "b.jsonl:2: expected a JSON object on each line, g",
    ),
    (
        "c.jsonl",
        lambda file: file.write_text('{"text": "a"}\n{"txt": "b"}'),
        "c.jsonl:2: expected the key 'text', got t",
    ),
    ("d.jsonl", lambda file: file.write_text('{"text": 12}'), "d.jsonl:1: text: expected a string, got int"),
    ("e.jsonl", lambda file: file.write_text('{"text": "\\ud83d"}'), "e.jsonl:1: text: expected text, got half of"),
    ("f.jsonl", lambda file: file.write_text("[" * 100_000), "f.jsonl:1: expected a JSON object on one line"),
    (
        "g.jsonl",
        lambda file: write_lines(file, {"a": "x", "b": "y"}),
        "g.jsonl:1: expected a column 'text' or a single",
    ),
    ("h.jsonl", lambda file: write_lines(file, {}), "got the columns none"),
    ("a.parquet", lambda file: write_parquet(file, a=["x"], b=["y"], c=[1]), "of strings, got the columns a, b, c"),
    ("b.parquet", lambda file: write_parquet(file, text=[1]), "b.parquet: column 'text': expected strings, got int64"),
    ("c.parquet", lambda file: file.write_text("no parquet"), "c.parquet: not a whole parquet file: "),
    ("d.parquet", lambda file: file.write_bytes(b""), "d.parquet: not a whole parquet file: "),
    ("e.parquet", lambda file: broken_parquet(file, lambda old: old[:-100]), "e.parquet: not a whole parquet file: "),
    (
        "f.parquet",
        lambda file: broken_parquet(file, lambda old: old[:40] + bytes(3000) + old[3040:]),
        "f.parquet: not a",
    ),
    (
        "g.parquet",
        lambda file: write_parquet(file, text=pa.array([b"\xff"]).view(pa.string())),
        "g.parquet: not a whole parquet file: ",
    ),
]


@pytest.mark.parametrize(("name", "write", "expected"), FILES, ids=[name for name, _, _ in FILES])
def test_damaged_and_wrong_files_are_refused_by_name_and_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], expected: str
) -> None:
    write(tmp_path / name)
    message = refusal(lambda: read(tmp_path / name))
    assert message is not None
    assert expected in message
    assert name in message


def test_names_of_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    assert refusal(lambda: find_source("storis.txt")) == "storis.txt: no such file; did you mean 'stories.txt'?"
    assert "no such file" in str(refusal(lambda: find_source("folder/missing.jsonl")))
    assert "not the OWNER/NAME of a data set on the hub" in str(refusal(lambda: find_source("cosmopedia")))
    assert "empty: no file in this folder" in str(refusal(lambda: find_source("empty")))
    for name in ("", "a" * 5000, "a\0b", "/dev/null", "a/b/c", "a/b:"):
        assert refusal(partial(find_source, name)) is not None, name


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything may be read here")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x")
    file.chmod(0)
    assert refusal(lambda: read(file)) == f"{file}: Permission denied"


def test_a_file_that_goes_away_while_it_waits_to_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "a.parquet"):
        file = tmp_path / name
        write_parquet(file, text=["x"])
        source = find_source(str(file))
        file.unlink()
        assert refusal(source.identity) == f"{file}: No such file or directory"
        train = source.documents(print).train
        assert refusal(partial(next, train)) is not None


def test_a_long_file_is_read_as_it_goes(tmp_path: Path) -> None:
    """The second line is damaged, and the first is given before that is seen."""
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "first"}) + "\n{")
    assert next(read_documents(file)) == "first"
