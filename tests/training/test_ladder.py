"""Ladders: what is trained, what is not trained again, and what becomes of runs that die."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.training import ladder
from bitsim.training import run as runs
from bitsim.training.ladder import Rung, climb
from bitsim.training.loop import Loop, checkpoints
from bitsim.training.request import Means, Request
from bitsim.training.run import train


def request_for(text: Path, steps: int, scheme: str = "b1.58") -> Request:
    return Request(
        scheme=scheme, size="100K", data=str(text), tokens=steps * 512.0, batch_tokens=512, context=64, vocab=300,
        learning_rate=5e-3, precision="fp32",
    )  # fmt: skip


def means_in(folder: Path) -> Means:
    return Means(output=folder, save_every=4, evaluate_every=6, micro_batch=4)


def assert_as(rung: Rung, expected: dict[str, Any]) -> None:
    assert rung.failure is None
    assert rung.record is not None
    assert [dict(row) for row in rung.record["curve"]] == [dict(row) for row in expected["curve"]]
    assert rung.record["held_out_loss"] == expected["held_out_loss"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, small_text: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder with the twins, trained without interruption, and their records."""
    folder = tmp_path_factory.mktemp("recorded")
    return folder, {s: train(request_for(small_text, 12, s), means_in(folder)) for s in ("fp16", "b1.58")}


def test_what_is_recorded_is_not_trained_again(
    recorded: tuple[Path, dict[str, Any]], small_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "EXECUTORS", {"local": None})
    folder, records = recorded
    requests = [request_for(small_text, 12, scheme) for scheme in ("b1.58", "fp16")]
    rungs = list(climb(requests, means_in(folder)))
    assert [rung.request for rung in rungs] == requests
    for rung in rungs:
        assert_as(rung, records[rung.request.scheme])


@pytest.mark.slow
def test_a_killed_a_wrong_and_a_stopped_run(
    recorded: tuple[Path, dict[str, Any]], small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the first of three in a step, let the second fail, press Ctrl-C in the third, and climb again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: other threads add in another order
    killed, stopped = (request_for(small_text, 12, scheme) for scheme in ("b1.58", "fp16"))
    wrong = replace(killed, data=str(tmp_path / "missing"))

    def hears(run: str, what: str) -> None:
        if what.startswith("step 6 of 12"):
            if run == stopped.name:
                raise KeyboardInterrupt
            (child,) = [each for each in multiprocessing.active_children() if each.name == run]
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    first = climb([killed, wrong, stopped], means_in(tmp_path), hears=hears)
    rungs = [next(first), next(first)]
    with pytest.raises(BitsimError, match=rf"{stopped.name}: stopped; the same ladder goes on with it"):
        next(first)
    assert [rung.record for rung in rungs] == [None, None]
    assert rungs[0].failure == f"{killed.name}: its process ended by signal 9; the same ladder goes on with it"
    assert str(rungs[1].failure).startswith(f"{wrong.name}: {tmp_path / 'missing'}")
    assert "\n" not in str(rungs[1].failure)
    assert [folder.name for folder in checkpoints(tmp_path / killed.name)] == ["step-000000004"]
    assert checkpoints(tmp_path / stopped.name)[-1].name > "step-000000005"  # saved when it was asked to stop
    assert not multiprocessing.active_children()

    rungs = list(climb([killed, stopped], means_in(tmp_path)))
    for rung in rungs:
        assert_as(rung, recorded[1][rung.request.scheme])


def test_twins_take_the_same_steps(small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a run has 20 tokens for each parameter, but the norms that the twins differ in don't count."""
    seen: list[Any] = []

    def look(loop: Loop, progress: Any) -> Any:
        seen.append(loop)
        raise BitsimError("seen enough")

    monkeypatch.setattr(runs, "run_loop", look)
    for size in ("100K", "300K"):
        for scheme, norms in (("fp16", None), ("b1.58", None), ("b1.58", "inside"), ("b1", "none")):
            request = Request(scheme=scheme, size=size, data=str(small_text), context=64, vocab=300, norms=norms)
            with pytest.raises(BitsimError, match="seen enough"):
                train(replace(request, precision="fp32", batch_tokens=64), Means(output=tmp_path))
    for four in (seen[:4], seen[4:]):
        assert len({loop.model.num_parameters() for loop in four}) > 1
        assert {(loop.pace, loop.recipe) for loop in four} == {(four[0].pace, four[0].recipe)}


def test_unknown_executor() -> None:
    with pytest.raises(BitsimError, match="executor: expected one of local, ray, got 'slurm'"):
        list(climb([], Means(output=Path()), "slurm"))


def test_ray_that_is_not_installed(small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BitsimError, match=r"Ray is not installed: pip install 'bitsim-llm\[cluster\]'"):
        list(climb([request_for(small_text, 12)], means_in(tmp_path), "ray"))


@pytest.fixture
def ray() -> Iterator[Any]:
    """A cluster of one worker on this machine."""
    library = pytest.importorskip("ray", reason="Ray is not installed")
    library.init(
        num_cpus=1, num_gpus=0, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    try:
        yield library
    finally:
        library.shutdown()


def workers() -> list[Any]:
    """Return the processes below this one that train for Ray."""
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_remotely" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # has just ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray leaves files and processes to be cleared away
def test_a_killed_worker_of_ray(ray: Any, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on in another worker, from its checkpoint; names of data mean what they mean here."""
    monkeypatch.chdir(small_text.parent)
    request = request_for(Path(small_text.name), 60)
    wrong = replace(request, data="missing")
    told: list[str] = []
    deaths: list[int] = []

    def hears(run: str, what: str) -> None:
        told.append(f"{run}: {what}")
        if run == request.name and what.startswith("step ") and not deaths and checkpoints(tmp_path / run):
            (worker,) = workers()
            deaths.append(worker.pid)
            worker.kill()

    rungs = {rung.request: rung for rung in climb([request, wrong], means_in(tmp_path), "ray", hears)}
    assert len(deaths) == 1
    assert f"{request.name}: waits for a worker" in told
    assert str(rungs[wrong].failure).startswith(f"{wrong.name}: missing")
    assert_as(rungs[request], train(request, means_in(tmp_path / "alone")))
