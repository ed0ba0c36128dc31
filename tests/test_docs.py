"""The documentation cannot fall behind: each command line in it is run, or at least read as the command reads it.

What the README and the site show under ```console is compared with what is printed; `make docs` writes it there. Lines
under ```text take long, or print what depends on the machine: they are only read here, and some of them run in small in
`tests/reports/docs/test_howto.py`.
"""

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pages import (
    FENCED,
    PAGES,
    README,
    ROOT,
    SHOWN,
    SITE,
    command_lines,
    command_of,
    name_of,
    own_words,
    printed,
    read,
    steps,
    text_of,
)

from bitsim.reports.cli import cli

INLINE = re.compile(r"`((?:bitsim|make) [^`]*)`")
FILE_NAME = re.compile(r'title="([\w.-]+)"')
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
UPDATE = os.environ.get("BITSIM_UPDATE_README") == "1"
MAKEFILE = text_of(ROOT / "Makefile")
EXTRAS = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]


def commands(group: click.Group = cli, prefix: str = "bitsim") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups left out."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = list(commands())
NAMES = [name for name, _ in COMMANDS]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=NAMES)
def test_command_has_help_with_an_example_and_is_in_the_readme(name: str, command: click.Command) -> None:
    assert command.help
    assert "Example" in command.help
    assert re.search(rf"\b{name}(\s|$)", command.help), "the example runs this command"
    assert f"`{name}`" in text_of(README)
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} --{option.name} has no help"


def test_the_page_of_commands_has_the_help_of_each() -> None:
    page = SITE / "reference/commands.md"
    blocks = [f"\n## {name}\n\n```console\n$ {name} --help\n{printed(f'{name} --help')}```\n" for name in NAMES]
    whole = "".join([text_of(page).partition("\n## ")[0], *blocks])
    if UPDATE:
        page.write_text(whole, encoding="utf-8")
    assert text_of(page) == whole, "run `make docs`"


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_page_shows_what_is_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's commands run one after the other in a folder that has the files the page shows."""
    here = tmp_path / "my-model"  # a model without a name is called as its folder
    here.mkdir()
    monkeypatch.chdir(here)
    text = text_of(page)
    for _, kind, title, body in FENCED.findall(text):
        if name := FILE_NAME.search(title):
            (here / name[1]).write_text(body, encoding="utf-8")
        for line, shown in steps(body) if kind == "console" else ():
            assert own_words(line), f"{line}: only bitsim's output is compared"
            output = printed(line)
            if UPDATE:
                text = text.replace(f"$ {line}\n{shown}", f"$ {line}\n{output}")
            else:
                assert shown == output, "run `make docs`"
    if UPDATE and text != text_of(page):
        page.write_text(text, encoding="utf-8")


LINES = [pytest.param(line, id=f"{name_of(page)}: {line}") for page in PAGES for line in command_lines(page)]


@pytest.mark.parametrize("line", LINES)
def test_line_can_be_read(line: str) -> None:
    """By the command it is for: bitsim, make, or pip with an extra of bitsim's."""
    words = shlex.split(line)
    if words[0] == "make" and len(words) > 1:
        assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)
    elif own_words(line):
        read(line)
    for extras in re.findall(r"(?:bitsim-llm|\.)\[([\w,]+)\]", line):
        assert set(extras.split(",")) <= set(EXTRAS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_a_sentence_exist_with_their_options(page: Path) -> None:
    for line in INLINE.findall(COMMENT.sub("", FENCED.sub("", text_of(page)))):
        words = line.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE), line
            continue
        command, rest = command_of([word for word in words[1:] if word != "X"])
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= known | {"--help"}, line


def test_examples_in_help_run() -> None:
    for _, command in COMMANDS:
        for line in re.findall(r"^\s+(bitsim .*)$", command.help or "", re.MULTILINE):
            if " > " in line or " -o " in line:  # these write files
                continue
            assert printed(line.split("   ")[0].strip())


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_python_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What needs no model of the reader's runs, and a remark `# 1.23` says what a line prints; the rest compiles."""
    for _, kind, _, body in FENCED.findall(text_of(page)):
        if kind != "python":
            continue
        code = compile(body, name_of(page), "exec")
        if any(module in body for module in ("bitsim.runtime", "bitsim.training", "openai")):  # the last is run by
            continue  # tests/runtime/serving/http/test_chat.py
        exec(code, {})
        said = [line.split("# ")[1] for line in body.splitlines() if line.startswith("print(") and "# " in line]
        assert capsys.readouterr().out.splitlines()[: len(said)] == said


def test_every_folder_and_shipped_scheme_is_in_the_readme() -> None:
    from bitsim.simulator import SCHEMES

    text = text_of(README)
    assert all(f"`{scheme}`" in text for scheme in SCHEMES)
    folders = [p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    assert all(f"{folder}/" in text for folder in folders)


def test_every_key_of_the_json_is_in_its_page() -> None:
    found = json.loads(printed("bitsim estimate --size 7B --tokens 2T --hardware m2 --format json"))
    keys = {f"{part}.{key}" for part in ("model", "workload") for key in found[part]}
    keys |= {f"ratios[].{key}" for key in found["ratios"][0]}
    for key, value in found["estimates"][0].items():
        if key.endswith("_range"):
            continue
        below = value if isinstance(value, dict) else value[0] if key == "operations" else {}
        keys |= {f"estimates[].{key}.{name}" for name in below} or {f"estimates[].{key}"}
    page = text_of(SITE / "reference/json.md")
    listed = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    assert listed == {re.sub(r"operations\.", "operations[].", key) for key in keys if not key.endswith("_range")}
