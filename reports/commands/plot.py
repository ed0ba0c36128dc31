"""bitsim plot."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..question_options import DEFAULT_SCHEMES, FILE, question_options

if TYPE_CHECKING:
    from ..document.question import Question
    from ..figures import Figure

_TABLE = ".csv"
_ANY_SIZE = "7B"  # of a figure whose numbers depend on no model


@click.command(short_help="One figure as SVG, PNG or PDF, or its numbers.")
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Print the figures' names and what they show.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="A .svg, .png or .pdf; with --data, a .csv.")
@click.option("--data", is_flag=True, help="Print the figure's numbers as CSV instead, in SI units.")
@question_options
def plot(
    name: str | None, listed: bool, output: Path | None, data: bool, size: str | None, model: str | None, **request: Any
) -> None:
    """Draw one of the figures of a report, NAME. Without NAME, print what there is.

    \b
    Examples:
      $ bitsim plot --list
      $ bitsim plot energy-parts --size 70B -o energy.svg
      $ bitsim plot roofline --model bitnet-b1.58-2B-4T --hardware raspberry-pi-5 -o roofline.pdf
      $ bitsim plot sizes --size 7B --hardware m2 --data
      $ bitsim plot curves --runs runs/runs.csv -o curves.png
    """
    from ..figures import FIGURES

    if listed or name is None:
        if output is not None or data:
            raise click.UsageError("NAME: expected the name of a figure (bitsim plot --list)")
        _print_names(FIGURES)
        return
    figure = _figure(FIGURES, name)
    _check_output(output, data)
    rows = figure.rows(_question(figure, size, model, request))
    if data:
        _write_data(rows, output)
    elif output is not None:
        from ..figures.glyphs import lacking_glyphs
        from ..plot_style import save_figure

        with lacking_glyphs():
            save_figure(output, figure.draw(rows))


def _print_names(figures: "dict[str, Figure]") -> None:
    width = max(map(len, figures))
    for figure in figures.values():
        click.echo(f"{figure.name:<{width}}  {figure.title}")


def _check_output(output: Path | None, data: bool) -> None:
    """Refuse, before the work, a file that can't be written as asked."""
    from ..plot_style import check_kind

    if data:
        if output is not None and output.suffix.lower() != _TABLE:
            raise click.UsageError(f"--output: expected a file ending in {_TABLE} with --data, got '{output.name}'")
    elif output is None:
        raise click.UsageError("give --output: a .svg, .png or .pdf file (or --data, for the numbers)")
    else:
        check_kind(output)


def _figure(figures: "dict[str, Figure]", name: str) -> "Figure":
    from bitsim.energy_tables import BitsimError
    from bitsim.energy_tables.errors import shown, suggestion

    if name not in figures:
        hint = suggestion(name, figures) or f" (known: {', '.join(figures)})"
        raise BitsimError(f"NAME: expected a figure, got '{shown(name)}'{hint}")
    return figures[name]


def _question(figure: "Figure", size: str | None, model: str | None, request: dict[str, Any]) -> "Question":
    from bitsim.simulator.workload import make_workload

    from ..document.question import Question

    return Question(
        spec=_spec(figure, size, model, request),
        schemes=tuple(dict.fromkeys(request["schemes"])) or DEFAULT_SCHEMES,
        machines=tuple(dict.fromkeys(request["machines"])),
        workload=make_workload(request["batch"], request["prompt_tokens"], request["new_tokens"], request["context"]),
        tokens=request["tokens"],
        laws=request["laws"],
        runs=request["runs"],
        measured=request["measured"],
        region=request["region"],
        command=f"bitsim plot {figure.name}",
    )


def _spec(figure: "Figure", size: str | None, model: str | None, request: dict[str, Any]) -> Any:
    """Return the model: the one named, else the one that was measured, else the largest of the runs."""
    from bitsim.simulator import resolve_model, spec_for_size

    if size is not None and model is not None:
        raise click.UsageError("give one of --size and --model")
    if size is not None:
        return spec_for_size(size)
    if model is not None:
        return resolve_model(model)
    if figure.name == "measured" and request["measured"] is not None:
        from ..document.sections.measured import model_of

        return model_of(request["measured"])
    if figure.name == "loss-law" and request["runs"] is not None:
        from ..document.sections.runs import largest, read_rows

        return largest(read_rows(request["runs"]))
    if figure.of_model:
        raise click.UsageError(f"{figure.name}: give --size or --model")
    return spec_for_size(_ANY_SIZE)


def _write_data(rows: list[Any], output: Path | None) -> None:
    from bitsim.runtime.whole import whole_file

    from ..text import as_csv

    text = as_csv(rows)
    if output is None:
        click.echo(text, nl=False)
        return
    with whole_file(output) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
