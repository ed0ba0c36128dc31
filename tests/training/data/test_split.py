"""Which documents are held out: by the source or by their hash, never with a copy on the other side."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_documents import stories
from refusals import refusal

from bitsim.training.data import Documents
from bitsim.training.data.split import HELD_OUT, DocumentStore, fill

Sides = tuple[list[str], list[str]]
texts = st.lists(
    st.sampled_from(["a b", "c d", "e\n\nf", "g", "", " \n", "one two three", "\N{GRINNING FACE}"]), max_size=8
)


@contextmanager
def a_store(folder: Path) -> Iterator[DocumentStore]:
    with DocumentStore(folder / "store") as store:
        yield store


def sides(
    folder: Path, train: list[str], held_out: list[str] | None = None, *, limit: int | None = None
) -> tuple[Sides, list[str]]:
    """Return the documents of both sides, and what was told."""
    told: list[str] = []
    with a_store(folder) as store:
        documents = Documents(iter(train), None if held_out is None else iter(held_out))
        held = fill(store, documents, limit, told.append)
        return (list(store.texts(~held)), list(store.texts(held))), told


def test_about_two_in_a_hundred_documents_are_held_out_by_what_they_say(tmp_path: Path) -> None:
    documents = stories(5000)
    (train, held), told = sides(tmp_path, documents)
    assert sorted(train + held) == sorted(documents)
    assert 0.5 * HELD_OUT < len(held) / len(documents) < 1.5 * HELD_OUT
    assert set(sides(tmp_path, documents[::-1])[0][1]) == set(held), "in another order the same ones"
    assert set(sides(tmp_path, documents[:2500])[0][1]) == set(held) & set(documents[:2500])
    assert "5,000" not in told[-1]
    assert f"{len(held):,} documents" in told[-1]


@given(texts)
def test_no_copy_is_on_the_other_side_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, given: list[str]
) -> None:
    whole = [text for text in given if text.strip()]
    if len(set(whole)) < 2:
        return
    (train, held), _ = sides(tmp_path_factory.getbasetemp(), given)
    assert sorted(train + held) == sorted(whole)
    assert train
    assert held
    assert not set(train) & set(held)


@given(texts, texts)
def test_a_split_of_the_source_stays_but_for_copies(
    tmp_path_factory: pytest.TempPathFactory, train: list[str], held: list[str]
) -> None:
    kept = [text for text in held if text.strip()]
    expected = [text for text in train if text.strip() and text not in kept]
    if not expected or not kept:
        assert refusal(lambda: sides(tmp_path_factory.getbasetemp(), train, held)) is not None
        return
    found, told = sides(tmp_path_factory.getbasetemp(), train, held)
    assert found == (expected, kept)
    dropped = sum(text in kept for text in train)
    assert any(line.startswith(f"{dropped} training documents left out") for line in told) == (dropped > 0)


def test_of_a_single_document_the_last_paragraphs_are_held_out(tmp_path: Path) -> None:
    text = "\n\n".join(stories(200))
    for documents in ([text], [text, "", text]):
        ((train,), (held,)), told = sides(tmp_path, documents)
        assert train + held == text
        assert train.endswith("\n\n")
        assert 0.01 < len(held) / len(text) < 0.05
        assert told == [f"a single document: its end, {len(held):,} bytes, is held out"]


@pytest.mark.parametrize("text", ["word " * 100, "word " * 50 + "\n" * 99, "x" * 100, "中文" * 50, "ab", "line\nline"])
def test_a_document_without_paragraphs_is_cut_elsewhere(tmp_path: Path, text: str) -> None:
    ((train,), (held,)), _ = sides(tmp_path, [text])
    assert train + held == text
    assert train.strip()
    assert held.strip()


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: sides(tmp_path, [])) == "the data holds no text"
    assert refusal(lambda: sides(tmp_path, ["", " \n"])) == "the data holds no text"
    assert refusal(lambda: sides(tmp_path, ["a"])) == "the data holds 1 characters of text: too little to hold some out"
    assert refusal(lambda: sides(tmp_path, ["a"], [" "])) == "the held-out side of the data holds no text"
    assert refusal(lambda: sides(tmp_path, ["a"], ["a"])) == "the training side of the data holds no text"


@given(st.integers(20, 2000))
def test_no_more_is_read_than_the_limit(tmp_path_factory: pytest.TempPathFactory, limit: int) -> None:
    documents = [f"{text}\N{GRINNING FACE}" for text in stories(20)]
    read: list[str] = []

    def stream() -> Iterator[str]:
        for text in documents:
            read.append(text)
            yield text

    with a_store(tmp_path_factory.getbasetemp()) as store:
        fill(store, Documents(stream()), limit, lambda _: None)
        everything = np.ones(len(store), np.bool_)
        kept = "".join(store.texts(everything))
        assert len(kept.encode()) <= limit
        assert "".join(documents).startswith(kept)
        assert len(kept.encode()) > 0.9 * limit - 10
        assert len("".join(read[:-1]).encode()) < limit, "the stream is left where the limit is"


def test_a_limit_holds_for_each_side_of_a_split(tmp_path: Path) -> None:
    (train, held), _ = sides(tmp_path, stories(20), stories(20, 100), limit=1000)
    for documents in (train, held):
        assert 900 < len("".join(documents).encode()) <= 1000


def test_a_document_cut_at_the_limit_is_on_the_side_of_its_copies(tmp_path: Path) -> None:
    for number in range(20):
        cut = stories(1, number)[0]
        documents = [cut, *stories(5, 100), cut]
        room = len("".join(documents).encode()) - 10
        (train, held), _ = sides(tmp_path, documents, limit=room)
        together = train if cut in train else held
        assert sum(text.startswith(f"Story {number}.\n") for text in together) == 2
