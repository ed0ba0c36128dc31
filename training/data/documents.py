"""From what a user names to streams of documents: a data set on the hub, a folder or a file."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

from .hub import open_splits, read_split, revision_of
from .local_files import is_readable, read_documents, readable

DEFAULT_DATA = "abideen/Cosmopedia-100k-pretrain"  # what the study of the two twins trained on
_HELD_OUT = ("held_out", "validation", "valid", "dev", "test")  # names of a split for measuring, the best first
_HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Documents:
    """Streams of documents, each to be read once.

    Attributes:
        train: to train on; without a `held_out` some of them are still to be kept apart.
        held_out: to measure on, where the source says itself which those are.
        revision: the hub's commit that they are of.
    """

    train: Iterator[str]
    held_out: Iterator[str] | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files on this machine; `held_out` is empty where they have no split of their own."""

    name: str
    train: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return what tells this source from others: the content of its files, whatever their names."""
        whole = hashlib.sha256()
        for side in (self.train, self.held_out):
            whole.update(len(side).to_bytes(8, "little"))
            for file in side:
                whole.update(file.suffix.lower().encode().ljust(16, b"\0") + _file_hash(file))
        return {"kind": "files", "sha256": whole.hexdigest()}

    def documents(self, tell: Tell) -> Documents:
        """Return the documents."""
        tell(f"reading {self.name}")
        return Documents(_read_all(self.train), _read_all(self.held_out) if self.held_out else None)


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the Hugging Face hub."""

    name: str
    config: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return what tells this source from others: the name alone, so that no network is needed to compare it."""
        return {"kind": "hub", "name": self.name, "config": self.config}

    def documents(self, tell: Tell) -> Documents:
        """Return the documents as they are on the hub now.

        Raises:
            BitsimError: the hub can't be reached, or the data set has no such configuration or no split `train`.
        """
        revision = revision_of(self.name)
        tell(f"reading {self.name} from the Hugging Face hub, commit {revision}")
        splits = open_splits(self.name, self.config, revision)
        if "train" not in splits:
            raise BitsimError(f"{self.name}: expected a split 'train', got {', '.join(splits)}")
        held = next((name for name in _HELD_OUT if name in splits), None)
        streams = {name: read_split(splits[name], f"{self.name} ({name})") for name in ("train", held) if name}
        return Documents(streams["train"], streams[held] if held else None, revision)


Source = LocalSource | HubSource


def find_source(data: str) -> Source:
    """Return where the documents are that a user names.

    Args:
        data: a .parquet, .jsonl, .json (one object a line) or .txt file; a folder of such; or a data set on the hub as
            OWNER/NAME or OWNER/NAME:CONFIGURATION. A file or folder that is there goes before the hub.

            A folder with a file `train` and one called `held_out` (or `validation`, `valid`, `dev`, `test`), as
            `bitsim corpus` makes it, is split as it is; nothing else in it is read.

    Raises:
        BitsimError: nothing is there, or nothing that documents can be read from.
    """
    if not data:
        raise BitsimError("data: expected a file, a folder or a data set on the hub, got an empty name")
    place = Path(data)
    try:
        if place.is_dir():
            return _folder(data, place)
        if place.exists():
            return _file(data, place)
    except OSError as error:
        raise BitsimError(f"{data}: {error.strerror or error}") from error
    if is_readable(place):
        raise BitsimError(f"{data}: no such file{suggestion(place.name, _names(place.parent))}")
    named = _HUB_NAME.fullmatch(data)
    if named is None:
        near = suggestion(place.name, _names(place.parent))
        raise BitsimError(f"{data}: no such file or folder, and not the OWNER/NAME of a data set on the hub{near}")
    return HubSource(named[1], named[2])


def _file(data: str, file: Path) -> LocalSource:
    if not is_readable(file):
        raise BitsimError(f"{data}: expected a name that ends in {readable()}")
    return LocalSource(data, (file,))


def _folder(data: str, folder: Path) -> LocalSource:
    found = (file for file in folder.rglob("*") if file.is_file() and is_readable(file))
    files = sorted(file for file in found if not _hidden(file, folder))
    if not files:
        raise BitsimError(f"{data}: no file in this folder that documents can be read from ({readable()})")
    split = {file.stem.lower(): file for file in reversed(files) if file.parent == folder}
    held = next((split[name] for name in _HELD_OUT if name in split), None)
    if held is not None and "train" in split:
        return LocalSource(data, (split["train"],), (held,))
    return LocalSource(data, tuple(files))


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _read_all(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        yield from read_documents(file)


def _file_hash(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").digest()
    except OSError as error:
        raise BitsimError(f"{file}: {error.strerror or error}") from error
