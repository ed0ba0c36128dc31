"""bitsim report."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..question_options import DEFAULT_SCHEMES, FILE, question_options

if TYPE_CHECKING:
    from ..document.question import Question

_PAPERS = ("a4", "us-letter")
_MODEL_ONLY = ("schemes", "machines", "batch", "prompt_tokens", "new_tokens", "context", "tokens", "region")


@click.command(short_help="A report to hand on: PDF and HTML.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="The PDF to write.")
@click.option("--html", type=FILE, metavar="FILE", help="Write one self-contained HTML file (too).")
@question_options
@click.option("--paper", type=click.Choice(_PAPERS), default="a4", show_default=True, help="Size of the PDF's pages.")
@click.pass_context
def report(call: click.Context, /, output: Path | None, html: Path | None, **request: Any) -> None:
    """Write a report: what ternary is worth for a model, a model measured on this machine, or a training ladder.

    The same request gives the same bytes: a date is printed only where SOURCE_DATE_EPOCH gives one.

    \b
    Examples:
      $ bitsim report --size 70B -o report.pdf
      $ bitsim report --model bitnet-b1.58-2B-4T --hardware raspberry-pi-5 --hardware m2 -o two.pdf --html two.html
      $ bitsim report --measured bench.json -o measured.pdf
      $ bitsim report --runs runs/runs.csv -o ladder.pdf
    """
    if output is None and html is None:
        raise click.UsageError("give --output, --html or both: where to write the report")
    files = [path.resolve() for path in (output, html, request["runs"], request["measured"]) if path is not None]
    if len(set(files)) < len(files):
        raise click.UsageError("--output, --html, --runs and --measured: expected different files")
    with _progress() as tell:
        _check_place(output, ".pdf")
        _check_place(html, ".html", ".htm")
        question = _question(call, request)
        _write(question, output, html, tell)


def _check_place(path: Path | None, *endings: str) -> None:
    """Refuse a place that can't be written to, or another kind of file, before the work, not after it."""
    from bitsim.energy_tables import BitsimError
    from bitsim.energy_tables.errors import shown

    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise BitsimError(f"{path}: expected the name of a file in a folder that exists")
    if path is not None and path.suffix.lower() not in endings:
        raise BitsimError(f"{path}: expected a name that ends in {endings[0]}, got '{shown(path.suffix)}'")


def _write(question: "Question", output: Path | None, html: Path | None, tell: Callable[[str], None]) -> None:
    from bitsim.runtime.whole import whole_file

    from ..document.contents import gather
    from ..document.pictures import Pictures

    found, pictures = gather(question, tell), Pictures(tell)
    if output is not None:
        from ..document.pdf import render_pdf

        pages = render_pdf(found, question.paper, tell, pictures)
        with whole_file(output) as part:
            part.write_bytes(pages)
    if html is not None:
        from ..document.page import render_page

        tell("HTML")
        page = render_page(found, question, pictures)
        with whole_file(html) as part:
            part.write_text(page, encoding="utf-8", newline="\n")


def _question(call: click.Context, request: Mapping[str, Any]) -> "Question":
    from bitsim.simulator.workload import make_workload

    from ..document.question import Question

    about, spec = _subject(call, request)
    _check_files(request)
    workload = make_workload(request["batch"], request["prompt_tokens"], request["new_tokens"], request["context"])
    return Question(
        spec=spec,
        schemes=tuple(dict.fromkeys(request["schemes"])) or DEFAULT_SCHEMES,
        machines=tuple(dict.fromkeys(request["machines"])),
        workload=workload,
        tokens=request["tokens"],
        laws=request["laws"],
        runs=request["runs"],
        measured=request["measured"],
        region=request["region"],
        paper=request["paper"],
        command=_command(call),
        about=about,
    )


def _subject(call: click.Context, request: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what the report is about, and the model: the one named, measured, or the ladder's largest."""
    size, model, runs, measured = (request[name] for name in ("size", "model", "runs", "measured"))
    if size is not None and model is not None:
        raise click.UsageError("give one of --size and --model")
    if size is not None or model is not None:
        from bitsim.simulator import resolve_model, spec_for_size

        spec = spec_for_size(size) if size is not None else resolve_model(str(model))
        return "model", spec
    if measured is not None:
        from ..document.sections.measured import model_of

        return "measured", model_of(measured)
    if runs is None:
        raise click.UsageError("give --size or --model, or --measured or --runs alone")
    for name in _MODEL_ONLY:
        if call.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = next(each.opts[0] for each in call.command.params if each.name == name)
            raise click.UsageError(f"{option} has no meaning with --runs alone: name a model with --size or --model")
    from ..document.sections.runs import largest, read_rows

    return "runs", largest(read_rows(runs))


def _check_files(request: Mapping[str, Any]) -> None:
    """Read what was given once before the work: a file that is gone or damaged is said at once."""
    if request["runs"] is not None:
        from ..document.sections.runs import read_rows

        read_rows(request["runs"])
    if request["measured"] is not None:
        from ..document.sections.measured import read_measured

        read_measured(request["measured"])


def _command(call: click.Context) -> str:
    """Return the command line as a shell takes it: every option that was given, in the order of the help."""
    words = ["bitsim", "report"]
    for option in call.command.params:
        name = option.name or ""
        if call.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = call.params[name]
        for each in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0], f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being made; yields what changes the text."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False, markup=False).status("reading") as status:
        yield status.update
