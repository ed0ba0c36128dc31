"""Ladders: the same recipe at rising sizes, for several schemes; what is recorded already is not trained again.

Each run has a process of its own, so that one that dies takes no other with it and its memory is its own. On a Ray
cluster, runs go to whatever machine is free; all of them must see the folder of runs and the data under the same names.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError

from .records import RECORD, read_record
from .request import Means, Request

_PATIENCE = 60.0  # seconds in which a process that has lost its ladder, or its cluster, ends
_RETRIES = 10  # of a run whose worker dies: more often, and the run is what kills it
_GLANCE = 1.0  # seconds between looks at what the workers of a cluster say


@dataclass(frozen=True, slots=True)
class Rung:
    """What became of one run: its record, or in one line why there is none."""

    request: Request
    record: dict[str, Any] | None
    failure: str | None = None


# Hears of the run that is at work: its name and what it does.
Hears = Callable[[str, str], None]
Executor = Callable[[Sequence[Request], Means, Hears], Iterator[Rung]]
Outcome = tuple[dict[str, Any] | None, str | None]


def climb(
    requests: Sequence[Request], means: Means, executor: str = "local", hears: Hears = lambda run, what: None
) -> Iterator[Rung]:
    """Train what is not recorded yet, and yield each run's outcome as it ends; those on record come first.

    A run that was interrupted goes on from its last checkpoint. One that fails does not stop the others.

    Args:
        requests: the runs.
        means: see `Means`; `resume` is taken as set.
        executor: "local", one run after the other here; "ray", on the cluster that Ray finds (`ray start --head`).
        hears: told which run does what.

    Raises:
        BitsimError: no such executor, Ray is not installed or finds no cluster, a record is damaged, or somebody
            pressed Ctrl-C: then the runs at work have saved what they had.
    """
    if executor not in EXECUTORS:
        raise BitsimError(f"executor: expected one of {', '.join(EXECUTORS)}, got '{executor}'")
    missing = []
    for request in requests:
        file = means.output / request.name / RECORD
        if file.exists():
            yield Rung(request, read_record(file))
        else:
            missing.append(request)
    if missing:
        yield from EXECUTORS[executor](missing, replace(means, resume=True, patience=_PATIENCE), hears)


def _locally(requests: Sequence[Request], means: Means, hears: Hears) -> Iterator[Rung]:
    """Train one after the other, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    for request in requests:
        hears(request.name, "begins")
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_child, args=(theirs, request, means), name=request.name)
        process.start()
        theirs.close()
        try:
            yield Rung(request, *_followed(process, ours, request, hears))
        except KeyboardInterrupt:
            with contextlib.suppress(KeyboardInterrupt):  # whoever presses it again does not want it saved
                process.terminate()
                _followed(process, ours, request, hears)
            process.kill()
            raise BitsimError(f"{request.name}: stopped; the same ladder goes on with it") from None


def _followed(process: Any, messages: Connection, request: Request, hears: Hears) -> Outcome:
    """Pass on what a child says until it ends, and return its outcome."""
    outcome: Outcome | None = None
    with contextlib.suppress(EOFError):
        while True:
            kind, content = messages.recv()
            if kind == "outcome":
                outcome = content
            else:
                hears(request.name, content)
    process.join()
    code = process.exitcode
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return outcome or (None, f"{request.name}: its process ended {how}; the same ladder goes on with it")


def _child(messages: Connection, request: Request, means: Means) -> None:
    """Train in this process, and say what is done and what came of it."""
    os.setpgid(0, 0)  # so that a Ctrl-C is heard by the parent alone, which then asks this process to stop

    def say(kind: str, content: Any) -> None:
        if messages.closed:
            return
        try:
            messages.send((kind, content))
        except BrokenPipeError:  # the parent is dead: save and stop, as if it had asked
            messages.close()
            signal.raise_signal(signal.SIGTERM)

    try:
        say("outcome", (_trained(request, means, lambda what: say("what", what)), None))
    except BitsimError as error:
        say("outcome", (None, _line(request, error)))


def _trained(request: Request, means: Means, says: Callable[[str], None]) -> dict[str, Any]:
    from .run import train  # noqa: PLC0415 slow, and not for the parent

    def step(done: int, steps: int, tokens: int, loss: float) -> None:
        says(f"step {done:,} of {steps:,}, loss {loss:.3f}")

    return train(request, means, says, step)


def _line(request: Request, error: Exception | str) -> str:
    """Return in one line which run failed and why."""
    text = " ".join(str(error).split())
    return text if request.name in text else f"{request.name}: {text}"


class _Board:
    """Lives on the cluster: workers write on it what they do, and the driver reads it."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def write(self, run: str, what: str) -> None:
        self._lines[run] = what

    def wiped(self) -> dict[str, str]:
        """Return what is new."""
        lines, self._lines = self._lines, {}
        return lines


def _on_ray(requests: Sequence[Request], means: Means, hears: Hears) -> Iterator[Rung]:
    """Train on a Ray cluster; a run whose worker dies is begun again elsewhere and goes on from its checkpoint."""
    ray = _ray()
    board = ray.remote(num_cpus=0)(_Board).remote()
    cpus, gpus = _share(ray, len(requests))
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES, retry_exceptions=[_Moved])(_remotely)
    means = replace(means, output=means.output.resolve())
    waiting = {remote.remote(request, means, Path.cwd(), board): request for request in requests}
    for request in requests:
        hears(request.name, "waits for a worker")
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=_GLANCE)
            with contextlib.suppress(ray.exceptions.RayError):  # the board's machine may be gone
                for run, what in ray.get(board.wiped.remote()).items():
                    hears(run, what)
            for each in done:
                request = waiting.pop(each)
                yield Rung(request, *_fetched(ray, each, request))
    except KeyboardInterrupt:
        for each in waiting:
            ray.cancel(each)
        ray.wait(list(waiting), num_returns=len(waiting), timeout=_PATIENCE)
        names = ", ".join(request.name for request in waiting.values())
        raise BitsimError(f"stopped; the same ladder goes on with {names}") from None
    finally:
        ray.kill(board)


def _ray() -> Any:
    """Return Ray, connected to the cluster that this machine belongs to."""
    try:
        import ray  # noqa: PLC0415 an extra
    except ImportError:
        raise BitsimError("executor ray: Ray is not installed: pip install 'bitsim-llm[cluster]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError:
            raise BitsimError("executor ray: found no cluster: start one with `ray start --head`") from None
    return ray


def _share(ray: Any, runs: int) -> tuple[int, int]:
    """Return the cores and the GPUs of a run: as many cores as leave none idle, at most those of one machine."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = 1 if any(machine.get("GPU") for machine in machines) else 0
    return max(min(sum(cores) // runs, *cores), 1), gpus


def _fetched(ray: Any, reference: Any, request: Request) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        return None, _line(request, f"{type(cause).__name__}: {cause}")
    return outcome


class _Moved(Exception):  # noqa: N818 it is no error
    """A worker was asked to stop, with its machine perhaps: the run goes on elsewhere."""


def _remotely(request: Request, means: Means, place: Path, board: Any) -> Outcome:
    """Train in a worker of Ray, in the driver's folder, so that relative names of data mean the same."""
    from .run import Stopped  # noqa: PLC0415 slow, and not for the driver

    if not place.is_dir():
        return None, _line(request, f"a worker has no folder {place}; expected it on every machine of the cluster")
    try:
        with contextlib.chdir(place):
            return _trained(request, means, lambda what: board.write.remote(request.name, what)), None
    except Stopped:
        raise _Moved from None
    except BitsimError as error:
        return None, _line(request, error)


EXECUTORS: dict[str, Executor] = {"local": _locally, "ray": _on_ray}
