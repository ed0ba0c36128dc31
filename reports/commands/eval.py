"""bitsim eval."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..model_options import load_options, loaded
from ..options import output_format
from ..text_input import read_text_file


@click.command("eval", short_help="How well a model foretells a text.")
@click.option("--text", "file", metavar="FILE", required=True, help="Text in UTF-8; - for standard input.")
@load_options
@click.option(
    "--context",
    type=click.IntRange(1),
    help="Tokens that a prediction looks back at. Default: the model's context, 2,048 at most.",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    help="Tokens between the starts of windows; fewer than the context: they overlap, and each token has more to look "
    "back at. Default: the context.",
)
@output_format
def evaluate(file: str, context: int | None, stride: int | None, form: str, **options: Any) -> None:
    """Measure a model on a text: perplexity, bits per byte.

    Bits per byte can be compared between models with different tokenizers, perplexity can't. The first token is not
    scored, unless the model puts one of its own before a text.

    \b
    Example, with a model in ./model:
      $ bitsim eval --text wiki.txt --model ./model --context 2048 --format json
    """
    text = read_text_file(file)
    model = loaded(options)
    from bitsim.runtime.generation import perplexity

    start = time.perf_counter()
    with _progress() as step:
        found = perplexity(model, text, context=context, stride=stride, progress=step)
    seconds = time.perf_counter() - start
    result = {
        "model": options["model"],
        "text": file,
        "loss": found.loss,
        "perplexity": found.perplexity if math.isfinite(found.perplexity) else None,
        "bits_per_byte": found.bits_per_byte,
        "tokens": found.tokens,
        "bytes": found.bytes,
        "context": found.context,
        "seconds": seconds,
        "tokens_per_s": found.tokens / seconds,
    }
    _show(result, form)


@contextmanager
def _progress() -> Iterator[Any]:
    """Show on a terminal how far it is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(result: dict[str, Any], form: str) -> None:
    from ..text import console, print_json, print_rows

    if form == "json":
        print_json(result)
    elif form != "table":
        print_rows([result], form)
    else:
        screen = console()
        bits = "" if result["bits_per_byte"] is None else f", {result['bits_per_byte']:.4f} bits per byte"
        whole = "beyond all numbers" if result["perplexity"] is None else f"{result['perplexity']:.4f}"
        screen.print(f"perplexity {whole}{bits}, loss {result['loss']:.4f} nats per token")
        amount = f"{result['tokens']:,} tokens, {result['bytes']:,} bytes"
        screen.print(f"{amount}, context {result['context']:,}, {result['seconds']:.1f} s")
