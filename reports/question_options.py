"""Options of the commands that draw: which model, on which machines, with which work, laws, runs and measurements."""

from pathlib import Path

import click

from .options import Command, Count

FILE = click.Path(path_type=Path)
DEFAULT_SCHEMES = ("fp16", "b1.58")

_OPTIONS = (
    click.option("--size", help="Number of parameters, such as 350M, 70B or 1T: a LLaMA shape of that size."),
    click.option("--model", help="A preset, a folder with a config.json, a config.json, or a .csv of models."),
    click.option("--scheme", "schemes", multiple=True, help="fp16, b1.58, ... (repeatable; default: fp16 and b1.58)."),
    click.option("--hardware", "machines", multiple=True,
                 help="Name or .toml file (repeatable; default: a100-80gb, as many as FP16 needs)."),
    click.option("--batch", type=int, default=1, show_default=True, help="Sequences side by side."),
    click.option("--prompt-tokens", type=int, default=512, show_default=True, help="Tokens read, per sequence."),
    click.option("--new-tokens", type=int, default=128, show_default=True, help="Tokens generated, per sequence."),
    click.option("--context", type=int, help="Tokens in the KV cache at the end (default: prompt and new tokens)."),
    click.option("--tokens", type=Count(), help="Training tokens, such as 2T (default: 20 per parameter)."),
    click.option("--law", "laws", multiple=True, metavar="LAW",
                 help="Loss law: a name, or a file of bitsim fit-law; or SCHEME=LAW (repeatable; default: as bitsim"
                 " plan)."),
    click.option("--runs", type=FILE, metavar="FILE", help="The runs.csv of a ladder."),
    click.option("--measured", type=FILE, metavar="FILE", help="The JSON of bitsim bench --model --format json."),
    click.option("--region", default="world", show_default=True,
                 help="Grid for carbon and electricity: world, us, eu, ..."),
)  # fmt: skip


def question_options(command: Command) -> Command:
    """Add the options that say what is asked."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
