"""64-bit ARM Linux without such a machine: qemu, an arm64 Python and aarch64 wheels, in a folder of the user's cache.

Nothing is installed into the system. Debian's packages come through apt-get, the wheels through uv or pip. What can't
be had raises `MissingError`, so that tests are skipped and say why. Delete the folder to have everything anew.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

ROOT = Path(__file__).resolve().parents[2]
SWITCH = "BITSIM_ARM"  # 1, or the folder to use
SYSTEM = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
WHEELS = ("numba", "numpy", "platformdirs", "pytest", "hypothesis")
APT = """
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Install-Recommends "false";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Debug::NoLocking "true";
APT::Sandbox::User "root";
"""
CPUINFO = """processor\t: 0
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3
"""


class MissingError(Exception):
    """The emulation can't be set up here; the message says why."""


@dataclass(frozen=True)
class Core:
    """A CPU that qemu plays, as LLVM knows it from /proc/cpuinfo."""

    name: str
    qemu: str
    part: str
    features: str


CORES = {
    core.name: core
    for core in (
        Core("cortex-a72", "cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid"),  # Raspberry Pi 4
        Core("cortex-a76", "cortex-a76", "0xd0b", "fp asimd evtstrm aes crc32 atomics cpuid asimddp"),  # Raspberry Pi 5
        Core("unknown old", "cortex-a53", "0x001", "fp asimd evtstrm crc32 cpuid"),
        Core("unknown new", "cortex-a76", "0x002", "fp asimd evtstrm aes crc32 atomics cpuid asimddp"),
    )
}


def command(words: Sequence[str | Path], **environment: str) -> str:
    """Run a command of the set-up and return what it prints.

    Raises:
        MissingError: there is no such command, or it fails.
    """
    try:
        done = subprocess.run(
            [str(word) for word in words],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    except FileNotFoundError:
        raise MissingError(f"no command {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise MissingError(f"{words[0]} took more than ten minutes") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["nothing"]
        raise MissingError(f"{words[0]} failed: {said[-1][:200]}") from None
    return done.stdout


def have_packages(names: Sequence[str], architecture: str, alone: bool, target: Path) -> None:
    """Unpack Debian packages into a folder; `alone` without what they depend on."""
    if (target / ".made").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    apt = target / "apt"
    for part in ("lists/partial", "archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    configuration = apt / "apt.conf"
    configuration.write_text(APT.format(architecture=architecture, folder=apt))
    command(["apt-get", "-qq", "update"], APT_CONFIG=str(configuration))
    if alone:
        command(
            ["sh", "-c", f"cd '{apt}/archives' && apt-get -qq download {' '.join(names)}"],
            APT_CONFIG=str(configuration),
        )
    else:
        command(["apt-get", "-qq", "-y", "--download-only", "install", *names], APT_CONFIG=str(configuration))
    for package in sorted((apt / "archives").glob("*.deb")):
        command(["dpkg", "-x", package, target])
    shutil.rmtree(apt)
    (target / ".made").touch()


def have_wheels(python: str, target: Path) -> None:
    """Unpack the aarch64 wheels of the Python packages for a Python version (3.11) into a folder."""
    if (target / ".made").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    if shutil.which("uv"):
        install = ["uv", "pip", "install", "--quiet", "--python-platform", "aarch64-manylinux_2_28"]
    else:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--implementation", "cp"]
        for libc in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
            install += ["--platform", f"{libc}_aarch64"]
    command([*install, "--python-version", python, "--only-binary", ":all:", "--target", target, *WHEELS])
    (target / ".made").touch()


def chosen_folder() -> Path:
    """Return the folder that BITSIM_ARM names, or the one in the user's cache."""
    named = os.environ.get(SWITCH, "")
    return Path(user_cache_dir("bitsim-arm")) if named in ("", "1") else Path(named).resolve()


class Emulator:
    """Runs Python as a given core would; sets up what is missing when it is made."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Take the folder to keep everything in, and one for compiled code, which is made anew each time."""
        self.folder, self.scratch = folder, scratch
        self.qemu = self._qemu()
        self.root = folder / "root"
        have_packages(SYSTEM, "arm64", False, self.root)
        self.python = next(path.name for path in (self.root / "usr/bin").glob("python3.*"))
        have_wheels(self.python.removeprefix("python"), folder / "wheels")

    def _qemu(self) -> str:
        """Return the emulator: the system's, or a copy of Debian's."""
        found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
        if found:
            return found
        architecture = command(["dpkg", "--print-architecture"]).strip()
        have_packages(["qemu-user-static"], architecture, True, self.folder / "qemu")
        return str(self.folder / "qemu/usr/bin/qemu-aarch64-static")

    def _prefix(self, core: Core) -> Path:
        """Return the root folder as a core sees it: the same for all but /proc/cpuinfo."""
        prefix = self.folder / f"root-{core.name.replace(' ', '-')}"
        (prefix / "proc").mkdir(parents=True, exist_ok=True)
        (prefix / "proc/cpuinfo").write_text(CPUINFO.format(features=core.features, part=core.part))
        for part in ("lib", "usr", "etc"):
            link = prefix / part
            if not link.is_symlink():
                link.symlink_to(self.root / part)
        return prefix

    def run(self, core: Core, *arguments: str | Path, settings: Mapping[str, str] | None = None) -> str:
        """Run Python as the core would, at the root of the repository; `settings` are environment variables.

        Returns what it prints.

        Raises:
            AssertionError: it fails; with what it printed last.
        """
        prefix = self._prefix(core)
        paths = (self.folder / "wheels", ROOT / ".typecheck")
        environment = {
            "PYTHONPATH": os.pathsep.join(str(path) for path in paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_CACHE_DIR": str(self.scratch / f"numba-{core.qemu}-{core.part}"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        start: list[str | Path] = [self.qemu, "-cpu", core.qemu, "-L", prefix, prefix / "usr/bin" / self.python]
        done = subprocess.run(
            [*start, *arguments],
            env=os.environ | environment | dict(settings or {}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=3600,
        )
        assert done.returncode == 0, (
            f"{core.name}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        printed: str = done.stdout
        return printed
