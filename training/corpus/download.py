"""Packages fetched with pip and apt-get; nothing is installed."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

_PATIENCE_S = 600  # for one package; the largest is 7 MB


def fetch(name: str, version: str | None, folder: Path) -> Path:
    """Return the archive of a package: the one in the folder, or else downloaded into it.

    Args:
        name: of the package.
        version: the version to take from the Python package index; None: Debian's package, the version that this
            machine's apt-get knows.
        folder: keeps the archives.

    Raises:
        BitsimError: pip or apt-get is missing, doesn't find the package, or can't reach the network.
    """
    pattern = f"{name}_*.deb" if version is None else f"{name.replace('-', '_')}-{version}[-.]*"
    found = _newest(folder, pattern)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:  # same disk: the rename is at once
            if version is None:
                _run(name, _apt_get(name), Path(part))
            else:
                _run(name, _pip(name, version, Path(part)))
            archive = _newest(Path(part), pattern)
            if archive is None:
                raise BitsimError(f"{name}: expected a file named {pattern} from the download")
            return archive.replace(folder / archive.name)
    except OSError as error:
        raise BitsimError(f"{folder}: {error.strerror or error}") from error


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=lambda path: (path.stat().st_mtime, path.name), default=None)


def _pip(name: str, version: str, folder: Path) -> list[str]:
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2"]
    where = ["--dest", str(folder.resolve())]
    return [sys.executable, "-m", "pip", "download", *quiet, *where, "--no-deps", f"{name}=={version}"]


def _apt_get(name: str) -> list[str]:
    program = shutil.which("apt-get")
    if program is None:
        raise BitsimError(
            f"{name}: apt-get (Debian, Ubuntu) is needed to download it and is not on this machine; "
            "--pip-only does without"
        )
    return [program, "download", name]


def _run(name: str, command: list[str], folder: Path | None = None) -> None:
    """Run a downloader; in another folder only where it must be, for its settings may name files relative to this."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BitsimError(f"{name}: not downloaded within {_PATIENCE_S} s") from error
    if done.returncode:
        raise BitsimError(f"{name}: could not be downloaded: {_reason(done.stderr.decode(errors='replace'))}")


def _reason(said: str) -> str:
    """Return the line that tells most: that the network is down, else the first error, else the last word."""
    lines = [shown(line.strip(), 400) for line in said.splitlines() if line.strip()]
    for mark in ("Retrying (", "Could not resolve", "Failed to fetch", "ERROR:", "E: "):
        for line in lines:
            if mark in line:
                return line.split(" after ", 1)[-1] if mark == "Retrying (" else line
    if lines and "No module named pip" in lines[-1]:
        return f"{lines[-1]} (python -m ensurepip gives it one)"
    return lines[-1] if lines else "it failed without a word"
