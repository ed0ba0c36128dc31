"""The files inside a wheel, a source archive or a Debian package, read without unpacking them to disk."""

import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from bitsim.energy_tables import BitsimError

# What zip, tar, gzip, zlib, JSON and text raise for bytes that are not theirs; UnicodeDecodeError is a ValueError.
_DAMAGE = (
    EOFError,
    LookupError,
    OSError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one line that names it.

    Raises:
        BitsimError: the archive is damaged, or holds other text than expected.
    """
    try:
        yield
    except BitsimError as error:
        raise BitsimError(f"{archive}: {error}") from error
    except _DAMAGE as error:
        kind = type(error).__name__
        raise BitsimError(f"{archive}: damaged ({kind}: {error}); delete it and it is downloaded again") from error


def read_archive(archive: Path, patterns: Sequence[str]) -> dict[str, bytes]:
    """Return the files of an archive whose names match one of the patterns, in order of name.

    Args:
        archive: a wheel, a .tar.gz or a .deb.
        patterns: as in a shell; `*` matches slashes too.

    Raises:
        BitsimError: a pattern matches nothing, or the archive can't be read.
    """
    with reading(archive):
        files = dict(sorted(_members(archive, patterns)))
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in files):
                raise BitsimError(f"expected files named {pattern} inside")
        return files


def _members(archive: Path, patterns: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in filter(wanted, wheel.namelist()):
                yield name, wheel.read(name)
        return
    content = _debian_files(archive) if archive.suffix == ".deb" else archive.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted(name) and (file := tar.extractfile(member)) is not None:
                yield name, file.read()


def _debian_files(archive: Path) -> bytes:
    """Return the files of a Debian package as a tar archive; dpkg-deb knows every compression that Debians use."""
    program = shutil.which("dpkg-deb")
    if program is None:
        raise BitsimError("dpkg-deb is needed to open it, and is not on this machine")
    done = subprocess.run([program, "--fsys-tarfile", str(archive)], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip().split("\n")[0])
    return done.stdout
