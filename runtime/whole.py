"""Files and folders that are there whole or not at all: written under another name, renamed when complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bitsim.energy_tables import BitsimError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the name to write under; when the block ends it becomes `path`, replacing what was there.

    Raises:
        BitsimError: the place can't be written to.
    """
    part = _part(path)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write in; when the block ends it becomes `path`.

    Raises:
        BitsimError: the folder is there and not empty, or the place can't be written to.
    """
    part = _part(path)
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise BitsimError(f"{path}: expected a name that is free, or an empty folder")
        shutil.rmtree(part, ignore_errors=True)  # a process of our number that was killed
        part.mkdir()
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part-{os.getpid()}")


def _refusal(path: Path, error: OSError) -> BitsimError:
    return BitsimError(f"{path}: {error.strerror or error}")
