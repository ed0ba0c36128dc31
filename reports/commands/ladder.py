"""bitsim ladder."""

from typing import Any

import click

from ..options import output_format
from ..train_options import means_of, request_of, run_options, shown_progress
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
      $ bitsim ladder --sizes 0.5M,1M,2M --data corpus --tokens 10M
    """
    wanted = _names(schemes, "--schemes")
    unknown = [scheme for scheme in wanted if scheme not in SCHEMES]
    if unknown:
        raise click.UsageError(f"--schemes: expected some of {', '.join(SCHEMES)}, got '{unknown[0]}'")
    from bitsim.training.ladder import climb

    requests = [request_of(options, scheme=scheme, size=size) for size in _names(sizes, "--sizes") for scheme in wanted]
    with shown_progress() as (tell, _):
        rungs = list(climb(requests, means_of(options), executor, lambda run, what: tell(f"{run}: {what}")))
    _show([rung.record for rung in rungs if rung.record is not None], form)
    failures = [rung.failure for rung in rungs if rung.failure is not None]
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise click.exceptions.Exit(1)


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
