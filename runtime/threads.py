"""Threads that stay: a team that runs one compiled function on all of them at once."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .atomics import DONE, JOB, LINE, SHARES, atomic_add, wait_for_change
from .compile import compiled

PATIENCE = 20_000  # looks (about 0.3 ms) at the next job before a worker goes to sleep


@compiled
def _count(counters: Any, index: int) -> None:
    atomic_add(counters, index, 1)


class Team:
    """`threads` threads, the caller's among them, that wait for work without being started anew.

    A job is a function `job(counters, thread, threads, *arguments)`, usually compiled: every thread calls it once, and
    `barrier(counters, threads)` inside keeps them in step. Several Python threads may call `run`; they take turns. A
    worker looks for the next job for 0.3 ms, then sleeps. Close a team, or use it in a `with` statement.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads: expected 1 or more, got {threads}")
        self.threads = threads
        self._turn = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._counters = np.zeros(SHARES + self.threads * LINE, np.int64)
        self._awake = threading.Condition()
        self._asleep = 0
        self._job: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._failure: BaseException | None = None
        self._workers = [
            threading.Thread(target=self._work, args=(thread,), name=f"bitsim-{thread}", daemon=True)
            for thread in range(1, self.threads)
        ]
        for worker in self._workers:
            worker.start()

    def run(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Call job(counters, thread, threads, *arguments) on every thread and return when all are done."""
        with self._turn:
            if self._process != os.getpid():  # after a fork only the calling thread lives on
                self._start()
            self._hand_out((job, arguments))
            try:
                job(self._counters, 0, self.threads, *arguments)
            finally:
                self._gather()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure

    def close(self) -> None:
        """End the workers."""
        with self._turn:
            if self._process == os.getpid():
                self._hand_out(None)
                for worker in self._workers:
                    worker.join()
            self._workers = []
            self.threads = 1

    def __enter__(self) -> "Team":
        """Return the team."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the team."""
        self.close()

    def _hand_out(self, job: tuple[Callable[..., Any], tuple[Any, ...]] | None) -> None:
        self._job = job
        self._counters[DONE] = 0
        with self._awake:
            _count(self._counters, JOB)
            if self._asleep:
                self._awake.notify_all()

    def _gather(self) -> None:
        finished = self._counters
        while (done := int(finished[DONE])) < len(self._workers):
            wait_for_change(finished, DONE, done, PATIENCE)

    def _work(self, thread: int) -> None:
        counters, seen = self._counters, 0
        while True:
            if not wait_for_change(counters, JOB, seen, PATIENCE):
                self._sleep(counters, seen)
            seen += 1
            if self._job is None:
                return
            job, arguments = self._job
            try:
                job(counters, thread, self.threads, *arguments)
            except BaseException as error:
                self._failure = error
            _count(counters, DONE)

    def _sleep(self, counters: Any, seen: int) -> None:
        with self._awake:
            self._asleep += 1
            while int(counters[JOB]) == seen:
                self._awake.wait()
            self._asleep -= 1
