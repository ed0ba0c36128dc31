"""Files read out of archives."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.training.corpus.archives import read_archive

FILES = {"data/texts/b.txt": b"two", "data/texts/a.txt": b"one", "data/code.py": b"no"}
Make = Callable[..., Path]


def check(archive: Path) -> None:
    read = read_archive(archive, ("*/texts/*.txt",))
    assert list(read.items()) == [("data/texts/a.txt", b"one"), ("data/texts/b.txt", b"two")]
    with pytest.raises(BitsimError, match=f"{archive.name}: expected files named .*poems"):
        read_archive(archive, ("*/texts/*.txt", "*/poems/*.txt"))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(BitsimError, match=rf"{archive.name}: damaged \(.*delete it"):
        read_archive(archive, ("*/texts/*.txt",))


def test_a_wheel(wheel: Make) -> None:
    check(wheel("texts", "1.0", FILES))


def test_a_source_archive(source_archive: Make) -> None:
    check(source_archive("texts-1.0", FILES))


def test_a_debian_package(debian: Make) -> None:
    check(debian("texts", "1.0-1", FILES))


def test_a_debian_package_without_debian(debian: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = debian("texts", "1.0-1", FILES)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BitsimError, match=rf"{archive.name}: dpkg-deb is needed"):
        read_archive(archive, ("*.txt",))


def test_an_empty_file(tmp_path: Path) -> None:
    archive = tmp_path / "texts-1.0.tar.gz"
    archive.touch()
    with pytest.raises(BitsimError, match="damaged"):
        read_archive(archive, ("*.txt",))
