"""How fast products are on this machine, and what bounds them, measured in turns in one run.

Every round times each case and each limit once, one after another, so that whatever else the machine does meets all of
them alike; the fastest round counts.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import bandwidth, cpu
from .kernels.kernel import Activations, Kernel
from .kernels.matrix import TernaryMatrix
from .memory import aligned
from .threads import Team

SECONDS = 0.02  # about as long as one case runs in a round
BEYOND_CACHE = 4  # a working set from memory is so many times the largest cache
LARGEST_SHARE = 0.2  # of the machine's memory, for one working set

Run = Callable[[int], None]  # does the thing so many times


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time: what multiplies, rows x columns of the matrix, tokens, threads, and where the weights lie."""

    kernel: str
    packing: str
    shape: tuple[int, int]
    tokens: int
    threads: int
    where: str  # "dram" or "cache"
    packed_bytes: int

    @property
    def weights(self) -> int:
        """Weights of the matrix."""
        return self.shape[0] * self.shape[1]


class Contender(Protocol):
    """Something whose products can be timed."""

    def cases(self, shape: tuple[int, int], tokens: int, teams: Sequence[Team]) -> Iterator[tuple[Case, Run]]:
        """Yield what there is to time for a shape and a number of tokens, for each team."""
        ...


class KernelContender:
    """One of our kernels; one token from memory and from cache, several from cache alone."""

    def __init__(self, kernel: Kernel) -> None:
        """Take a kernel that this CPU runs."""
        self.kernel = kernel

    def cases(self, shape: tuple[int, int], tokens: int, teams: Sequence[Team]) -> Iterator[tuple[Case, Run]]:
        """Yield the cases of the kernel, all on random weights and normally distributed activations."""
        kernel, random = self.kernel, np.random.default_rng(0)
        matrix = TernaryMatrix.pack(random.integers(-1, 2, shape).astype(np.int8), kernel)
        x = random_activations(random, tokens, shape[1])
        size = matrix.packed.nbytes
        for where in ("dram", "cache") if tokens == 1 else ("cache",):
            packed = aligned((copies(size) if where == "dram" else 1, size), np.uint8)
            packed[:] = matrix.packed
            for team in teams:
                case = Case(kernel.name, kernel.packing, shape, tokens, team.threads, where, size)
                yield case, _products(team, kernel, packed, x, shape[0])


def random_activations(random: np.random.Generator, tokens: int, columns: int) -> Activations:
    """Return normally distributed activations scaled to int8 by the largest of each token, as BitNet does."""
    x = random.normal(size=(tokens, columns))
    scaled: Activations = np.round(x * 127 / np.abs(x).max(axis=1, keepdims=True)).astype(np.int8)
    return scaled


def working_set() -> int:
    """Return the bytes of a working set that does not fit the caches."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(BEYOND_CACHE * cpu.last_level_cache_bytes(), int(LARGEST_SHARE * memory))


def copies(size: int) -> int:
    """Return how many matrices of `size` bytes make a working set."""
    return max(2, working_set() // size)


def _products(team: Team, kernel: Kernel, packed: npt.NDArray[Any], x: Activations, rows: int) -> Run:
    out = np.empty((len(x), rows), np.int32)
    method = kernel.method(len(x))
    work = method.work(rows, x.shape[1], len(x), team.threads)
    place = 0

    def run(times: int) -> None:
        nonlocal place
        method.multiply(team, packed, (place, times), x, out, work)
        place = (place + times) % len(packed)

    return run


class _Clock:
    """Takes turns at one thing and keeps the fastest."""

    def __init__(self, run: Run) -> None:
        self._run, self._times, self.seconds = run, 1, float("inf")

    def warm_up(self) -> None:
        """Compile and touch everything, then choose how often to run in a turn."""
        self._run(1)
        self.turn()
        self._times = max(1, round(SECONDS / self.seconds))
        self.seconds = float("inf")

    def turn(self) -> None:
        start = time.perf_counter()
        self._run(self._times)
        self.seconds = min(self.seconds, (time.perf_counter() - start) / self._times)


class Bench:
    """Times contenders on shapes, and the limits of the machine in the same rounds. Use it in a `with` statement."""

    def __init__(self, threads: Sequence[int]) -> None:
        """Make a team for each number of threads."""
        self.read_bytes_per_s: dict[int, float] = {}
        self.int8_products_per_s: dict[int, float] = {}  # of vpdpbusd on registers; empty where there is none
        self._teams = [Team(count) for count in threads]
        self._words = aligned((working_set() // 4,), np.int32)
        self._words[:] = 1
        self._sums = aligned((max(threads) * bandwidth.LANES,), np.int32)

    def __enter__(self) -> "Bench":
        """Return the bench."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads."""
        for team in self._teams:
            team.close()

    def measure(
        self, contenders: Sequence[Contender], shape: tuple[int, int], tokens: int, rounds: int
    ) -> Iterator[list[tuple[Case, float]]]:
        """Yield after each round the cases and the fastest seconds of each so far."""
        clocks = [(case, _Clock(run)) for each in contenders for case, run in each.cases(shape, tokens, self._teams)]
        readers = [(team.threads, _Clock(self._reader(team))) for team in self._teams]
        multipliers = [(team.threads, _Clock(self._multiplier(team))) for team in self._teams]
        if "avx512vnni" not in cpu.features():
            multipliers = []
        everything = [clock for _, clock in (*clocks, *readers, *multipliers)]
        for clock in everything:
            clock.warm_up()
        for _ in range(rounds):
            for clock in everything:
                clock.turn()
            yield [(case, clock.seconds) for case, clock in clocks]
        for count, clock in readers:
            _keep_largest(self.read_bytes_per_s, count, self._words.nbytes / clock.seconds)
        for count, clock in multipliers:
            _keep_largest(self.int8_products_per_s, count, count * bandwidth.PRODUCTS / clock.seconds)

    def _reader(self, team: Team) -> Run:
        def run(times: int) -> None:
            for _ in range(times):
                team.run(bandwidth.read, self._words, self._sums)

        return run

    def _multiplier(self, team: Team) -> Run:
        return lambda times: team.run(bandwidth.multiply_accumulate, times * bandwidth.TURNS, self._sums)


def _keep_largest(values: dict[int, float], key: int, value: float) -> None:
    values[key] = max(values.get(key, 0.0), value)
