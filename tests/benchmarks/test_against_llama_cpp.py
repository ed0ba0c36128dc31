"""Decode and prefill of a model in the shape of BitNet b1.58 2B4T against llama.cpp, in turns in one process.

`make bench-peers` installs llama-cpp-python (it compiles for some minutes) and runs this.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp_model
import numpy as np
import pytest

from bitsim.runtime import cpu
from bitsim.runtime.checkpoints.random_weights import RandomCheckpoint
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.loading import load
from bitsim.simulator.resolve import resolve_model

ROUNDS, PROMPT, NEW = 5, 128, 16
SPEC = resolve_model("bitnet-b1.58-2B-4T")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("llama_cpp", reason="`make bench-peers` installs llama-cpp-python")
    folder = tmp_path_factory.mktemp("models")
    ours, theirs = folder / "ours.safetensors", folder / "theirs.gguf"
    convert_to_packed(RandomCheckpoint(SPEC, ternary=True), ours)
    llama_cpp_model.write_random(SPEC, theirs)
    return ours, theirs


def best_of_turns(things: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run things in turns and return the fewest seconds of each; the first turn only warms up."""
    best = dict.fromkeys(things, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, run in things.items():
            seconds = run()
            best[name] = min(best[name], seconds) if turn else best[name]
    return best


def timed(run: Callable[[Any], Any], tokens: Any) -> float:
    start = time.perf_counter()
    run(tokens)
    return time.perf_counter() - start


@pytest.fixture(params=sorted({1, cpu.usable_cores()}))
def pair(request: pytest.FixtureRequest, files: tuple[Path, Path]) -> Iterator[tuple[Any, Any, int]]:
    import llama_cpp

    ours = load(files[0], threads=request.param)
    theirs = llama_cpp_model.LlamaCpp(llama_cpp, files[1], request.param)
    yield ours, theirs, request.param
    ours.close()
    theirs.close()


def test_prefill_and_decode(pair: tuple[Any, Any, int], show: Any) -> None:
    ours, theirs, threads = pair
    sequence, prompt = ours.sequence(PROMPT + NEW), np.arange(PROMPT)

    def our_step(tokens: Any) -> None:
        ours.head.top(ours.step([(sequence, tokens)]), 1)

    def our_prefill() -> float:
        sequence.truncate(0)
        return timed(our_step, prompt)

    def their_prefill() -> float:
        theirs.clear()
        return timed(theirs.step, list(range(PROMPT)))

    def our_decode() -> float:
        sequence.truncate(PROMPT)
        return min(timed(our_step, np.array([token])) for token in range(NEW))

    def their_decode() -> float:
        return min(timed(theirs.step, [token]) for token in range(NEW))

    best = best_of_turns(
        {
            "prefill, bitsim": our_prefill,
            "decode, bitsim": our_decode,
            "prefill, llama.cpp": their_prefill,
            "decode, llama.cpp": their_decode,
        }
    )
    lines = [f"{cpu.name()}, {threads} thread{'s' * (threads > 1)}, tokens/s"]
    for phase, tokens in (("prefill", PROMPT), ("decode", 1)):
        our, their = best[f"{phase}, bitsim"], best[f"{phase}, llama.cpp"]
        lines.append(f"{phase}: bitsim {tokens / our:.1f}, llama.cpp {tokens / their:.1f}: {their / our:.2f} times")
    show(*lines)
