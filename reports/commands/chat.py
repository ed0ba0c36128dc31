"""bitsim chat."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from ..answer import Answer
from ..model_options import drawing, load_options, loaded, sampling_options
from ..text_input import on_terminal, standard_input

_HELP = "/clear forgets the conversation, /exit or Ctrl-D ends; Ctrl-C stops an answer."


@click.command(short_help="Talk with a model.")
@load_options
@click.option("--system", metavar="TEXT", help="What the model is told before all else.")
@click.option(
    "--context", type=click.IntRange(1), help="Tokens of the conversation. Default: the model's context, 4,096 at most."
)
@click.option("--max-tokens", type=click.IntRange(1), help="Length of an answer. Default: no limit but the context.")
@sampling_options
def chat(system: str | None, context: int | None, max_tokens: int | None, **options: Any) -> None:
    """Talk with a model that was made for it, line by line.

    Each turn reads only what is new. /help tells the commands within. Where standard input is no terminal, each line
    of it is a message.

    \b
    Example, with a model in ./model:
      $ bitsim chat --model ./model --system "Answer in one sentence."
    """
    sampling = drawing(options)
    model = loaded(options)
    from bitsim.runtime.generation import Conversation

    conversation = Conversation(model, system=system, context=context)
    if on_terminal():
        click.echo(_HELP, err=True)
    for line in _lines():
        if line in ("/exit", "/quit"):
            return
        if line == "/clear":
            conversation.clear()
        elif line.startswith("/"):
            click.echo(_HELP, err=True)
        elif line:
            _turn(conversation, line, sampling, max_tokens)


def _turn(conversation: Any, line: str, sampling: Any, max_tokens: int | None) -> None:
    from bitsim.energy_tables import BitsimError

    try:
        turn = conversation.ask(line, sampling=sampling, max_new_tokens=max_tokens)
    except BitsimError as error:
        if not on_terminal():
            raise
        click.echo(f"Error: {error}; /clear begins anew", err=True)
        return
    answer = Answer(turn.new_prompt_tokens)
    answer.take(turn, aloud=True)
    if sys.stderr.isatty():
        click.secho(answer.line(), dim=True, err=True)


def _lines() -> Iterator[str]:
    """Yield what is typed, or each line of standard input, without spaces around."""
    if not on_terminal():
        yield from (line.decode("utf-8", "replace").strip() for line in standard_input())
        return
    with suppress(ImportError):
        import readline  # noqa: F401 gives input() a history and keys to edit with
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\n" + _HELP, err=True)
