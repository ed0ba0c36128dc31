"""bitsim train."""

from typing import Any

import click

from ..extras import needing
from ..options import output_format
from ..train_options import means_of, request_of, run_options, shown_progress

SCHEMES = ("fp16", "b1.58", "b1.58a4", "b1", "bf16", "fp32")


@click.command(short_help="Train a model in FP16 or ternary.")
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default="b1.58",
    show_default=True,
    help="Numbers of the linear layers: b1.58 ternary, b1.58a4 with 4-bit activations, b1 binary.",
)
@click.option("--size", metavar="SIZE", help="Parameters of a model built fresh, such as 1M or 25M.")
@click.option("--from", "start", metavar="MODEL", help="Go on from a checkpoint: a Hugging Face folder or .gguf file.")
@click.option(
    "--fade-in", "strength_steps", type=click.IntRange(0), metavar="STEPS",
    help="Steps in which the quantisation of a model that starts from a checkpoint fades in. Default: 1,000, at most a "
    "tenth of the run.",
)  # fmt: skip
@click.option("--teacher", metavar="MODEL", help="Learn from this Hugging Face folder's odds too (distillation).")
@click.option(
    "--teacher-weight", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="Share of the teacher in the loss.",
)  # fmt: skip
@run_options
@output_format
def train(form: str, **options: Any) -> None:
    """Train one model, judge it by held-out text, write it for `bitsim run` and for transformers.

    A run gets a folder of its own in --output: its record and loss curve, and the model. A run that was interrupted,
    however, goes on with --resume. With several processes: torchrun --nproc-per-node 2 -m bitsim.reports train ...

    \b
    Examples:
      $ bitsim train --size 1M --data corpus
      $ bitsim train --size 25M --scheme fp16 --data corpus --tokens 100M
      $ bitsim train --from ./SmolLM2-135M --data corpus --tokens 10M --learning-rate 1e-4
    """
    if (options["size"] is None) == (options["start"] is None):
        raise click.UsageError("one of --size and --from is needed")
    what = {name: options[name] for name in ("scheme", "size", "start", "strength_steps", "teacher", "teacher_weight")}
    with needing("train"):
        from bitsim.training.run import is_first_process
        from bitsim.training.run import train as run

    with shown_progress() as (tell, step):
        record = run(request_of(options, **what), means_of(options), tell, step)
    if is_first_process():
        for remark in record["remarks"]:
            click.echo(f"Note: {remark}", err=True)
        _show(record, str(options["output"]), form)


def _show(record: dict[str, Any], output: str, form: str) -> None:
    from ..text import print_json, print_rows

    if form == "json":
        print_json(record)
    elif form == "table":
        for name, text in _lines(record, output):
            click.echo(f"{name:<10}{text}")
    else:
        print_rows([{name: value for name, value in record.items() if not isinstance(value, dict | list)}], form)


def _lines(record: dict[str, Any], output: str) -> list[tuple[str, str]]:
    folder = f"{output}/{record['run']}"
    speed = f"{record['tokens_per_s']:,.0f} tokens/s, {record['peak_memory_bytes'] / 1e9:.1f} GB of memory"
    joules = record["energy_j"]
    return [
        ("run", folder),
        (
            "model",
            f"{record['scheme']}, {record['parameters']:,} parameters, {record['non_embedding']:,} without the "
            f"embedding: {record['layers']} layers of {record['hidden']}",
        ),
        (
            "learnt",
            f"{record['tokens']:,} tokens of {record['data']}, {record['steps']:,} steps, {_time(record['seconds'])}, "
            f"{speed}",
        ),
        (
            "held out",
            f"{record['held_out_loss']:.4f} nats per token, {record['bits_per_byte']:.4f} bits per byte; "
            f"each token's frequency alone: {record['unigram_loss']:.4f} nats",
        ),
        ("energy", joules if isinstance(joules, str) else f"{joules:,.0f} J ({record['energy_source']})"),
        ("next", f'bitsim run "It is" --model {folder}/model'),
    ]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
