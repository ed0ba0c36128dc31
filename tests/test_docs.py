"""The documentation cannot fall behind: every command is in it, and what the README shows is what is printed.

`make docs` writes the printed output into the README.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bitsim.reports.cli import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n\$ (bitsim [^\n]*)\n(.*?)```", re.DOTALL)
UPDATE = os.environ.get("BITSIM_UPDATE_README") == "1"


def commands(group: click.Group = cli, prefix: str = "bitsim") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups left out."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = list(commands())
NAMES = [name for name, _ in COMMANDS]


def printed(line: str) -> str:
    """What a command line prints, without trailing spaces."""
    result = CliRunner().invoke(cli, shlex.split(line)[1:], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return "\n".join(row.rstrip() for row in result.output.rstrip().splitlines()) + "\n"


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=NAMES)
def test_command_has_help_with_an_example_and_is_in_the_readme(name: str, command: click.Command) -> None:
    assert command.help
    assert "Example" in command.help
    assert re.search(rf"\b{name}(\s|$)", command.help), "the example runs this command"
    assert f"`{name}`" in README.read_text(encoding="utf-8")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} --{option.name} has no help"


@pytest.mark.parametrize("block", BLOCK.findall(README.read_text(encoding="utf-8")), ids=lambda block: block[0])
def test_readme_shows_what_is_printed(block: tuple[str, str]) -> None:
    line, shown = block
    output = printed(line)
    if UPDATE:
        text = README.read_text(encoding="utf-8")
        README.write_text(text.replace(f"$ {line}\n{shown}```", f"$ {line}\n{output}```"), encoding="utf-8")
    else:
        assert shown == output, "run `make docs`"


def test_examples_in_help_run() -> None:
    for _, command in COMMANDS:
        for line in re.findall(r"^\s+(bitsim .*)$", command.help or "", re.MULTILINE):
            if " > " in line or " -o " in line:  # these write files
                continue
            assert printed(line.split("   ")[0].strip())


def test_readme_python_runs() -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    scope: dict[str, object] = {}
    exec(code.group(1), scope)
    assert "tokens/s" in repr(scope["result"])


def test_every_folder_and_shipped_scheme_is_in_the_readme() -> None:
    from bitsim.simulator import SCHEMES

    text = README.read_text(encoding="utf-8")
    assert all(f"`{scheme}`" in text for scheme in SCHEMES)
    folders = [p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    assert all(f"{folder}/" in text for folder in folders)
