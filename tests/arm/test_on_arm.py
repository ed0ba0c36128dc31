"""The kernels as a Raspberry Pi 4 (Cortex-A72) and 5 (A76) run them, played by qemu: `make test-arm`.

Without BITSIM_ARM in the environment, or where the emulation can't be had, all is skipped.
"""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from . import assembly
from .emulation import CORES, SWITCH, Emulator, MissingError, chosen_folder

if not os.environ.get(SWITCH):
    pytest.skip("`make test-arm` runs these", allow_module_level=True)

PI = ["cortex-a72", "cortex-a76"]
WEIGHTS = {  # in a turn of the inner loop; of many tokens, weights times tokens
    "neon": 32 * 18,
    "two_registers": 32 * 18,
    "without_branch": 32 * 18,
    "two_weights": 32 * 16,
    "add_chunk": 36 * 16,
    "sdot": 32 * 16,
    "sdot_four_tokens": 16 * 16 * 4,
}
LOOK_UP = {"add_chunk": "ldp", "sdot": "sdot", "sdot_four_tokens": "sdot"}  # the others: tbl

Loops = Callable[[str], dict[str, list[str]]]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    try:
        return Emulator(chosen_folder(), tmp_path_factory.mktemp("compiled"))
    except MissingError as reason:
        pytest.skip(f"no emulation of ARM: {reason}")


@pytest.fixture(scope="session")
def model(emulator: Emulator) -> assembly.TimingModel:
    return assembly.TimingModel(emulator.folder)


@pytest.fixture(scope="session")
def loops(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Loops:
    @cache
    def of_core(core: str) -> dict[str, list[str]]:
        folder = tmp_path_factory.mktemp(core)
        names = json.loads(emulator.run(CORES[core], "-m", "tests.arm.inside_assembly", folder))
        texts = {name: Path(folder / f"{name}.s").read_text() for name in names}
        return {name: assembly.inner_loop(text, LOOK_UP.get(name, "tbl")) for name, text in texts.items()}

    return of_core


def say(request: pytest.FixtureRequest, text: str) -> None:
    """Print, past pytest's capture."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    terminal: Any = request.config.pluginmanager.getplugin("terminalreporter")
    with capture.global_and_fixture_disabled():
        terminal.write_line(text)


@pytest.mark.parametrize(
    ("core", "settings", "named", "best", "sdot"),
    [
        ("cortex-a72", {}, "cortex-a72", "neon", False),
        ("cortex-a76", {}, "cortex-a76", "neon", True),
        ("unknown old", {}, "generic", "neon", False),
        ("unknown new", {}, "generic", "neon", False),  # it has the instruction, but code is compiled for any ARM
        ("unknown new", {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+neon,+dotprod"}, "generic", "neon", True),
        ("cortex-a76", {"NUMBA_CPU_NAME": "cortex-a72"}, "cortex-a76", "neon", False),
        # Told to compile for more than there is.
        ("cortex-a72", {"NUMBA_CPU_NAME": "cortex-a76"}, "cortex-a72", "neon", False),
        ("cortex-a72", {"NUMBA_CPU_FEATURES": "+neon,+dotprod"}, "cortex-a72", "neon", False),
    ],
)
def test_choice(emulator: Emulator, core: str, settings: dict[str, str], named: str, best: str, sdot: bool) -> None:
    arguments = ["-m", "tests.arm.inside_choice", *(["multiply"] if core == "unknown old" else [])]
    answer = json.loads(emulator.run(CORES[core], *arguments, settings=settings))
    assert answer["llvm"] == named
    assert answer["best"] == best
    assert ("sdot" in answer["kernels"]) is sdot
    assert ("dotprod" in answer["features"]) is sdot
    assert not set(answer["kernels"]) & {"avx512", "avx2", "vnni"}
    assert (answer["sdot_refused"] == "") is sdot
    assert answer.get("right", True)


@pytest.mark.parametrize("core", PI)
def test_inner_loops_look_up_and_add_and_never_multiply(loops: Loops, core: str) -> None:
    neon = assembly.mix(loops(core)["neon"])
    assert neon["tbl"] == 32
    assert neon["add"] >= neon["tbl"] - 4  # the first four of a turn are not added
    assert neon["uaddw"] == neon["uaddw2"] == neon["saddw"] == neon["saddw2"] == 2
    for name in ("neon", "write_patterns", "add_chunk"):
        assert not assembly.multiplications(loops(core)[name]), name


def test_a_multiplication_would_be_found(loops: Loops) -> None:
    assert len(assembly.multiplications(loops("cortex-a76")["sdot"])) == 32


@pytest.mark.parametrize("core", PI)
def test_cycles(request: pytest.FixtureRequest, loops: Loops, model: assembly.TimingModel, core: str) -> None:
    """Prints the mix of each inner loop and its cycles; the kernel is to be quicker than the dot product."""
    if not model.program:
        pytest.skip("no llvm-mca")
    found: dict[str, float] = {}
    known = core != "cortex-a76" or model.knows_a76
    doubt = "" if known else " (too old: it takes the A76 for an A57)"
    say(request, f"\n{core}, by llvm-mca of {model.version}{doubt}, {' '.join(assembly.MODELS[core])}")
    for name, weights in WEIGHTS.items():
        loop = loops(core).get(name)
        cycles = model.cycles(loop, core) if loop else None
        if loop is None or cycles is None:
            continue
        found[name] = cycles * 64 / weights
        counts = " ".join(f"{number} {mnemonic}" for mnemonic, number in assembly.mix(loop).most_common(12))
        say(request, f"  {name:<17} {found[name]:6.2f} cycles for 64 weights: {counts}")
    if not found:
        pytest.skip(f"llvm-mca of {model.version} does not know {core}")
    assert not known or found["neon"] <= min(found["without_branch"], found.get("sdot", 99.0))


@pytest.mark.parametrize("core", PI)
@pytest.mark.parametrize("tests", ["kernels/test_products.py", "heads/test_quarter_kernels.py", "simd/test_floats.py"])
def test_results_are_right(request: pytest.FixtureRequest, emulator: Emulator, core: str, tests: str) -> None:
    """The kernels' own tests, all of them, as the core runs them."""
    printed = emulator.run(CORES[core], "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/runtime/{tests}")
    say(request, f"\n{core}, {tests}: {printed.splitlines()[-1]}")
