"""bitsim quantize."""

import math
from typing import Any

import click

from ..model_files import (
    TERNARY_GGUF,
    Tell,
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
from ..text_input import read_text_file

_BLOCK = 256  # weights that share a scale in TQ1_0 and TQ2_0


@click.command(short_help="Make a model ternary without training.")
@writing_options
@click.option(
    "--grain",
    type=click.Choice(["tensor", "row", "group"]),
    default="tensor",
    show_default=True,
    help="What shares a scale: a matrix, a row, or neighbouring columns of a row.",
)
@click.option("--group", type=click.IntRange(1), help="Columns of a group, with --grain group. Default: 128.")
@click.option("--text", "file", metavar="FILE", help="Text in UTF-8: show the perplexity before and after.")
@output_format
def quantize(
    source: str, target: str, to: str | None, grain: str, group: int | None, file: str | None, form: str
) -> None:
    """Make the model SOURCE ternary and write it as TARGET, as `bitsim convert` does.

    Of the weights that share a scale, s = 1 / mean |W|, each becomes round(W s), at most 1 in size, and is worth that
    / s (arXiv 2402.17764, section 2). Embedding, head and norms stay. Nothing is trained, and a model that was not
    trained to be ternary loses nearly all it knew: --text shows how much.

    Hugging Face's form and I2_S hold one scale for a matrix, TQ1_0 and TQ2_0 one for 256 columns, bitsim's packed form
    one for a row.

    \b
    Examples, with a model in ./model:
      $ bitsim quantize ./model ternary.safetensors --grain row --text wiki.txt
      $ bitsim quantize ./model ternary.gguf --grain group --group 256 --to tq1_0
    """
    kind = kind_of(target, to)
    size = _group(grain, group, kind)
    check_places(source, target, kind)
    text = None if file is None else read_text_file(file)
    from bitsim.runtime.checkpoints import open_checkpoint, quantized

    with waiting(f"reading {source}") as tell:
        checkpoint = open_checkpoint(source)
        _check_full(checkpoint, source)
        ternary = quantized(checkpoint, grain, size)
        check_room(ternary, target, ternary=True)
        for line in consequences(ternary, kind):
            click.echo(f"Warning: {line}", err=True)
        before = None if text is None else _perplexity(checkpoint, text, "the original", tell)
        written = write(ternary, target, kind, tell)
        after = None if text is None else _perplexity(ternary, text, "the ternary model", tell)
    _show({"source": source, "grain": grain, "group": size} | written | _compared(file, before, after), form)


def _group(grain: str, group: int | None, kind: str) -> int | None:
    """Return the columns of a group; a usage error where the kind of file has no place for such scales."""
    if grain != "group" and group is not None:
        raise click.UsageError("--group goes with --grain group")
    if grain != "tensor" and kind in ("hf", "i2_s"):
        raise click.UsageError(f"{kind} holds one scale for a matrix: --grain tensor")
    size = (group or 128) if grain == "group" else None
    if size is not None and size % _BLOCK and kind in TERNARY_GGUF:
        raise click.UsageError(f"{kind} holds one scale for {_BLOCK} columns: --group {_BLOCK}, or a multiple")
    return size


def _check_full(checkpoint: Any, source: str) -> None:
    from bitsim.energy_tables import BitsimError

    if is_ternary(checkpoint):
        raise BitsimError(f"{source}: the weights are ternary already: bitsim convert writes them in another form")


def _perplexity(checkpoint: Any, text: str, what: str, tell: Tell) -> Any:
    from bitsim.runtime.generation import perplexity
    from bitsim.runtime.loading import run_checkpoint

    tell(f"loading {what}")
    model = run_checkpoint(checkpoint)
    try:
        return perplexity(
            model, text, progress=lambda done, total: tell(f"perplexity of {what}: {done:,} of {total:,} tokens")
        )
    finally:
        model.close()


def _compared(file: str | None, before: Any, after: Any) -> dict[str, Any]:
    """Return what both models make of the text, each value under the same name with `_before` and `_after`."""
    values: dict[str, Any] = {
        "text": file,
        "tokens": before and before.tokens,
        "context": before and before.context,
    }
    for name in ("loss", "perplexity", "bits_per_byte"):
        for model, found in (("before", before), ("after", after)):
            value = None if found is None else getattr(found, name)
            values[f"{name}_{model}"] = value if value is None or math.isfinite(value) else None
    return values


def _show(result: dict[str, Any], form: str) -> None:
    from ..text import print_json, print_rows

    if form == "json":
        print_json(result)
        return
    if form != "table":
        print_rows([result], form)
        return
    if result["text"] is not None:
        print_rows([_line(result, model) for model in ("before", "after")], "table")
        click.echo(f"\n{result['text']}: {result['tokens']:,} tokens, context {result['context']:,}")
    click.echo(summary(result))


def _line(result: dict[str, Any], model: str) -> dict[str, Any]:
    perplexity, bits = result[f"perplexity_{model}"], result[f"bits_per_byte_{model}"]
    return {
        "model": {"before": "original", "after": "ternary"}[model],
        "perplexity": "beyond all numbers" if perplexity is None else f"{perplexity:,.4f}",
        "bits per byte": "" if bits is None else f"{bits:.4f}",
        "nats per token": f"{result[f'loss_{model}']:.4f}",
    }
