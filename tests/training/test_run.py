"""Whole runs of a tiny model: what they leave, and what happens to those that die."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitsim.energy_tables import BitsimError
from bitsim.runtime import load
from bitsim.training import loop as loops
from bitsim.training.loop import Loop, checkpoints
from bitsim.training.records import COLUMNS
from bitsim.training.request import Means, Request
from bitsim.training.run import train
from bitsim.training.start import start_from

STEPS = 12


@pytest.fixture
def request_(small_text: Path) -> Request:
    return Request(
        scheme="b1.58", size="100K", data=str(small_text), tokens=STEPS * 512, batch_tokens=512, context=64,
        vocab=300, learning_rate=5e-3, precision="fp32",
    )  # fmt: skip


@pytest.fixture
def means(tmp_path: Path) -> Means:
    return Means(output=tmp_path / "runs", save_every=4, micro_batch=4)


def curve(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in record["curve"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_text: Path) -> tuple[Path, dict[str, Any]]:
    """A run that nobody interrupted."""
    output = tmp_path_factory.mktemp("whole")
    request = Request(
        scheme="b1.58", size="100K", data=str(small_text), tokens=STEPS * 512, batch_tokens=512, context=64,
        vocab=300, learning_rate=5e-3, precision="fp32",
    )  # fmt: skip
    return output, train(request, Means(output=output, save_every=4, micro_batch=4))


def test_record_says_what_was_done(whole: tuple[Path, dict[str, Any]]) -> None:
    output, record = whole
    assert record["steps"] == STEPS
    assert record["tokens"] == STEPS * 512
    assert [row["step"] for row in record["curve"]] == list(range(1, STEPS + 1))
    assert record["curve"][-1]["tokens"] == record["tokens"]
    assert record["parameters"] == record["embedding"] + record["non_embedding"] + record["other"]
    assert record["held_out_loss"] < record["curve"][0]["held_out_loss"] < np.log(300) + 0.5
    assert record["tokens_per_s"] == pytest.approx(record["tokens"] / record["seconds"])
    assert record["peak_memory_bytes"] > 50e6
    assert record["versions"]["torch"] == torch.__version__
    assert json.loads((output / record["run"] / "record.json").read_text())["held_out_loss"] == record["held_out_loss"]
    with (output / "runs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == list(COLUMNS)
    assert float(row["bits_per_byte"]) == record["bits_per_byte"]
    assert not (output / record["run"] / "checkpoints").exists()


def test_bits_per_byte_are_those_of_the_text(whole: tuple[Path, dict[str, Any]]) -> None:
    output, record = whole
    (about,) = output.glob("data/*/data.json")
    held = json.loads(about.read_text())["held_out"]
    expected = record["held_out_loss"] * held["tokens"] / (np.log(2) * held["bytes"])
    assert record["bits_per_byte"] == pytest.approx(expected)


def test_what_frequencies_alone_tell(whole: tuple[Path, dict[str, Any]]) -> None:
    output, record = whole
    folder = next((output / "data").glob("*/data.json")).parent
    train_tokens, held = (np.fromfile(folder / f"{side}.tokens", np.uint16) for side in ("train", "held_out"))
    odds = [(np.sum(train_tokens == token) + 1) / (len(train_tokens) + record["vocab"]) for token in held]
    assert record["unigram_loss"] == pytest.approx(-np.mean(np.log(odds)))


def test_model_runs(whole: tuple[Path, dict[str, Any]]) -> None:
    output, record = whole
    model = load(output / record["run"] / "model", threads=1)
    sequence = model.sequence(record["context"])
    text = np.random.default_rng(0).integers(1, 300, 40)
    ours = model.head.logits(model.hidden_states(sequence, text))
    model.close()
    master = start_from(output / record["run"] / "master", "b1.58").model.eval()
    with torch.no_grad():
        theirs = master(torch.from_numpy(text)[None]).logits[0].numpy()
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-2


def test_a_recorded_run_is_not_made_again(whole: tuple[Path, dict[str, Any]], request_: Request) -> None:
    output, record = whole
    before = (output / record["run"] / "record.json").stat().st_mtime_ns
    again = train(request_, Means(output=output))
    assert again["held_out_loss"] == record["held_out_loss"]
    assert (output / record["run"] / "record.json").stat().st_mtime_ns == before


def child(request: Request, means: Means, prelude: str = "") -> subprocess.Popen[str]:
    """Train in another process, after some lines of code."""
    code = """
        import os, signal, resource, sys
        from pathlib import PosixPath, WindowsPath
        import torch
        torch.set_num_threads(1)
        from bitsim.energy_tables import BitsimError
        from bitsim.training import loop as loops
        from bitsim.training.request import Means, Request
        from bitsim.training.run import train
        def step(done, steps, tokens, loss):
            print("step", done, flush=True)
    """
    rest = f"""
        try:
            train({request!r}, {means!r}, progress=step)
        except BitsimError as error:
            sys.exit(str(error))
    """
    text = textwrap.dedent(code) + textwrap.dedent(prelude) + textwrap.dedent(rest)
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


IN_A_STEP = """
    loss, calls = loops.Loop.compute_loss, []
    def dies(self, model, *others, **named):
        calls.append(model.training)
        if sum(calls) == 2 * 6 + 1:  # two micro-batches a step: in the middle of the seventh
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, model, *others, **named)
    loops.Loop.compute_loss = dies
"""
IN_A_SAVE = """
    flush = loops._flush
    def dies(folder):
        if folder.name == "checkpoint-8":
            (folder / "optimizer.pt").write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        flush(folder)
    loops._flush = dies
"""


AT_THE_END = """
    from bitsim.training import run as runs
    runs.write_record = lambda folder, record: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("prelude", "last"),
    [(IN_A_STEP, 4), (IN_A_SAVE, 4), (AT_THE_END, 12)],
    ids=["in a step", "in a save", "at the end"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    prelude: str, last: int, request_: Request, means: Means, whole: tuple[Path, dict[str, Any]]
) -> None:
    process = child(request_, means, prelude)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    run = means.output / request_.name
    newest = f"step-{last:09d}"
    assert checkpoints(run)[-1].name == newest
    with pytest.raises(BitsimError, match=f"interrupted at {newest}: --resume goes on"):
        train(request_, means)
    record = train(request_, replace(means, resume=True))
    assert curve(record) == curve(whole[1])
    assert record["held_out_loss"] == whole[1]["held_out_loss"]
    assert not (run / "saving").exists()


def test_a_run_that_is_asked_to_stop_saves(request_: Request, means: Means, whole: tuple[Path, dict[str, Any]]) -> None:
    process = child(request_, means)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 5\n":
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "and saved: --resume goes on" in errors
    assert "Traceback" not in errors
    record = train(request_, replace(means, resume=True))
    assert curve(record) == curve(whole[1])


def test_a_full_disk_leaves_the_last_checkpoint(
    request_: Request, means: Means, whole: tuple[Path, dict[str, Any]]
) -> None:
    full = """
        flush = loops._flush
        def then_full(folder):
            flush(folder)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        loops._flush = then_full
    """
    process = child(request_, means, full)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if "checkpoint of step 8 could not be written" in line]
    assert line.endswith("the last checkpoint is " + str(checkpoints(means.output / request_.name)[-1]))
    assert "Traceback" not in errors
    record = train(request_, replace(means, resume=True))
    assert curve(record) == curve(whole[1])


def test_a_loss_that_is_no_number_stops(
    request_: Request, means: Means, whole: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(self: Loop, model: Any, *others: Any, **named: Any) -> Any:
        if self.state.global_step == 8 and model.training:
            with torch.no_grad():
                model.get_parameter("model.layers.0.mlp.up_proj.weight")[3, 5] = torch.nan
        return Loop.__mro__[1].compute_loss(self, model, *others, **named)  # type: ignore[attr-defined]

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "compute_loss", poisoned)
        with pytest.raises(BitsimError, match=r"step 9: the model diverged: .*up_proj.weight.*step-000000008"):
            train(request_, means)
    record = train(request_, replace(means, resume=True))
    assert curve(record) == curve(whole[1])


def interrupted(request: Request, means: Means) -> Path:
    process = child(request, means, IN_A_STEP)
    process.communicate(timeout=300)
    return means.output / request.name


def test_a_damaged_checkpoint_is_named(request_: Request, means: Means) -> None:
    run = interrupted(request_, means)
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json", "spent.json"):
        file = checkpoints(run)[-1] / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(BitsimError, match="step-000000004"):
            train(request_, replace(means, resume=True))
        file.write_bytes(content)


def test_other_text_is_not_gone_on_with(request_: Request, means: Means, small_text: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes(small_text.read_bytes())
    request = replace(request_, data=str(copy))
    interrupted(request, means)
    copy.write_bytes(small_text.read_bytes() + b"\n<|endoftext|>\nSomething else altogether.")
    with pytest.raises(BitsimError, match="begun with other text"):
        train(request, replace(means, resume=True))


def test_two_processes_do_not_train_one_run(request_: Request, means: Means) -> None:
    process = child(request_, means)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("step")
    with pytest.raises(BitsimError, match="another process is training this run"):
        train(request_, replace(means, resume=True))
    process.communicate(timeout=300)
    assert process.returncode == 0


def test_batch_in_pieces_learns_the_same(request_: Request, tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    for name, changes in {
        "one": {"micro_batch": 8},
        "kept": {"micro_batch": 4, "gradient_checkpointing": True},
    }.items():
        record = train(request_, Means(output=tmp_path / name, save_every=100, **changes))  # type: ignore[arg-type]
        found, expected = ([row["loss"] for row in run["curve"]] for run in (record, whole[1]))
        np.testing.assert_allclose(found[:5], expected[:5], rtol=1e-5)
        np.testing.assert_allclose(found, expected, rtol=2e-3)  # some activations have rounded the other way


def test_a_teacher_is_listened_to(request_: Request, means: Means) -> None:
    full = train(replace(request_, scheme="fp16", tokens=40 * 512), means)
    teacher = str(means.output / full["run"] / "model")
    alone = train(request_, means)
    taught = train(replace(request_, teacher=teacher, teacher_weight=0.7), means)
    assert taught["held_out_loss"] < alone["held_out_loss"]
    wrong = replace(request_, teacher=teacher, vocab=280)
    with pytest.raises(BitsimError, match="expected the same tokenizer"):
        train(wrong, means)
    with pytest.raises(BitsimError, match="expected a Hugging Face folder to distil from"):
        train(replace(request_, teacher=str(means.output)), means)


def test_a_run_goes_on_from_a_checkpoint(
    request_: Request, means: Means, monkeypatch: pytest.MonkeyPatch, whole: tuple[Path, dict[str, Any]]
) -> None:
    full = train(replace(request_, scheme="fp16", tokens=40 * 512), means)
    strengths: list[float] = []
    monkeypatch.setattr(loops, "set_strength", lambda model, value: strengths.append(value))
    start = replace(request_, size=None, start=str(means.output / full["run"] / "model"), strength_steps=4)
    record = train(start, means)
    assert strengths == [0, 0.25, 0.5, 0.75, 1]
    assert record["vocab"] == full["vocab"]
    assert record["held_out_loss"] < whole[1]["held_out_loss"]


def test_tensorboard_hears(request_: Request, means: Means) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    record = train(request_, replace(means, report_to="tensorboard"))
    assert list((means.output / record["run"]).rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scheme": "b1.57"}, "scheme: expected one of .*, got 'b1.57'; did you mean 'b1.58'"),
        ({"size": None}, "expected a size or a checkpoint"),
        ({"start": "x"}, "expected a size or a checkpoint"),
        ({"context": 4}, "context: expected 8"),
        ({"tokens_per_parameter": 0.0}, "tokens per parameter: expected more than 0"),
        ({"size": "10K", "vocab": 300}, "size"),
        ({"size": "many"}, "size: expected"),
        ({"data": "/nothing/here"}, "/nothing/here"),
        ({"precision": "fp16"}, "precision: fp16 needs a GPU"),
        ({"recipe": "mine"}, "recipe: expected one of"),
    ],
)
def test_absurd_requests_are_refused(changes: dict[str, Any], complaint: str, request_: Request, means: Means) -> None:
    if torch.cuda.is_available() and changes.get("precision"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(BitsimError, match=complaint):
        train(replace(request_, **changes), means)


def test_tokens_follow_from_the_size(request_: Request, means: Means) -> None:
    record = train(replace(request_, tokens=None, tokens_per_parameter=0.02), means)
    weights = record["parameters"] - record["other"]
    assert record["tokens"] == round(0.02 * weights / 512) * 512
    assert record["tokens_per_parameter"] == pytest.approx(0.02, rel=0.15)


def test_micro_batch_must_divide(request_: Request, means: Means) -> None:
    with pytest.raises(BitsimError, match="micro-batch: expected a divisor of 8 sequences a device and step, got 3"):
        train(request_, replace(means, micro_batch=3))


def test_names_differ_with_what_is_asked(request_: Request) -> None:
    names = {replace(request_, seed=seed).name for seed in range(3)} | {replace(request_, tokens=1e6).name}
    assert len(names) == 4
    assert all(name.startswith("100K-b1.58-") for name in names)
