"""Runs that two processes share, as torchrun starts them: equal to those of one, and each goes on with the other's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bitsim.training.loop import checkpoints
from bitsim.training.records import RECORD, read_record
from bitsim.training.request import Means, Request
from bitsim.training.run import Stopped, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch has no gloo"
    ),
    pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would share the GPU"),
]

STEPS = 12
FLIPS = 5e-3  # nats: sums in another order make some weights and activations round the other way
WAYS = {"ddp": False, "fsdp": True}


@pytest.fixture(scope="module")
def request_(small_text: Path) -> Request:
    return Request(
        scheme="b1.58", size="100K", data=str(small_text), tokens=STEPS * 512.0, batch_tokens=512, context=64,
        vocab=300, learning_rate=5e-3, precision="fp32",
    )  # fmt: skip


def means_in(folder: Path, **changes: Any) -> Means:
    return replace(Means(output=folder, save_every=4, evaluate_every=6, micro_batch=2), **changes)


@contextmanager
def torchrun(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Start two processes, and see to it that none is left."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(launch, text=True, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stopped_at(step: int) -> Any:
    """Return a listener that asks its own process to stop after the step that follows."""

    def listen(done: int, steps: int, tokens: int, loss: float) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return listen


def options(request: Request) -> list[str]:
    """Return the request as a user writes it."""
    return [
        "train", "--size", "100K", "--data", request.data, "--tokens", str(STEPS * 512), "--batch-tokens", "512",
        "--context", "64", "--vocab", "300", "--learning-rate", "5e-3", "--precision", "fp32", "--save-every", "4",
        "--evaluate-every", "6", "--micro-batch", "2",
    ]  # fmt: skip


SCRIPT = """
    import contextlib, os, signal, sys
    from dataclasses import replace
    from pathlib import Path, PosixPath, WindowsPath
    import torch
    torch.set_num_threads(1)
    from bitsim.reports.cli import cli
    from bitsim.training import loop as loops
    from bitsim.training.request import Means, Request
    from bitsim.training.run import Stopped, train

    request, folder, means = {request!r}, {folder!r}, {means!r}
    full = replace(request, scheme="fp16")
    rank = int(os.environ["RANK"])

    def stop(done, steps, tokens, loss):
        if done == 5:  # heard by the first process only
            os.kill(os.getpid(), signal.SIGTERM)

    def stopped(request, means):
        try:
            train(request, means, progress=stop)
        except (Stopped, SystemExit) as end:
            assert isinstance(end, Stopped) == (rank == 0)
        else:
            raise AssertionError("nobody stopped")

    for name, sharded in {ways!r}.items():
        ours = replace(means, fsdp=sharded)
        with (folder / name / f"said by {{rank}}").open("w") as file, contextlib.redirect_stdout(file):
            output = ["--output", str(folder / name / "whole"), "--format", "json"]
            cli.main({options!r} + output + ["--fsdp"] * sharded, standalone_mode=False)
        train(full, replace(ours, output=folder / name / "whole"))
        stopped(request, replace(ours, output=folder / name / "stopped"))
        train(request, replace(ours, output=folder / name / "of one", resume=True))

    loss, calls = loops.Loop.compute_loss, []
    def dies(self, model, *others, **named):
        calls.append(model.training)
        if sum(calls) == 2 * 6 + 1 and rank == 1:  # two micro-batches a step: in the middle of the seventh
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, model, *others, **named)
    loops.Loop.compute_loss = dies
    train(request, replace(means, fsdp=True, output=folder / "killed"))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request_: Request) -> Path:
    """Runs of one process, in "one", and of two, in "ddp", "fsdp" and "killed"."""
    folder = tmp_path_factory.mktemp("runs")
    train(request_, means_in(folder / "one"))
    train(replace(request_, scheme="fp16"), means_in(folder / "one"))
    with pytest.raises(Stopped):
        train(request_, means_in(folder / "ddp" / "of one"), progress=stopped_at(5))
    shutil.copytree(folder / "ddp" / "of one", folder / "fsdp" / "of one")
    script = folder / "script.py"
    text = textwrap.dedent(SCRIPT)
    command = options(request_)
    script.write_text(text.format(request=request_, folder=folder, means=means_in(folder), ways=WAYS, options=command))
    with torchrun(str(script)) as process:
        said, errors = process.communicate(timeout=300)
    assert said == "about to die\n", errors
    assert process.returncode == 1
    return folder


def record_in(folder: Path, request: Request) -> dict[str, Any]:
    return read_record(folder / request.name / RECORD)


def assert_equal(record: dict[str, Any], expected: dict[str, Any], difference: float) -> None:
    for name in ("loss", "held_out_loss"):
        ours, theirs = ([row[name] for row in each["curve"] if name in row] for each in (record, expected))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=difference)
    assert record["held_out_loss"] == pytest.approx(expected["held_out_loss"], abs=difference)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_come_to_the_losses_of_one(runs: Path, request_: Request, way: str) -> None:
    """Ternary weights that are nearly halfway between two values round to either, so their losses are less equal."""
    full = replace(request_, scheme="fp16")
    for request, difference in ((full, 1e-5), (request_, FLIPS)):
        record, expected = record_in(runs / way / "whole", request), record_in(runs / "one", request)
        assert (record["devices"], record["sharded"]) == (2, WAYS[way])
        assert record["steps"] == expected["steps"] == STEPS
        assert_equal(record, expected, difference)


@pytest.mark.parametrize("way", WAYS)
def test_what_two_processes_export_is_whole(runs: Path, request_: Request, way: str) -> None:
    full = replace(request_, scheme="fp16")
    for request, kind, difference in ((full, "model", 1e-3), (request_, "master", 0.05)):
        place = Path(request.name) / kind
        ours = load_file(runs / way / "whole" / place / "model.safetensors")
        theirs = load_file(runs / "one" / place / "model.safetensors")
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_allclose(ours[name], tensor, rtol=0, atol=difference, err_msg=name)
        configs = [json.loads((runs / who / place / "config.json").read_text()) for who in (f"{way}/whole", "one")]
        assert configs[0] == configs[1]


@pytest.mark.parametrize("way", WAYS)
def test_one_process_goes_on_with_what_two_saved(runs: Path, request_: Request, way: str) -> None:
    output = runs / way / "stopped"
    assert checkpoints(output / request_.name)[-1].name == "step-000000006"
    record = train(request_, means_in(output, resume=True))
    assert record["devices"] == 1
    assert_equal(record, record_in(runs / "one", request_), FLIPS)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_go_on_with_what_one_saved(runs: Path, request_: Request, way: str) -> None:
    record = record_in(runs / way / "of one", request_)
    assert record["devices"] == 2
    expected = record_in(runs / "one", request_)
    assert_equal(record, expected, FLIPS)
    assert record["curve"][5]["loss"] == expected["curve"][5]["loss"]  # the sixth step was that one's


def test_one_process_goes_on_where_two_died(runs: Path, request_: Request) -> None:
    output = runs / "killed"
    assert checkpoints(output / request_.name)[-1].name == "step-000000004"
    record = train(request_, means_in(output, resume=True))
    assert_equal(record, record_in(runs / "one", request_), FLIPS)


@pytest.mark.parametrize("way", WAYS)
def test_the_command_speaks_once(runs: Path, way: str) -> None:
    record = json.loads((runs / way / "said by 0").read_text())
    assert (record["devices"], record["sharded"]) == (2, WAYS[way])
    assert (runs / way / "said by 1").read_text() == ""


def test_an_error_is_said_once_and_ends_all(tmp_path: Path, request_: Request) -> None:
    missing = replace(request_, data=str(tmp_path / "missing"))
    with torchrun("-m", "bitsim.reports", *options(missing), "--output", str(tmp_path)) as process:
        said, errors = process.communicate(timeout=300)
    assert (process.returncode, said) == (1, "")
    (line,) = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert str(tmp_path / "missing") in line
    assert "bitsim/" not in errors.replace(str(tmp_path), "")  # torchrun shows a traceback of its own
