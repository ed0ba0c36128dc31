"""bitsim estimate."""

from typing import Any

import click
from click.core import ParameterSource

from ..options import Count, model_options, one_model, output_format

_ANY_MODE = ("size", "model", "schemes", "machines", "devices", "form")
_TRAINING_OPTIONS = (*_ANY_MODE, "training", "tokens", "region")
_SERVING_OPTIONS = (*_ANY_MODE, "serving", "engine", "prompt_tokens", "new_tokens", "packing", "kv_bits")


@click.command(short_help="Energy, latency and memory of one workload.")
@model_options
@click.option("--scheme", "schemes", multiple=True, help="fp16, b1.58, ... (repeatable; default: fp16 and b1.58).")
@click.option(
    "--hardware",
    "machines",
    multiple=True,
    help="Name or .toml file (repeatable; default: a100-80gb, as many as FP16 needs).",
)
@click.option("--engine", help="Software whose efficiency to assume: ideal, llama.cpp, bitnet.cpp, t-mac, ...")
@click.option("--node", help="Process node of the arithmetic energies: 7nm or 45nm (default: the machine's).")
@click.option(
    "--energy",
    type=click.Choice(["full", "paper"]),
    default="full",
    show_default=True,
    help="paper: arithmetic only, as the BitNet papers count.",
)
@click.option("--batch", type=int, default=1, show_default=True, help="Sequences side by side.")
@click.option("--prompt-tokens", type=int, default=512, show_default=True, help="Tokens read, per sequence.")
@click.option("--new-tokens", type=int, default=128, show_default=True, help="Tokens generated, per sequence.")
@click.option("--context", type=int, help="Tokens in the KV cache at the end (default: prompt and new tokens).")
@click.option("--devices", type=int, help="Machines working together.")
@click.option(
    "--split",
    type=click.Choice(["pipeline", "tensor"]),
    default="pipeline",
    show_default=True,
    help="How several devices share the model.",
)
@click.option("--threads", type=int, help="CPU threads (default: all).")
@click.option(
    "--packing", help="Layout of ternary weights: 2bit (default), tq1_0, tq2_0, trit48, nibble9, five, entropy."
)
@click.option("--kv-bits", type=float, help="Bits of a KV cache element (default: the scheme's).")
@click.option("--skip-zeros", is_flag=True, help="Leave out additions of zero weights.")
@click.option("--tokens", type=Count(), help="Training tokens, such as 2T: adds the loss that they lead to.")
@click.option(
    "--law", "laws", multiple=True, metavar="LAW",
    help="Loss law for it: a name, or a file of bitsim fit-law; or SCHEME=LAW (repeatable; default:"
    " chinchilla-besiroglu, and for b1.58 the FP16 size that trilm and floatlm call equal).",
)  # fmt: skip
@click.option("--training", is_flag=True, help="Estimate the training run instead (needs --tokens).")
@click.option("--serving", is_flag=True, help="Fill the memory with sequences and estimate the throughput instead.")
@click.option(
    "--region",
    default="world",
    show_default=True,
    help="Grid for carbon and electricity: world, us, eu, fr, ...",
)
@click.option(
    "--energy-table",
    help="A .csv of the form of op_energy.csv, to add or replace energies.",
)
@click.option("--by-operation", is_flag=True, help="One row per phase and operation.")
@output_format
@click.pass_context
def estimate(
    call: click.Context, /, form: str, training: bool, serving: bool, by_operation: bool, **request: Any
) -> None:
    """Estimate energy, latency and memory of one workload, scheme beside scheme.

    \b
    Examples:
      bitsim estimate --size 70B
      bitsim estimate --model bitnet-b1.58-2B-4T --hardware raspberry-pi-5 --threads 4
      bitsim estimate --size 7B --scheme fp16 --scheme w4a16 --scheme b1.58 --format markdown
      bitsim estimate --size 70B --training --tokens 2T --hardware h100-sxm --devices 1024
    """
    from . import estimate_run as run

    if training:
        _refuse_others(call, "--training", _TRAINING_OPTIONS)
    elif serving:
        _refuse_others(call, "--serving", _SERVING_OPTIONS)
    spec = one_model(request.pop("size"), request.pop("model"))
    if training:
        run.training(spec, form, request)
    elif serving:
        run.serving(spec, form, request)
    else:
        run.inference(spec, form, by_operation, request)


def _refuse_others(call: click.Context, mode: str, meant: tuple[str, ...]) -> None:
    """Refuse options that would have no effect: silence would be taken for an answer."""
    for option in call.command.params:
        given = option.name and call.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        if given and option.name not in meant:
            raise click.UsageError(f"{option.opts[0]} has no meaning with {mode}")
