"""bitsim doctor."""

from typing import Any

import click

from ..model_options import waiting
from ..options import output_format

_WIDTH = 110  # of the lines of a finding, where the terminal is wider
_INDENT = 10
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


@click.command(short_help="What is wrong with a model's file.")
@click.argument("file")
@click.option(
    "--against", metavar="MODEL", help="The model that FILE was made from, in any form: every tensor is compared."
)
@click.option(
    "--run",
    is_flag=True,
    help="Run the model on a short English text, as it is and with one thing changed at a time: the other activation, "
    "scales turned over, rows of q and k in another order. What foretells the text best is right.",
)
@output_format
def doctor(file: str, against: str | None, run: bool, form: str) -> int:
    """Look for what makes the model in FILE answer wrongly, though it loads.

    Exit code: 0 if there is nothing to complain of, 1 if there are errors or warnings. Notes are questions that the
    file alone leaves open; --run and --against settle them.

    \b
    scale-sense       scales multiply where they should divide, or the other way round
    requantised       ternary weights were made ternary again: scales are too small
    activation        SiLU where the model was trained with squared ReLU
    *-sub-norms       norms before the outputs are missing, or left out by readers
    rotary-order      rows of q and k are permuted, or not, against the architecture
    head              the head is another than the configuration says
    tokenizer, chat-template, end-of-text   missing, or of another model
    illegal-codes, lopsided-codes, not-finite, zero-matrix, unread-tensors, unreadable, ...

    FILE is a GGUF file, a Hugging Face folder with safetensors, or a file of bitsim convert. Nothing is changed.

    \b
    Examples, with a model in ./model:
      $ bitsim doctor ./model
      $ bitsim doctor model.gguf --against ./model
      $ bitsim doctor model.gguf --run --format json
    """
    from bitsim.runtime.diagnosis import diagnose

    with waiting(f"reading {file}") as tell:
        diagnosis = diagnose(file, against=against, run=run, tell=tell)
    _show(diagnosis, form)
    return 0 if diagnosis.sound else 1


def _show(diagnosis: Any, form: str) -> None:
    import dataclasses

    from ..text import print_json, print_rows

    findings = [dataclasses.asdict(finding) for finding in diagnosis.findings]
    if form == "json":
        file = str(diagnosis.contents.place)
        print_json({"file": file, "sound": diagnosis.sound, "findings": findings, "measured": diagnosis.measured})
    elif form != "table":
        print_rows(findings, form)
    else:
        _print(diagnosis)


def _print(diagnosis: Any) -> None:
    from ..text import console

    screen = console()
    width = min(screen.width, _WIDTH)
    counts = {name: sum(each.severity == name for each in diagnosis.findings) for name in ("error", "warning", "note")}
    said = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count)
    screen.print(f"{diagnosis.contents.place}: {said or 'nothing to complain of'}", soft_wrap=True)
    for finding in diagnosis.findings:
        screen.print()
        screen.print(_paragraph(finding.severity, f"{finding.check}: {finding.what}", width))
        screen.print(_paragraph("evidence", finding.evidence, width))
        screen.print(_paragraph("mend", finding.mend, width))
    if diagnosis.measured:
        screen.print()
        for name, value in diagnosis.measured.items():
            screen.print(f"{value:9.4f}  {name}")


def _paragraph(label: str, text: str, width: int) -> Any:
    """Return a text that hangs beside its label; names and paths are not cut."""
    import textwrap

    from rich.text import Text

    indent = " " * _INDENT
    lines = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return Text.assemble((f"{label:<{_INDENT}}", _STYLES.get(label, "dim")), "\n".join(lines)[_INDENT:])
