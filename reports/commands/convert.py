"""bitsim convert."""

from typing import Any

import click

from ..model_files import (
    TERNARY_GGUF,
    check_places,
    check_room,
    consequences,
    is_ternary,
    kind_of,
    summary,
    write,
    writing_options,
)
from ..model_options import waiting
from ..options import output_format


@click.command(short_help="Write a model in another form.")
@writing_options
@output_format
def convert(source: str, target: str, to: str | None, form: str) -> None:
    """Write the model SOURCE as TARGET: a form that loads quicker, or one that other programs read.

    SOURCE is a Hugging Face folder with safetensors, a GGUF file, or a file that this command wrote. A file of the
    name TARGET is replaced once the new one is complete; a folder must be free or empty.

    A packed file is laid out for the kernel that is best on this machine, and has a screen for large vocabularies, so
    that fewer bytes of the output head are read for each token. It runs elsewhere too, but takes longer to load.

    Weights stay what they are: to make a model ternary, see bitsim quantize.

    \b
    Examples, with a model in ./model:
      $ bitsim convert ./model model.safetensors
      $ bitsim convert ./model model.gguf --to tq1_0
      $ bitsim convert model.safetensors ./for-transformers --to hf
    """
    kind = kind_of(target, to)
    check_places(source, target, kind)
    from bitsim.runtime.checkpoints import open_checkpoint

    with waiting(f"reading {source}") as tell:
        checkpoint = open_checkpoint(source)
        _check_ternary(checkpoint, source, target, kind)
        for line in consequences(checkpoint, kind):
            click.echo(f"Warning: {line}", err=True)
        written = {"source": source} | write(checkpoint, target, kind, tell)
    _show(written, form)


def _check_ternary(checkpoint: Any, source: str, target: str, kind: str) -> None:
    from bitsim.energy_tables import BitsimError

    ternary = is_ternary(checkpoint)
    if kind in TERNARY_GGUF and not ternary:
        raise BitsimError(f"{source}: the weights are not ternary, as {kind} wants them: bitsim quantize makes them so")
    check_room(checkpoint, target, ternary)


def _show(written: dict[str, Any], form: str) -> None:
    from ..text import print_json, print_rows

    if form == "json":
        print_json(written)
    elif form != "table":
        print_rows([written], form)
    else:
        click.echo(summary(written))
