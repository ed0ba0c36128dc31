"""`bitsim train`, from a text to a model that `bitsim run` runs."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

torch = pytest.importorskip("torch")

Run = Callable[..., Result]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several test processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [{"text": f"Number {n} comes after {n - 1} and before {n + 1}."} for n in range(1, 400)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def options(text: Path, output: Path, *others: str) -> list[str]:
    return [
        "train", "--size", "100K", "--data", str(text), "--tokens", "3K", "--batch-tokens", "256", "--context", "64",
        "--vocab", "300", "--precision", "fp32", "--output", str(output), *others,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(bitsim: Run, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("trained") / "runs"
    result = bitsim(*options(text, output, "--format", "json"))
    assert (result.exit_code, result.stderr) == (0, "")
    return output, json.loads(result.stdout)


def refused(result: Result, status: int, said: str) -> None:
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_json_is_the_record(trained: tuple[Path, dict[str, Any]]) -> None:
    output, record = trained
    assert record == json.loads((output / record["run"] / "record.json").read_text())
    assert (record["scheme"], record["size"], record["steps"]) == ("b1.58", "100K", 12)
    assert record["held_out_loss"] < record["curve"][0]["held_out_loss"]


def test_what_is_on_record_is_shown_and_not_trained(
    bitsim: Run, text: Path, trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsim.training import run

    monkeypatch.setattr(run, "_train", None)
    output, record = trained
    result = bitsim(*options(text, output, "--format", "json"))
    assert json.loads(result.stdout) == record


def test_table(bitsim: Run, text: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    output, record = trained
    result = bitsim(*options(text, output))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line[:10].strip(): line[10:] for line in result.stdout.splitlines()}
    assert lines["run"] == f"{output}/{record['run']}"
    assert lines["model"].startswith(f"b1.58, {record['parameters']:,} parameters, 92,160 without the embedding")
    assert lines["learnt"].startswith(f"3,072 tokens of {text}, 12 steps, ")
    assert lines["held out"].startswith(f"{record['held_out_loss']:.4f} nats per token, ")
    assert lines["next"] == f'bitsim run "It is" --model {output}/{record["run"]}/model'


def test_csv(bitsim: Run, text: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    output, record = trained
    (row,) = csv.DictReader(io.StringIO(bitsim(*options(text, output, "--format", "csv")).stdout))
    assert row["run"] == record["run"]
    assert float(row["held_out_loss"]) == record["held_out_loss"]
    assert "curve" not in row


def test_model_runs(bitsim: Run, trained: tuple[Path, dict[str, Any]]) -> None:
    output, record = trained
    result = bitsim("run", "Number 7", "--model", str(output / record["run"] / "model"), "--max-tokens", "8")
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_an_interrupted_run_wants_resume(bitsim: Run, text: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    output, record = trained
    other = bitsim(*options(text, output, "--seed", "7", "--format", "json"))
    name = json.loads(other.stdout)["run"]
    assert name != record["run"]
    (output / name / "record.json").unlink()
    (output / name / "checkpoints" / "step-000000006").mkdir(parents=True)
    refused(bitsim(*options(text, output, "--seed", "7")), 1, "interrupted at step-000000006: --resume goes on with it")


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        (("--data", "/nothing/here"), 1, "/nothing/here"),
        (("--size", "many"), 1, "size: expected"),
        (("--scheme", "b1.57"), 2, "'b1.57' is not one of"),
        (("--from", "model"), 2, "one of --size and --from is needed"),
        (("--learning-rate", "2"), 1, "learning rate: expected more than 0 and at most 1, got 2"),
        (("--tokens", "some"), 2, "some"),
        (("--micro-batch", "3"), 1, "micro-batch: expected a divisor of 4"),
        (("--norms", "inside", "--scheme", "fp16"), 1, "norms: expected sub or none, as fp16 has no quantised layers"),
        (("--context", "4"), 2, "4 is not in the range"),
        (("--teacher", "/nothing/here"), 1, "/nothing/here: expected a Hugging Face folder to distil from"),
    ],
)
def test_wrong_options(
    bitsim: Run, text: Path, tmp_path: Path, changes: tuple[str, ...], status: int, said: str
) -> None:
    refused(bitsim(*options(text, tmp_path, *changes)), status, said)


def test_neither_size_nor_checkpoint(bitsim: Run) -> None:
    refused(bitsim("train"), 2, "one of --size and --from is needed")


def test_help_shows_how(bitsim: Run) -> None:
    result = bitsim("train", "--help")
    assert result.exit_code == 0
    for line in ("$ bitsim train --size 1M --data corpus", "$ bitsim train --from ./SmolLM2-135M"):
        assert line in result.stdout
