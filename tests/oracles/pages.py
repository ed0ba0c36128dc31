"""The pages of the documentation, and the command lines in them."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
from click.testing import CliRunner

from bitsim.reports.cli import cli

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SITE = ROOT / "reports" / "docs"
SHOWN = [README, *sorted(SITE.rglob("*.md"))]  # what `make docs` writes to
PAGES = [*SHOWN, ROOT / "CONTRIBUTING.md", ROOT / "energy_tables/data/README.md", ROOT / "training/results/README.md"]
FENCED = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
CONTINUED = re.compile(r"\\\n\s*")
VARIABLES = re.compile(r"^(?:[A-Z_]+=\S* +)+")
OURS = ("bitsim", "make", "pip", "torchrun")
INDENTED = re.compile(r"^    ((?:bitsim|make) .*)$", re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def printed(line: str) -> str:
    """What a command line prints, without trailing spaces."""
    environment = {"COLUMNS": "100", "NO_COLOR": "1"}
    result = CliRunner().invoke(cli, shlex.split(line)[1:], env=environment, prog_name="bitsim")
    assert result.exit_code == 0, result.output
    rows = [row.rstrip() for row in result.output.rstrip().splitlines()]
    return "".join(f"{row}\n" for row in rows)


def steps(body: str) -> list[tuple[str, str]]:
    """The command lines of a block, each with what is shown under it."""
    parts = re.split(r"^\$ (.*)\n", body, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def command_lines(page: Path) -> list[str]:
    """Every line of a page that runs one of `OURS`, in its order, without a comment and without variables before it."""
    text = text_of(page)
    bodies = [CONTINUED.sub(" ", body) for _, _, _, body in FENCED.findall(text)]
    found = [line for body in bodies for line, _ in steps(body)] + INDENTED.findall(FENCED.sub("", text))
    plain = (VARIABLES.sub("", line) for line in found)
    return [shlex.join(shlex.split(line, comments=True)) for line in plain if line.split(" ")[0] in OURS]


def own_words(line: str) -> list[str]:
    """The words after `bitsim`, up to a pipe or a file; none where the line runs something else."""
    words = shlex.split(line)
    if "bitsim.reports" in words:  # torchrun ... -m bitsim.reports train ...
        words = ["bitsim", *words[words.index("bitsim.reports") + 1 :]]
    if not words or words[0] != "bitsim":
        return []
    ends = [index for index, word in enumerate(words) if word in ("|", ">", "&&", "&")]
    return words[1 : min(ends, default=len(words))]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words begin with, and the words that are left for it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def read(line: str) -> None:
    """Read a line as its command does, every option and value, without running it."""
    command, words = command_of(own_words(line))
    with suppress(click.exceptions.Exit):  # --help
        command.make_context("bitsim", words).close()
