"""The how-to pages' own lines, in their order, on a model and a text so small that all of it takes seconds.

What a line leaves behind the next one finds. An option that is given again at the end of a line makes it small.
"""

import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import ROOT, SITE, command_lines, own_words

from bitsim.reports.cli import cli

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

ELSEWHERE = ("bitsim corpus", "--executor ray", "torchrun")  # packages to download, or several processes
TINY_RUN = (
    "--tokens 1K --context 64 --vocab 300 --batch-tokens 512 --precision fp32 --micro-batch 4 --evaluate-every 2"
    " --save-every 2"
)
SMALL = {
    "ladder": f"{TINY_RUN} --sizes 0.55M --tokens-per-parameter 20",
    "train": TINY_RUN,
    "run": "--max-tokens 2 --raw",
    "bench": "--threads 1 --rounds 1 --prompt-tokens 4 --new-tokens 2",
    "fit-law": "--resamples 50",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a text, and the runs that this project recorded."""
    here = tmp_path_factory.mktemp("howto")
    (here / "training").symlink_to(ROOT / "training")
    (here / "text").mkdir()
    documents = [f"It is story {index} of a house on a hill. " * 40 for index in range(40)]
    (here / "text" / "stories.txt").write_text("\n<|endoftext|>\n".join(documents))
    (here / "book.txt").write_text(documents[0])
    return here


def named(word: str) -> list[str]:
    """The run that `runs/0.55M-b1.58-.../model` means; any other word is itself."""
    return [str(path) for path in Path().glob(word.replace("...", "*"))] if "..." in word else [word]


def run(line: str) -> None:
    """Run a line as it stands but for what makes it small; its output goes to the file that it names."""
    words = [path for word in own_words(line) for path in named(word)]
    result = CliRunner().invoke(cli, [*words, *SMALL.get(words[0], "").split()])
    assert result.exit_code == 0, f"{line}\n{result.output}"
    if ">" in line:
        Path(shlex.split(line)[-1]).write_text(result.stdout)


def ours(page: str) -> list[str]:
    return [line for line in command_lines(SITE / "howto" / page) if own_words(line)]


def test_train_a_ladder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line in ours("train-a-ladder.md"):
        if not any(word in line for word in ELSEWHERE):
            run(line)
    assert (folder / "tiny.safetensors").stat().st_size > 0
    assert (folder / "ladder.pdf").read_bytes().startswith(b"%PDF")


def test_run_on_a_raspberry_pi(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the small model in place of the one that is downloaded."""
    monkeypatch.chdir(folder)
    (model,) = folder.glob("runs/0.55M-b1.58-*/model")
    shutil.copytree(model, "bitnet-2b")
    for line in ours("run-on-a-raspberry-pi.md"):
        if own_words(line)[0] != "chat":
            run(line)
    assert (folder / "measured.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("page", ["estimate-my-model.md", "read-the-report.md"])
def test_lines_that_print_no_table(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line in ours(page):
        if "sweep" in line or "plot" in line:
            run(line)
