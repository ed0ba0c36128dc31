"""bitsim bench."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..options import Numbers, output_format

_SHAPES = ("2560x6912", "6912x2560")  # the feed-forward matrices of BitNet b1.58 2B4T
_MOST = 1 << 20  # rows, columns, tokens


class Shape(click.ParamType[tuple[int, int]]):
    """Rows x columns of a matrix: 2560x6912."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the shape; a usage error where it is none."""
        if isinstance(value, tuple):
            return value
        rows, _, columns = str(value).lower().partition("x")
        if not (rows.isdecimal() and columns.isdecimal() and 0 < int(rows) <= _MOST and 0 < int(columns) <= _MOST):
            self.fail(f"expected ROWSxCOLUMNS such as 2560x6912, got '{str(value)[:40]}'", param, ctx)
        return int(rows), int(columns)


@click.command(short_help="How fast this machine multiplies.")
@click.option("--kernels", is_flag=True, help="Time the products of packed ternary matrices.")
@click.option("--model", metavar="PATH|PRESET", help="Time a model; a preset's shape is filled with random weights.")
@click.option("--scheme", default="b1.58", show_default=True, help="Of a preset's weights: b1.58 or fp16.")
@click.option("--prompt-tokens", type=click.IntRange(1, _MOST), default=128, show_default=True, help="Of a sequence.")
@click.option("--new-tokens", type=click.IntRange(1, _MOST), default=32, show_default=True, help="Of a sequence.")
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Sequences at once.")
@click.option("--head", type=click.Choice(["exact", "screened", "int8"]), help="Default: screened if the file has one.")
@click.option("--kv", type=click.Choice(["f16", "int8"]), default="f16", show_default=True, help="Key/value cache.")
@click.option("--kernel", "names", multiple=True, metavar="NAME", help="Only this kernel; may be given again.")
@click.option(
    "--shape",
    "shapes",
    type=Shape(),
    multiple=True,
    metavar="ROWSxCOLUMNS",
    help=f"Outputs x inputs of a matrix; may be given again. Default: {' and '.join(_SHAPES)}.",
)
@click.option("--rows", type=Numbers(), default="1,128", show_default=True, help="Rows of activations: tokens at once.")
@click.option("--threads", type=Numbers(), help="Numbers of threads, such as 1,2. Default: 1 and all cores.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), help="Turns; the fastest counts. Default: 15, and 3 of a model."
)
@output_format
def bench(
    kernels: bool,
    model: str | None,
    names: tuple[str, ...],
    shapes: tuple[tuple[int, int], ...],
    rows: tuple[int, ...],
    threads: tuple[int, ...] | None,
    rounds: int | None,
    form: str,
    **options: Any,
) -> None:
    """Time products of packed ternary weights, or a whole model, on this machine, beside what bounds them.

    Every round times each kernel once, and how fast the machine reads memory, so that whatever else runs meets all
    alike. "dram" rotates through more weights than the caches hold, "cache" uses one matrix again and again. torch is
    timed too where it is installed.

    BITSIM_KERNEL=portable, for example, makes bitsim use another kernel than the best for this CPU.

    \b
    Examples:
      bitsim bench --kernels
      bitsim bench --kernels --shape 2560x2560 --rows 1,4,16 --threads 2 --format json
      $ bitsim bench --model model.safetensors
      $ bitsim bench --model bitnet-b1.58-2B-4T --threads 4
    """
    if kernels == (model is not None):
        raise click.UsageError("say what to time: --kernels, or --model PATH")
    if min(rows) < 1 or max(rows) > _MOST:
        raise click.BadParameter(f"expected 1 to {_MOST:,}", param_hint="'--rows'")
    from bitsim.runtime import cpu

    counts = threads or tuple(dict.fromkeys((1, cpu.usable_cores())))
    if min(counts) < 1 or max(counts) > 1024:
        raise click.BadParameter("expected 1 to 1024", param_hint="'--threads'")
    if model is not None:
        _bench_model(model, counts, rounds or 3, options, form)
        return
    chosen = shapes or tuple(Shape().convert(text, None, None) for text in _SHAPES)
    _show(_measure(names, chosen, rows, counts, rounds or 15), form)


def _bench_model(name: str, counts: tuple[int, ...], rounds: int, options: dict[str, Any], form: str) -> None:
    from bitsim.runtime.measure_model import Workload

    from . import bench_model

    workload = Workload(options["prompt_tokens"], options["new_tokens"], options["batch"])
    with _progress(len(counts) * rounds) as step:
        heads = options["head"], options["kv"]
        result = bench_model.measure(name, options["scheme"], workload, counts, heads, rounds, step)
    bench_model.show(result, form)


def _measure(
    names: tuple[str, ...],
    shapes: tuple[tuple[int, int], ...],
    rows: tuple[int, ...],
    counts: tuple[int, ...],
    rounds: int,
) -> dict[str, Any]:
    from bitsim.runtime import cpu
    from bitsim.runtime.kernels import available, best, kernel_named
    from bitsim.runtime.measure import Bench, Contender, KernelContender

    chosen = best()
    kernels = [kernel_named(name, "--kernel") for name in names] or [k for k in available() if k.name != "reference"]
    contenders: list[Contender] = [KernelContender(kernel) for kernel in kernels]
    if not names:
        contenders += _torch_contenders()
    found = []
    with _progress(len(shapes) * len(rows) * rounds) as step, Bench(counts) as machine:
        for shape in shapes:
            for tokens in rows:
                step(f"{shape[0]}x{shape[1]}, {tokens} at once", 0)
                timings: list[Any] = []
                for timings in machine.measure(contenders, shape, tokens, rounds):  # noqa: B007
                    step(None, 1)
                found += timings
    read = machine.read_bytes_per_s
    return {
        "machine": {
            "cpu": cpu.name(),
            "isa": sorted(cpu.features()),
            "kernel": chosen.name,
            "read_bandwidth_bytes_per_s": {str(count): read[count] for count in counts},
            "int8_products_per_s": {str(count): rate for count, rate in machine.int8_products_per_s.items()},
        },
        "results": [_result(case, seconds, read[case.threads]) for case, seconds in found],
    }


def _torch_contenders() -> list[Any]:
    try:
        from bitsim.training.torch_products import contenders
    except ImportError:
        return []
    return list(contenders())


def _result(case: Any, seconds: float, read_bandwidth: float) -> dict[str, Any]:
    return {
        "kernel": case.kernel,
        "packing": case.packing,
        "shape": list(case.shape),
        "rows": case.tokens,
        "threads": case.threads,
        "where": case.where,
        "seconds": seconds,
        "weights_per_s": case.weights / seconds,
        "products_per_s": case.weights * case.tokens / seconds,
        "packed_bytes_per_s": case.packed_bytes / seconds,
        "fraction_of_read_bandwidth": case.packed_bytes / seconds / read_bandwidth,
    }


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show on a terminal how far it is, and what is being compiled."""
    from bitsim.runtime.compile import watching_compilation

    if not sys.stderr.isatty():
        yield lambda what, steps: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total)

        def step(what: str | None, steps: int) -> None:
            bar.update(task, advance=steps, description=what)

        with watching_compilation(lambda name: step(f"compiling {name} (once on this machine)", 0)):
            yield step


def _show(result: dict[str, Any], form: str) -> None:
    from ..text import console, print_json, print_rows

    if form == "json":
        print_json(result)
        return
    rows = result["results"]
    if form != "table":
        print_rows([row | {"shape": "x".join(map(str, row["shape"]))} for row in rows], form)
        return
    machine, screen = result["machine"], console()
    screen.print(f"{machine['cpu']}: {machine['kernel']} kernel")
    for count, speed in machine["read_bandwidth_bytes_per_s"].items():
        line = f"{_threads(count)}: memory is read at {speed / 1e9:.1f} GB/s"
        peak = machine["int8_products_per_s"].get(count)
        screen.print(line + (f", int8 dot products on registers {peak / 1e9:.0f} G/s" if peak else ""))
    screen.print()
    print_rows(
        [_line(row) for row in rows], "table", right=("rows", "threads", "time", "G products/s", "GB/s", "of read")
    )
    screen.print(
        "\nG products/s: weights x rows of activations; GB/s: of packed weights; of read: of the memory's speed."
    )


def _threads(count: str) -> str:
    return "1 thread" if count == "1" else f"{count} threads"


def _line(row: dict[str, Any]) -> dict[str, Any]:
    from_memory = row["where"] == "dram"
    return {
        "kernel": row["kernel"],
        "weights": row["packing"],
        "matrix": "x".join(map(str, row["shape"])),
        "rows": row["rows"],
        "threads": row["threads"],
        "from": row["where"],
        "time": f"{row['seconds'] * 1e6:,.0f} µs",
        "G products/s": f"{row['products_per_s'] / 1e9:.1f}",
        "GB/s": f"{row['packed_bytes_per_s'] / 1e9:.1f}",
        "of read": f"{row['fraction_of_read_bandwidth']:.0%}" if from_memory else "",
    }
