"""A team of threads: all of them run, in step, for several callers, after errors, sleep and a fork."""

import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from bitsim.runtime.atomics import atomic_add, barrier
from bitsim.runtime.compile import compiled
from bitsim.runtime.kernels import TernaryMatrix
from bitsim.runtime.threads import Team


@compiled
def in_step(counters: Any, thread: int, threads: int, board: Any, steps: int) -> None:
    """Each step every thread writes its place and then, after the barrier, checks everybody's."""
    for step in range(1, steps + 1):
        board[thread] = step
        barrier(counters, threads)
        for other in range(threads):
            if board[other] != step:
                atomic_add(board, threads, 1)
        barrier(counters, threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_thread_runs_and_the_barrier_keeps_them_in_step(threads: int) -> None:
    board = np.zeros(threads + 1, np.int64)
    with Team(threads) as team:
        for _ in range(3):
            board[:] = 0
            team.run(in_step, board, 50)
            assert board.tolist() == [50] * threads + [0]


def test_several_python_threads_take_turns() -> None:
    random = np.random.default_rng(0)
    weights = random.integers(-1, 2, (300, 400)).astype(np.int8)
    matrix = TernaryMatrix.pack(weights)
    wrong: list[int] = []

    def use(seed: int, team: Team) -> None:
        generator = np.random.default_rng(seed)
        for tokens in (1, 3, 20) * 10:
            x = generator.integers(-128, 128, (tokens, 400)).astype(np.int8)
            if not np.array_equal(matrix.multiply(x, team=team), x.astype(np.int64) @ weights.T.astype(np.int64)):
                wrong.append(seed)

    with Team(2) as team, Team(3) as other:
        callers = [threading.Thread(target=use, args=(seed, (team, other)[seed % 2])) for seed in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not wrong


def test_workers_that_went_to_sleep_wake_up() -> None:
    board = np.zeros(3, np.int64)
    with Team(2) as team:
        for _ in range(3):
            time.sleep(0.05)  # far longer than a worker's patience
            team.run(in_step, board, 5)
    assert board.tolist() == [5, 5, 0]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_on_any_thread_is_raised_and_the_team_lives_on(failing: int) -> None:
    def fail(counters: Any, thread: int, threads: int) -> None:
        if thread == failing:
            raise RuntimeError("no")

    board = np.zeros(3, np.int64)
    with Team(2) as team:
        with pytest.raises(RuntimeError, match="no"):
            team.run(fail)
        team.run(in_step, board, 5)
    assert board.tolist() == [5, 5, 0]


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads: expected 1 or more, got 0"):
        Team(0)


def test_a_closed_team_works_alone() -> None:
    board = np.zeros(2, np.int64)
    team = Team(3)
    team.close()
    team.close()
    team.run(in_step, board, 5)
    assert board.tolist() == [5, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_gets_workers_of_its_own() -> None:
    with Team(2) as team:
        team.run(in_step, np.zeros(3, np.int64), 5)
        child = os.fork()
        if child == 0:
            board = np.zeros(3, np.int64)
            team.run(in_step, board, 5)
            os._exit(0 if board.tolist() == [5, 5, 0] else 1)
        assert os.waitpid(child, 0)[1] == 0
