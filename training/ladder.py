"""Ladders: the same recipe at rising sizes, for several schemes; what is recorded already is not trained again.

Each run has a process of its own, so that one that dies takes no other with it and its memory is its own. On a Ray
cluster, runs go to whatever machine is free; all of them must see the folder of runs under the same name.
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from bitsim.energy_tables import BitsimError

from .records import RECORD, read_record
from .request import Means, Request


@dataclass(frozen=True, slots=True)
class Rung:
    """What became of one run: its record, or in one line why there is none."""

    request: Request
    record: dict[str, Any] | None
    failure: str | None = None


# Hears of the run that is at work: its name and what it does.
Hears = Callable[[str, str], None]
Executor = Callable[[Sequence[Request], Means, Hears], Iterator[Rung]]


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
        BitsimError: no such executor, Ray is not installed or finds no cluster, or a record is damaged.
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
        yield from EXECUTORS[executor](missing, replace(means, resume=True), hears)


def _locally(requests: Sequence[Request], means: Means, hears: Hears) -> Iterator[Rung]:
    """Train one after the other, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    for request in requests:
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_child, args=(theirs, request, means), name=request.name)
        process.start()
        theirs.close()
        yield _followed(process, ours, request, hears)


def _followed(process: Any, messages: Connection, request: Request, hears: Hears) -> Rung:
    """Pass on what a child says until it ends."""
    rung = None
    try:
        while True:
            kind, content = messages.recv()
            if kind == "record":
                rung = Rung(request, content)
            elif kind == "failure":
                rung = Rung(request, None, content)
            else:
                hears(request.name, content)
    except EOFError:
        process.join()
    except KeyboardInterrupt:  # the child has heard it too, and saves
        process.join()
        raise
    code = process.exitcode
    how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
    return rung or Rung(
        request, None, f"{request.name}: its process ended {how}: run the ladder again to go on with it"
    )


def _child(messages: Connection, request: Request, means: Means) -> None:
    """Train in this process and say so."""
    from .run import train  # noqa: PLC0415 the parent needs no torch

    def step(done: int, steps: int, tokens: int, loss: float) -> None:
        messages.send(("step", f"step {done:,} of {steps:,}, loss {loss:.3f}"))

    try:
        messages.send(("record", train(request, means, lambda what: messages.send(("tell", what)), step)))
    except BitsimError as error:
        messages.send(("failure", str(error)))


def _on_ray(requests: Sequence[Request], means: Means, hears: Hears) -> Iterator[Rung]:
    """Train on a Ray cluster; a run whose worker dies is begun again elsewhere and goes on from its checkpoint."""
    try:
        import ray  # noqa: PLC0415 an extra
    except ImportError:
        raise BitsimError("executor ray: Ray is not installed: pip install 'bitsim-llm[cluster]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError:
            raise BitsimError("executor ray: found no cluster: start one with `ray start --head`") from None
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(_remotely)
    means = replace(means, output=means.output.resolve())
    waiting = {remote.remote(request, means): request for request in requests}
    for request in requests:
        hears(request.name, "waits for a worker")
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        request = waiting.pop(done)
        try:
            record, failure = ray.get(done)
        except ray.exceptions.RayError as error:
            record, failure = None, f"{request.name}: {str(error).splitlines()[0]}"
        yield Rung(request, record, failure)


def _remotely(request: Request, means: Means) -> tuple[dict[str, Any] | None, str | None]:
    """Train in a worker of Ray."""
    from .run import train  # noqa: PLC0415 the driver needs no torch

    try:
        return train(request, means), None
    except BitsimError as error:
        return None, str(error)


EXECUTORS: dict[str, Executor] = {"local": _locally, "ray": _on_ray}
