"""How fast the kernels are, each number beside what bounds it, measured in turns in one run (`make bench`).

Nothing here fails on a slow machine: read the printed table. A neighbour on the same core halves some of the numbers:
look at several runs, on an idle machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitsim.runtime import cpu
from bitsim.runtime.kernels import KERNELS, available
from bitsim.runtime.measure import Bench, Case, Contender, KernelContender, Run, random_activations
from bitsim.runtime.threads import Team

COMMAND = Path(sys.executable).with_name("bitsim")
# The matrices of a layer of BitNet b1.58 2B4T as models are packed, rows x columns: q k v, o, gate and up, down.
SHAPES = [(3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912)]
ROUNDS = 25
HASWELL = "+avx,+avx2,+fma,+bmi,+bmi2,+sse4.1,+sse4.2,+ssse3,+popcnt,+lzcnt,+f16c,+movbe,+sse3,+cx16"


def threads() -> list[int]:
    return sorted({1, cpu.usable_cores()})


def contenders(*names: str) -> list[Contender]:
    return [KernelContender(KERNELS[name]) for name in names if KERNELS[name] in available()]


def measured(bench: Bench, who: Sequence[Contender], shape: tuple[int, int], tokens: int) -> list[tuple[Case, float]]:
    timings: list[tuple[Case, float]] = []
    for timings in bench.measure(who, shape, tokens, ROUNDS):  # noqa: B007
        pass
    return timings


def test_matrix_vector_products(show: Any) -> None:
    """From memory: the share of the machine's read speed. From cache: weights per second."""
    with Bench(threads()) as bench:
        for shape in (2560, 6912), (6912, 2560):
            timings = measured(bench, contenders("avx512", "avx2", "portable", "vnni"), shape, 1)
            lines = []
            for case, seconds in timings:
                speed = case.packed_bytes / seconds
                share = f"{speed / bench.read_bytes_per_s[case.threads]:.0%} of read" if case.where == "dram" else ""
                rate = f"{case.weights / seconds / 1e9:6.1f} G weights/s {speed / 1e9:5.1f} GB/s"
                lines.append(f"{case.kernel:9} {shape} {case.threads} threads {case.where:5} {rate} {share}")
            show(*lines)
        show(f"read: {bench.read_bytes_per_s}")


@pytest.mark.parametrize("tokens", [128, 512])
def test_matrix_matrix_products_against_the_int8_peak(show: Any, tokens: int) -> None:
    """All of a product, tables included, over what vpdpbusd does on registers alone."""
    with Bench(threads()) as bench:
        for shape in SHAPES:
            lines = []
            for case, seconds in measured(bench, [*contenders("avx512", "vnni"), *torch_contenders()], shape, tokens):
                rate = case.weights * tokens / seconds
                peak = bench.int8_products_per_s.get(case.threads)
                share = f"{rate / peak:.2f} of the int8 peak" if peak else ""
                lines.append(
                    f"{case.kernel:10} {shape} x {tokens}, {case.threads} threads {rate / 1e9:6.1f} G/s {share}"
                )
            show(*lines)


@pytest.mark.parametrize("tokens", [2, 4, 8, 12, 16, 24, 32])
def test_small_batches(show: Any, tokens: int) -> None:
    with Bench([1]) as bench:
        shape = (2560, 6912)
        (case, one), *_ = (pair for pair in measured(bench, contenders("avx512"), shape, 1) if pair[0].where == "cache")
        ((_, some),) = measured(bench, contenders("avx512"), shape, tokens)
        rate = case.weights * tokens / some / 1e9
        show(f"{tokens} tokens: {rate:.1f} G products/s, {tokens * one / some:.2f} times one by one")


def test_avx2_against_vpmaddubsw(show: Any) -> None:
    """On a CPU with AVX2 alone: numba compiles for one in a process of its own."""
    if "avx2" not in KERNELS or "avx2" not in cpu.features():
        pytest.skip("this CPU has no AVX2")
    command = [str(COMMAND), "bench", "--kernels", "--kernel", "avx2", "--kernel", "maddubs", "--format", "json"]
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": HASWELL}
    run = subprocess.run(command, check=True, capture_output=True, env=os.environ | narrow)
    rows = json.loads(run.stdout)["results"]
    seconds = {(r["kernel"], tuple(r["shape"]), r["rows"], r["threads"], r["where"]): r["seconds"] for r in rows}
    show(
        *(
            f"{key[1:]}: avx2 {seconds['maddubs', *key[1:]] / seconds[key]:.2f} times maddubs"
            for key in seconds
            if key[0] == "avx2"
        )
    )


class NumpyContender:
    """numpy's own product of int8 matrices."""

    def cases(self, shape: tuple[int, int], tokens: int, teams: Sequence[Team]) -> Iterator[tuple[Case, Run]]:
        random = np.random.default_rng(0)
        weights = random.integers(-1, 2, shape).astype(np.int8)
        columns = np.ascontiguousarray(random_activations(random, tokens, shape[1]).T)

        def run(times: int) -> None:
            for _ in range(times):
                np.matmul(weights, columns, dtype=np.int32)  # many times quicker than x @ weights.T

        yield Case("numpy int8", "int8", shape, tokens, 1, "cache", weights.nbytes), run


def torch_contenders() -> list[Any]:
    try:
        from bitsim.training.torch_products import contenders as of_torch
    except ImportError:
        return []
    return list(of_torch())


def test_portable_against_numpy_and_torch(show: Any) -> None:
    with Bench([1]) as bench:
        for shape in (2560, 6912), (6912, 2560):
            who = [*contenders("portable"), NumpyContender(), *torch_contenders()]
            fastest = {(c.kernel, c.where): seconds for c, seconds in measured(bench, who, shape, 1)}
            for (other, where), seconds in fastest.items():
                if other != "portable":
                    show(f"{shape} {where}: portable {seconds / fastest['portable', where]:.1f} times {other}")
