"""Options of the commands that train: what is learnt, from what, and by which means."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .options import Command, Count

_DATA = "abideen/Cosmopedia-100k-pretrain"
_REQUEST = (
    "data",
    "tokens",
    "tokens_per_parameter",
    "context",
    "vocab",
    "norms",
    "recipe",
    "learning_rate",
    "schedule",
    "weight_decay",
    "batch_tokens",
    "seed",
    "precision",
    "limit",
)
_MEANS = ("micro_batch", "report_to", "gradient_checkpointing", "fsdp", "evaluate_every", "save_every", "resume")

_RUN_OPTIONS = (
    click.option("--data", default=_DATA, show_default=True, metavar="DATA",
                 help="What to learn from: a folder of `bitsim corpus`, a file or folder of .parquet, .jsonl or .txt, "
                 "or a dataset of the Hugging Face hub."),
    click.option("--tokens", type=Count(), help="Tokens to train on, such as 20M; the text is repeated if it is "
                 "shorter."),
    click.option("--tokens-per-parameter", type=click.FloatRange(0, 1e6, min_open=True), default=20.0,
                 show_default=True, help="Tokens to train on, if --tokens does not say it, for each parameter."),
    click.option("--context", type=click.IntRange(8, 2**20), default=512, show_default=True,
                 help="Tokens of a sequence."),
    click.option("--vocab", type=click.IntRange(257, 2**20), default=4096, show_default=True,
                 help="Tokens of the tokenizer, which is trained on the text."),
    click.option("--limit", type=Count(), help="Bytes of text to take, such as 100M. Default: all."),
    click.option("--recipe", type=click.Choice(["study", "bitnet"]), default="study", show_default=True,
                 help="study: cosine, the same learning rate for both twins; bitnet: the two stages of the BitNet "
                 "training tips, with a higher rate and without weight decay in the second."),
    click.option("--learning-rate", type=float,
                 help="Highest learning rate. Default: the recipe's for this compute or size."),
    click.option("--schedule", type=click.Choice(["cosine", "linear", "two-stage"]),
                 help="How the learning rate falls. Default: the recipe's."),
    click.option("--weight-decay", type=float, help="Weight decay of AdamW. Default: the recipe's, 0.1."),
    click.option("--batch-tokens", type=Count(), help="Tokens of one step. Default: the recipe's for this compute."),
    click.option("--norms", type=click.Choice(["sub", "inside", "none"]),
                 help="Norms besides Llama's: before the attention's and the feed-forward's output (as BitNet 2B4T), "
                 "inside of each linear layer (as in the papers), or none. Default: sub, for full precision none."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
                 help="Of the first weights and of the order of the text."),
    click.option("--precision", type=click.Choice(["auto", "bf16", "fp16", "fp32"]), default="auto",
                 show_default=True, help="Of the products while training; auto: bf16 where that is quicker."),
    click.option("--micro-batch", type=click.IntRange(1), help="Sequences that a device takes at once. Default: what "
                 "fits its caches or memory."),
    click.option("--gradient-checkpointing", is_flag=True, help="Compute activations twice instead of keeping them: "
                 "less memory, a third more time."),
    click.option("--fsdp", is_flag=True, help="Under torchrun: share weights and optimiser among the processes "
                 "(FSDP) instead of copying them to each (DDP)."),
    click.option("--evaluate-every", type=click.IntRange(1), metavar="STEPS",
                 help="Steps between looks at the held-out text. Default: 20 looks a run."),
    click.option("--save-every", type=click.IntRange(1), metavar="STEPS",
                 help="Steps between checkpoints. Default: 20 checkpoints a run."),
    click.option("--report-to", type=click.Choice(["none", "wandb", "trackio", "tensorboard"]), default="none",
                 show_default=True,
                 help="Who else hears of the losses; with WANDB_MODE=offline wandb needs no account."),
    click.option("--resume", is_flag=True, help="Go on with a run that was interrupted, to the same losses."),
    click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"),
                 show_default=True, help="Folder of runs: each gets a folder in it, and a row in its runs.csv."),
)  # fmt: skip


def run_options(command: Command) -> Command:
    """Add the options that say how a run is made, but not which model it makes."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def request_of(options: Mapping[str, Any], **what: Any) -> Any:
    """Return the request of one run; `what` says which model."""
    from bitsim.training.request import Request

    values = {name: options[name] for name in _REQUEST}
    for name in ("batch_tokens", "limit"):
        values[name] = None if values[name] is None else int(values[name])
    return Request(**what, **values)


def means_of(options: Mapping[str, Any]) -> Any:
    """Return the means of a run."""
    from bitsim.training.request import Means

    return Means(output=options["output"], **{name: options[name] for name in _MEANS})


Shown = tuple[Callable[[str], None], Callable[[int, int, int, float], None]]


@contextmanager
def shown_progress() -> Iterator[Shown]:
    """Yield what hears of a run, and shows it on a terminal: stages before and after, a bar with the loss between."""
    import sys

    if not sys.stderr.isatty():
        yield lambda what: None, lambda step, steps, tokens, loss: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True, highlight=False, markup=False)) as bar:
        task = bar.add_task("beginning", total=None)

        def tell(what: str) -> None:
            bar.update(task, description=what, total=None)

        def step(done: int, steps: int, tokens: int, loss: float) -> None:
            what = f"step {done:,} of {steps:,}, {tokens:,} tokens, loss {loss:.3f}"
            bar.update(task, description=what, completed=done, total=steps)

        yield tell, step
