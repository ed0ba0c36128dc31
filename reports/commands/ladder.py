"""bitsim ladder."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..extras import needing
from ..options import output_format
from ..train_options import means_of, request_of, run_options
from .train import SCHEMES

_COLUMNS = {
    "scheme": "scheme",
    "size": "size",
    "parameters": "parameters",
    "non_embedding": "without embedding",
    "tokens": "tokens",
    "held_out_loss": "held-out nats",
    "bits_per_byte": "bits per byte",
    "tokens_per_s": "tokens/s",
    "run": "run",
}


@click.command(short_help="Train twins at several sizes.")
@click.option(
    "--sizes", default="1M,25M,50M", show_default=True, metavar="SIZES", help="Parameters of the models, by commas."
)
@click.option(
    "--schemes", default="fp16,b1.58", show_default=True, metavar="SCHEMES", help="Schemes of each size, by commas."
)
@click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="local: one run after the other here; ray: on the Ray cluster that this machine belongs to.",
)  # fmt: skip
@run_options
@output_format
def ladder(sizes: str, schemes: str, executor: str, form: str, **options: Any) -> None:
    """Train every size in every scheme with the same hyper-parameters: twins, from which a loss law can be fitted.

    What --output has on record is not trained again, and what was interrupted goes on, so the same command finishes a
    ladder that died. All records are rows of runs.csv there. Each run that fails is named at the end.

    \b
    Examples:
      $ bitsim ladder --data corpus
      $ bitsim ladder --sizes 0.5M,1M,2M --data corpus --tokens-per-parameter 5
    """
    wanted = _names(schemes, "--schemes")
    unknown = [scheme for scheme in wanted if scheme not in SCHEMES]
    if unknown:
        raise click.UsageError(f"--schemes: expected some of {', '.join(SCHEMES)}, got '{unknown[0]}'")
    with needing("train"):
        from bitsim.training.ladder import climb

    requests = [request_of(options, scheme=scheme, size=size) for size in _names(sizes, "--sizes") for scheme in wanted]
    rungs = {}
    with _shown_runs() as hears:
        for rung in climb(requests, means_of(options), executor, hears):
            rungs[rung.request.name] = rung
            hears(rung.request.name, "failed" if rung.record is None else f"loss {rung.record['held_out_loss']:.4f}")
    in_order = [rungs[request.name] for request in requests]
    _show([rung.record for rung in in_order if rung.record is not None], form)
    failures = [rung.failure for rung in in_order if rung.failure is not None]
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise click.exceptions.Exit(1)


@contextmanager
def _shown_runs() -> Iterator[Callable[[str, str], None]]:
    """Yield what hears which run does what, and shows it on a terminal, a line for each run."""
    if not sys.stderr.isatty():
        yield lambda run, what: None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.fields[run]}"), TimeElapsedColumn(), TextColumn("{task.description}")
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True, highlight=False, markup=False)) as lines:

        def hears(run: str, what: str) -> None:
            if run not in tasks:
                tasks[run] = lines.add_task(what, total=None, run=run)
            lines.update(tasks[run], description=what)

        yield hears


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError(f"{option}: expected names, by commas, got nothing")
    return list(dict.fromkeys(names))


def _show(records: list[dict[str, Any]], form: str) -> None:
    from ..text import print_json, print_rows

    if form == "json":
        print_json(records)
    elif form == "table":
        print_rows([{title: _cell(record[name]) for name, title in _COLUMNS.items()} for record in records], form)
    else:
        print_rows([{name: record[name] for name in _COLUMNS} for record in records], form)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
