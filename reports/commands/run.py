"""bitsim run."""

import time
from typing import Any

import click

from ..answer import INTERRUPTED, Answer
from ..model_options import drawing, load_options, loaded, sampling_options
from ..options import output_format
from ..text_input import STANDARD_INPUT, read_standard_input


@click.command(short_help="Let a model answer or go on.")
@click.argument("prompt")
@load_options
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True, help="Length of the answer.")
@sampling_options
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given again.")
@click.option(
    "--chat/--raw",
    default=None,
    help="Ask in the model's chat format, or let it go on with the prompt as it stands. Default: chat where the model "
    "has a format for it.",
)
@output_format
@click.pass_context
def run(
    context: click.Context,
    /,
    prompt: str,
    max_tokens: int,
    stop: tuple[str, ...],
    chat: bool | None,
    form: str,
    **options: Any,
) -> None:
    """Let a model answer PROMPT, or go on from it; `-` reads the prompt from standard input.

    The text comes as it is made, then on standard error how fast, and the seed that gives the same text again. Tokens
    are drawn after --top-k, --top-p and --min-p, in llama.cpp's order and with its defaults, the temperature last;
    --temperature 0 always takes the likeliest.

    \b
    Example, the second with a model in ./model:
      $ bitsim run "It is a truth" --seed 1
      $ bitsim run "Why is the sky blue?" --model ./model --temperature 0
    """
    sampling = drawing(options).seeded()
    text = read_standard_input() if prompt == STANDARD_INPUT else prompt
    start = time.perf_counter()
    model = loaded(options)
    seconds = time.perf_counter() - start
    answer = _answer(model, text, chat, form == "table", max_new_tokens=max_tokens, sampling=sampling, stop=stop)
    if form == "table":
        seed = "" if sampling.greedy else f", seed {sampling.seed}"
        click.echo(answer.line() + seed, err=True)
    else:
        given = {"model": options["model"], "text": answer.text}
        _print(given | answer.statistics() | {"seconds_to_load": seconds, "seed": sampling.seed}, form)
    if answer.finish == INTERRUPTED:
        context.exit(1)


def _answer(model: Any, text: str, chat: bool | None, aloud: bool, **settings: Any) -> Answer:
    from bitsim.runtime.generation import ChatTemplate, Tokenizer, generate, prompt_tokens

    tokenizer = Tokenizer(model.text)
    if chat or (chat is None and model.text.chat_template is not None):
        message = {"role": "user", "content": text}
        tokens = ChatTemplate(model.text).encode(tokenizer, [message], limit=model.context)
    else:
        tokens = prompt_tokens(model, tokenizer, text)
    answer = Answer(len(tokens))
    answer.take(generate(model, tokens, tokenizer=tokenizer, **settings), aloud=aloud)
    return answer


def _print(result: dict[str, Any], form: str) -> None:
    from ..text import print_json, print_rows

    if form == "json":
        print_json(result)
    else:
        print_rows([result], form)
