"""bitsim inspect."""

from typing import Any

import click

from ..model_options import waiting
from ..options import output_format

_RIGHT = ("tensors", "weights", "bytes", "bits/weight", "zeros", "entropy", "scale from", "to")


@click.command(short_help="What lies in a model's file.")
@click.argument("file")
@click.option("--tensors", "each", is_flag=True, help="A row for each tensor, not for each class of them.")
@output_format
def inspect(file: str, each: bool, form: str) -> None:
    """Show what lies in FILE: architecture, shape, number formats and bytes, tokenizer, and how ternary it is.

    FILE is a GGUF file, a safetensors file, a Hugging Face folder with safetensors, or a file of bitsim convert.
    Whether the model runs does not matter; whether it is right, bitsim doctor tells.

    \b
    bits/weight   bytes in the file, scales included, for each weight of the class
    zeros         share of ternary weights that are 0
    entropy       bits a ternary weight would take in the best code: 1.585 at most
    scale         range of what -1, 0 and +1 are multiplied by

    Ternary weights are read once to be counted, a piece at a time; of other numbers, only the directory is read.

    \b
    Examples, with a model in ./model:
      $ bitsim inspect ./model
      $ bitsim inspect model.gguf --tensors
      $ bitsim inspect ./model --format json
    """
    from bitsim.runtime.diagnosis import class_rows, read_contents, tensor_rows

    with waiting(f"reading {file}") as tell:
        contents = read_contents(file)
        rows = (tensor_rows if each else class_rows)(
            contents, lambda done, of: tell(f"counting tensor {done + 1:,} of {of:,}")
        )
    _show(contents, rows, each, form)


def _show(contents: Any, rows: Any, each: bool, form: str) -> None:
    import dataclasses

    from ..text import print_json, print_rows

    plain = [dataclasses.asdict(row) for row in rows]
    if form == "json":
        print_json(_about(contents) | {"tensors" if each else "classes": plain})
    elif form != "table":
        print_rows([{**row, "shape": _shape(row["shape"])} if each else row for row in plain], form)
    else:
        _print_about(contents)
        shown = _without_empty([_cells(row) for row in plain])
        if each:
            _print_long(shown)
        else:
            print_rows(shown, form, right=_RIGHT)


def _about(contents: Any) -> dict[str, Any]:
    """Return what is not of single tensors."""
    import dataclasses

    config, text = contents.config, contents.text
    return {
        "file": str(contents.place),
        "form": contents.form,
        "architecture": contents.architecture,
        "model": None if config is None else _without_sources(dataclasses.asdict(config)),
        "linear_layers": None if contents.quantisation is None else dataclasses.asdict(contents.quantisation),
        "tokenizer": None if text is None else text.tokenizer is not None,
        "chat_template": None if text is None else text.chat_template is not None,
        "bos": None if text is None else text.bos,
        "eos": None if text is None else list(text.eos),
        "bytes": contents.bytes,
        "runs": contents.checkpoint is not None,
        "refusals": dict(contents.refusals),
    }


def _without_sources(config: dict[str, Any]) -> dict[str, Any]:
    spec = {key: value for key, value in config["spec"].items() if key != "sources"}
    return config | {"spec": spec}


def _print_about(contents: Any) -> None:
    from bitsim.runtime.diagnosis.contents import FORMS

    from ..text import console

    screen, config, text = console(), contents.config, contents.text
    screen.print(f"{contents.place}: {FORMS[contents.form]}, {contents.bytes:,} bytes", soft_wrap=True)
    if config is not None:
        spec, rope = config.spec, config.rope
        screen.print(
            f"{contents.architecture}: {spec.layers} layers, hidden {spec.hidden:,}, {spec.heads} heads of "
            f"{spec.head_dim} ({spec.kv_heads} for keys), feed-forward {spec.ffn:,} ({spec.activation}), "
            f"vocabulary {spec.vocab:,}",
            soft_wrap=True,
        )
        sub_norms = "with" if spec.sub_norms else "without"
        head = "the embedding is the head" if spec.tied_head else "head of its own"
        context = "" if spec.max_context is None else f", context {spec.max_context:,}"
        scaling = "" if rope.scaling == "none" else f", {rope.scaling} scaling by {rope.factor:g}"
        screen.print(f"{sub_norms} sub-norms, {head}{context}, rotary base {rope.theta:,.0f}{scaling}")
    if text is not None:
        tokenizer, template = ("yes" if there is not None else "no" for there in (text.tokenizer, text.chat_template))
        ends = ", ".join(map(str, text.eos)) or "none"
        screen.print(f"tokenizer: {tokenizer}; chat template: {template}; tokens that end an answer: {ends}")
    for message in dict.fromkeys(contents.refusals.values()):
        screen.print(f"bitsim does not run it: {message}", soft_wrap=True)
    screen.print()


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the screen has it."""
    if "name" in row:
        head = {"tensor": row["name"], "format": row["format"], "shape": _shape(row["shape"])}
    else:
        head = {"class": row["tensor_class"], "tensors": row["tensors"], "format": row["formats"]}
        head["weights"] = f"{row['weights']:,}"
    bits, zeros, entropy = row["bits_per_weight"], row["zero_fraction"], row["entropy"]
    return head | {
        "bytes": f"{row['bytes']:,}",
        "bits/weight": "" if bits is None else f"{bits:.2f}",
        "zeros": "" if zeros is None else f"{zeros:.1%}",
        "entropy": "" if entropy is None else f"{entropy:.3f}",
        "scale from": row["scale_low"],
        "to": row["scale_high"],
    }


def _without_empty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without the columns that none of them fills: a model of full numbers has no zeros to count."""
    filled = [name for name in (rows[0] if rows else ()) if any(row[name] not in ("", None) for row in rows)]
    return [{name: row[name] for name in filled} for row in rows]


def _print_long(rows: list[dict[str, Any]]) -> None:
    """Print a table whose names are whole, however long a line becomes: they are there to be copied."""
    names = list(rows[0])
    cells = [names, *([_text(cell) for cell in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for number, line in enumerate(cells):
        columns = (
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(names, line, widths, strict=True)
        )
        click.echo("   ".join(columns).rstrip())
        if number == 0:
            click.echo("─" * (sum(widths) + 3 * (len(widths) - 1)))


def _text(cell: Any) -> str:
    return "" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape))
