"""bitsim sweep."""

from pathlib import Path
from typing import Any

import click

from ..options import Numbers


@click.command(short_help="A grid of designs to CSV or Parquet.")
@click.option("--size", "sizes", multiple=True, help="Numbers of parameters, comma-separated (repeatable): 1B,7B,70B.")
@click.option("--model", "models", multiple=True, help="Preset or file (repeatable).")
@click.option("--scheme", "schemes", multiple=True, help="Repeatable; default: fp16 and b1.58.")
@click.option("--hardware", "machines", multiple=True, help="Name or .toml file (repeatable; default: a100-80gb).")
@click.option("--engine", help="Software whose efficiency to assume.")
@click.option("--batch", type=Numbers(), default="1", show_default=True, help="1,2,8 or 1:128:*2 or 1:9:4.")
@click.option("--prompt-tokens", type=Numbers(), default="512", show_default=True, help="As --batch.")
@click.option("--new-tokens", type=Numbers(), default="128", show_default=True, help="As --batch.")
@click.option("--devices", type=Numbers(), default="1", show_default=True, help="As --batch.")
@click.option(
    "--split",
    type=click.Choice(["pipeline", "tensor"]),
    default="pipeline",
    show_default=True,
    help="How several devices share the model.",
)
@click.option("--threads", type=int, help="CPU threads (default: all).")
@click.option(
    "--pareto",
    is_flag=True,
    help="Keep only designs that no other beats in energy, time and memory per token.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .csv or .parquet file (default: CSV on standard output).",
)
def sweep(sizes: tuple[str, ...], models: tuple[str, ...], pareto: bool, output: Path | None, **request: Any) -> None:
    """Estimate every combination of the given values.

    \b
    Examples:
      bitsim sweep --size 1B,7B,70B --batch 1:64:*2 -o sweep.csv
      bitsim sweep --size 7B --hardware m2-ultra --hardware a100-80gb --batch 1:64:*2 --pareto
    """
    from bitsim.simulator import resolve_model, spec_for_size
    from bitsim.simulator.sweep import pareto_front
    from bitsim.simulator.sweep import sweep as run

    specs = [spec_for_size(size) for group in sizes for size in group.split(",")] + [
        resolve_model(model) for model in models
    ]
    if not specs:
        raise click.UsageError("give at least one --size or --model")
    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise click.UsageError(f"--output: expected a file ending in .csv or .parquet, got '{output.name}'")
    frame = run(
        specs,
        request["schemes"] or ("fp16", "b1.58"),
        request["machines"] or ("a100-80gb",),
        **{
            name: request[name]
            for name in ("engine", "batch", "prompt_tokens", "new_tokens", "devices", "split", "threads")
        },
    )
    if pareto:
        frame = pareto_front(frame)
    if output is None:
        click.echo(frame.to_csv(index=False), nl=False)
    else:
        write_frame(frame, output)
        click.echo(f"{output}: {len(frame):,} rows", err=True)


def write_frame(frame: Any, output: Path) -> None:
    """Write a DataFrame whole or not at all: the file gets its name when it is complete."""
    from bitsim.energy_tables import BitsimError

    part = output.with_name(f".{output.name}.part")
    try:
        if output.suffix == ".csv":
            frame.to_csv(part, index=False)
        else:
            frame.to_parquet(part, index=False)
        part.replace(output)
    except ImportError:
        raise BitsimError(
            f"{output}: writing Parquet needs the package pyarrow (pip install pyarrow), or choose a .csv"
        ) from None
    except OSError as error:
        raise BitsimError(f"{output}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
