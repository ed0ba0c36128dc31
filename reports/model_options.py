"""Options of the commands that run a model: which, how, and how its tokens are drawn."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from .options import Command

_LOADING = ("model", "threads", "head", "kv")
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


def load_options(command: Command) -> Command:
    """Add --model, --threads, --head and --kv, for `loaded`."""
    for option in (
        click.option("--kv", type=click.Choice(["f16", "int8"]), default="f16", show_default=True,
                     help="Numbers of the key/value cache; int8 takes half the memory."),
        click.option("--head", type=click.Choice(["screened", "exact", "int8"]),
                     help="Output head; screened gives the tokens of exact for a fraction of the bytes, int8 nearly "
                     "those. Default: screened where the file was made for it, else exact."),
        click.option("--threads", type=click.IntRange(1, 1024), help="Number of threads. Default: all cores."),
        click.option("--model", metavar="MODEL", default="box", show_default=True,
                     help="A folder with safetensors and a config.json, or a .gguf file; box: the small model that "
                     "bitsim brings along."),
    ):  # fmt: skip
        command = option(command)
    return command


def loaded(options: Mapping[str, Any]) -> Any:
    """Return the model that the options of a command ask for, ready to run."""
    from bitsim.runtime import load

    how = {name: options[name] for name in _LOADING[1:]}
    with waiting(f"loading {options['model']}") as tell:
        return load(options["model"], **how, progress=lambda done, of: tell(f"packing layer {done} of {of}"))


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is waited for, and what is being compiled; yields what changes the text."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    from bitsim.runtime.compile import watching_compilation

    with (
        Console(stderr=True, highlight=False, markup=False).status(what) as status,
        watching_compilation(lambda name: status.update(f"compiling {name} (once on this machine)")),
    ):
        yield status.update


def sampling_options(command: Command) -> Command:
    """Add the options of `drawing`, with llama.cpp's defaults."""
    for name, kind, default, text in (
        ("seed", int, None, "Equal seeds give equal answers. Default: a new one each time."),
        ("repetition-penalty", float, 1.0, "Divide logits of tokens that were there already; 1: don't."),
        ("min-p", float, 0.05, "Only tokens at least this times as likely as the likeliest; 0: all."),
        ("top-p", float, 0.95, "Only the likeliest tokens that reach this probability together; 1: all."),
        ("top-k", int, 40, "Only the so many likeliest tokens; 0: all."),
        ("temperature", float, 0.8, "Above 1 more even, below 1 surer; 0: always the likeliest token."),
    ):
        shown = default is not None
        command = click.option(f"--{name}", type=kind, default=default, show_default=shown, help=text)(command)
    return command


def drawing(options: Mapping[str, Any]) -> Any:
    """Return the Sampling that the options of a command ask for."""
    from bitsim.runtime.generation import Sampling

    return Sampling(**{name: options[name] for name in _DRAWING})
