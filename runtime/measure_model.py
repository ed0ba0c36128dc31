"""How fast a model is on this machine, and what bounds it: prefill and decode, beside the memory's speed."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import bandwidth, cpu
from .joules import Joules
from .measure import working_set
from .memory import aligned
from .model.kv_cache import Sequence as Cache
from .model.model import Model
from .threads import Team


@dataclass(frozen=True, slots=True)
class Workload:
    """What is timed: a prompt, then new tokens, for `batch` sequences at once."""

    prompt_tokens: int = 128
    new_tokens: int = 32
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """One phase of a workload, the quickest round.

    Attributes:
        phase: "prefill" or "decode".
        tokens: tokens that it took or made, of all sequences.
        context: tokens of a sequence at its end.
        bytes_per_token: of weights, head and cache read for one token; for prefill the weights count once a chunk.
        joules: of the whole machine's CPUs for one token, or None where nothing counts them.
    """

    phase: str
    tokens: int
    context: int
    batch: int
    threads: int
    seconds: float
    bytes_per_token: float
    joules: float | None

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all sequences in a second."""
        return self.tokens / self.seconds


class ModelBench:
    """Times a model in rounds, and in each round how fast this machine reads memory."""

    def __init__(self, model: Model, workload: Workload) -> None:
        """Take a model; its number of threads is used for all."""
        self._model, self._workload = model, workload
        self._team = Team(model.threads)
        self._words = aligned((working_set() // 4,), np.int32)
        self._words[:] = 1
        self._sums = aligned((model.threads * bandwidth.LANES,), np.int32)
        self._joules = Joules()
        self.read_bytes_per_s = 0.0
        self._random = np.random.default_rng(0)

    def rounds(self, count: int) -> Iterator[list[Timing]]:
        """Yield after each round the quickest of each phase so far; the first is preceded by one that compiles."""
        model, work = self._model, self._workload
        capacity = work.prompt_tokens + work.new_tokens
        caches = [model.sequence(capacity) for _ in range(work.batch)]
        best: dict[str, Timing] = {}
        for number in range(count + 1):
            for cache in caches:
                cache.truncate(0)
            for timing in (self._prefill(caches), self._decode(caches)):
                if number and (timing.phase not in best or timing.seconds < best[timing.phase].seconds):
                    best[timing.phase] = timing
            self._read()
            if number:
                yield list(best.values())

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that this process has had in use, but for what only the reading of memory takes."""
        peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        words: int = self._words.nbytes
        return (peak if sys.platform == "darwin" else peak * 1024) - words  # Linux counts in KiB

    def close(self) -> None:
        """End the threads that read memory."""
        self._team.close()

    def _read(self) -> None:
        start = time.perf_counter()
        self._team.run(bandwidth.read, self._words, self._sums)
        self.read_bytes_per_s = max(self.read_bytes_per_s, self._words.nbytes / (time.perf_counter() - start))

    def _prefill(self, caches: Sequence[Cache]) -> Timing:
        tokens = self._random.integers(0, self._model.config.spec.vocab, self._workload.prompt_tokens)
        return self._timed("prefill", len(caches) * len(tokens), caches, lambda: self._step(caches, tokens))

    def _decode(self, caches: Sequence[Cache]) -> Timing:
        def run() -> None:
            for _ in range(self._workload.new_tokens):
                self._step(caches, self._random.integers(0, self._model.config.spec.vocab, 1))

        return self._timed("decode", len(caches) * self._workload.new_tokens, caches, run)

    def _step(self, caches: Sequence[Cache], tokens: Any) -> None:
        hidden = self._model.step([(cache, tokens) for cache in caches])
        self._model.head.top(hidden, 1)

    def _timed(self, phase: str, tokens: int, caches: Sequence[Cache], run: Callable[[], None]) -> Timing:
        before = self._model.bytes_read
        self._joules.since_last()
        start = time.perf_counter()
        run()
        seconds, joules = time.perf_counter() - start, self._joules.since_last()
        return Timing(
            phase=phase,
            tokens=tokens,
            context=caches[0].length,
            batch=len(caches),
            threads=self._model.threads,
            seconds=seconds,
            bytes_per_token=(self._model.bytes_read - before) / tokens,
            joules=None if joules is None else joules / tokens,
        )


def machine() -> dict[str, Any]:
    """Return what the machine is, as the reports name it."""
    return {"cpu": cpu.name(), "isa": sorted(cpu.features())}
