"""Inner loops in assembly: which instructions, and how many cycles by the timing models of llvm-mca."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from .emulation import MissingError, command, have_packages

LABEL = re.compile(r"^(\.L\w+):")
JUMP = re.compile(r"^\s+(?:b|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s*(\.L\w+)$")
BRANCH = re.compile(r"(?:b|b\.\w+|cbn?z|tbn?z|bl|blr|ret)$")
MULTIPLY = re.compile(r"\w*(?:mul|ml[as]|dot)\w*\s+v\d")  # of registers' lanes; a loop may reckon addresses as it likes

MODELS = {
    # llvm-mca's own model of the A76 is the A57's. The Neoverse N1 is its twin, here told to dispatch four a cycle.
    "cortex-a72": ["-mcpu=cortex-a72"],
    "cortex-a76": ["-mcpu=neoverse-n1", "-dispatch=4"],
}
TURNS = 200


def inner_loop(text: str, mnemonic: str) -> list[str]:
    """Return the instructions of the innermost loop (a label to the last jump back to it) that has a mnemonic most."""
    lines = text.splitlines()
    places = {match[1]: place for place, line in enumerate(lines) if (match := LABEL.match(line))}
    ends: dict[int, int] = {}
    for place, line in enumerate(lines):
        if (match := JUMP.match(line)) and places.get(match[1], place) < place:
            ends[places[match[1]]] = place
    loops = [
        [line.strip() for line in lines[start : end + 1] if line.startswith("\t") and not line.startswith("\t.")]
        for start, end in ends.items()
        if not any(start <= inner and other <= end and inner != start for inner, other in ends.items())
    ]
    return max(loops, key=lambda loop: mix(loop)[mnemonic])


def mix(loop: list[str]) -> Counter[str]:
    """Count the mnemonics of a loop."""
    return Counter(line.split()[0] for line in loop)


def multiplications(loop: list[str]) -> list[str]:
    """Return the instructions of a loop that multiply elements of registers."""
    return [line for line in loop if MULTIPLY.match(line)]


class TimingModel:
    """llvm-mca: version 19 if it can be had, since older ones do not know the Neoverse N1."""

    def __init__(self, folder: Path) -> None:
        """Find the program, or unpack Debian's into a folder."""
        self.environment: dict[str, str] = {}
        self.program = shutil.which("llvm-mca-19") or self._unpacked(folder / "llvm") or shutil.which("llvm-mca") or ""
        self.version = ""
        self.knows_a76 = False  # older ones take it and the N1 for an A57
        if self.program:
            said = command([self.program, "--version"], **self.environment)
            self.version = (re.search(r"LLVM version \S+", said) or ["an unknown version"])[0]
            self.knows_a76 = int((re.search(r"version (\d+)", said) or ["", "0"])[1]) >= 19

    def _unpacked(self, folder: Path) -> str:
        try:
            architecture = command(["dpkg", "--print-architecture"]).strip()
            have_packages(["llvm-19", "libllvm19"], architecture, True, folder)
        except MissingError:
            return ""
        library = next(folder.glob("usr/lib/*-linux-gnu/libLLVM*19*")).parent
        self.environment = {"LD_LIBRARY_PATH": str(library)}
        return str(folder / "usr/lib/llvm-19/bin/llvm-mca")

    def cycles(self, loop: list[str], core: str) -> float | None:
        """Return the cycles of a turn of a loop on a core; None where the model does not know core or instruction."""
        body = [line for line in loop if not BRANCH.match(line.split()[0])]
        done = subprocess.run(
            [
                self.program,
                "-mtriple=aarch64-linux-gnu",
                f"-iterations={TURNS}",
                *MODELS[core],
                *(["-mattr=+dotprod"] if core == "cortex-a76" else []),
            ],
            input="\n".join(body) + "\n",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"Total Cycles: +(\d+)", done.stdout)
        return int(found[1]) / TURNS if found else None
