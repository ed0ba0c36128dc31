"""bitsim bench --model: a model's speed on this machine."""

from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError


def measure(
    name: str,
    scheme: str,
    workload: Any,
    counts: tuple[int, ...],
    heads: tuple[str | None, str],
    rounds: int,
    progress: Any,
) -> dict[str, Any]:
    """Return the contract's JSON for a model, which is a path, or the name of a shape to be filled with random weights.

    counts: numbers of threads; heads: kind of head, and of key/value cache.
    """
    from bitsim.runtime import measure_model

    source = _source(name, scheme)
    results: list[dict[str, Any]] = []
    read: dict[str, float] = {}
    about: dict[str, Any] = {}
    for threads in counts:
        progress(f"loading {Path(name).name}", 0)
        found, read[str(threads)], about = _timed(source(threads, *heads), workload, rounds, progress)
        results += found
    return {
        "machine": {**measure_model.machine(), "kernel": about.pop("kernel"), "read_bandwidth_bytes_per_s": read},
        "model": {"name": name, "kv": heads[1], **about},
        "results": results,
    }


def _timed(model: Any, workload: Any, rounds: int, progress: Any) -> tuple[list[dict[str, Any]], float, dict[str, Any]]:
    """Return the rows of one number of threads, the memory's speed, and what the model is; the model is let go."""
    from bitsim.runtime.measure_model import ModelBench

    bench = ModelBench(model, workload)
    timings: list[Any] = []
    try:
        for timings in bench.rounds(rounds):  # noqa: B007
            progress(f"{model.threads} threads", 1)
    finally:
        bench.close()
        model.close()
    about = {"head": type(model.head).__name__, "kernel": model.kernel.name, "weight_bytes": model.weight_bytes}
    peak = bench.peak_rss_bytes
    return [_result(timing, bench.read_bytes_per_s, timings, peak) for timing in timings], bench.read_bytes_per_s, about


def _source(name: str, scheme: str) -> Any:
    """Return what loads the model for a number of threads, a kind of head and of cache."""
    from bitsim.runtime.box import model_path
    from bitsim.runtime.loading import load, run_checkpoint

    if model_path(name).exists():
        return lambda threads, head, kv: load(name, threads=threads, head=head, kv=kv)
    from bitsim.runtime.checkpoints.random_weights import RandomCheckpoint
    from bitsim.simulator.resolve import resolve_model

    if scheme not in ("fp16", "b1.58"):
        raise BitsimError(f"--scheme: expected fp16 or b1.58, got '{scheme[:40]}'")
    checkpoint = RandomCheckpoint(resolve_model(name), ternary=scheme == "b1.58")
    return lambda threads, head, kv: run_checkpoint(checkpoint, threads=threads, head=head or "exact", kv=kv)


def _result(timing: Any, read: float, timings: list[Any], peak: int) -> dict[str, Any]:
    prefill = next(each for each in timings if each.phase == "prefill")
    return {
        "phase": timing.phase,
        "tokens": timing.tokens,
        "context": timing.context,
        "batch": timing.batch,
        "threads": timing.threads,
        "tokens_per_s": timing.tokens_per_s,
        "seconds_to_first_token": prefill.seconds,
        "peak_rss_bytes": peak,
        "bytes_per_token": timing.bytes_per_token,
        "fraction_of_read_bandwidth": timing.bytes_per_token * timing.tokens_per_s / read,
        "energy_j_per_token": "unavailable" if timing.joules is None else timing.joules,
    }


def show(result: dict[str, Any], form: str) -> None:
    """Print the result."""
    from ..text import console, print_json, print_rows

    if form == "json":
        print_json(result)
        return
    if form != "table":
        print_rows(result["results"], form)
        return
    machine, model, screen = result["machine"], result["model"], console()
    screen.print(f"{machine['cpu']}: {machine['kernel']} kernel")
    for count, speed in machine["read_bandwidth_bytes_per_s"].items():
        screen.print(f"{count} thread{'' if count == '1' else 's'}: memory is read at {speed / 1e9:.1f} GB/s")
    kind = {"ExactHead": "exact", "ScreenedHead": "screened", "Int8Head": "int8"}[model["head"]]
    screen.print(f"{model['name']}: {model['weight_bytes'] / 1e6:,.0f} MB of weights without the {kind} head\n")
    rows = [_line(row) for row in result["results"]]
    print_rows(rows, "table", right=tuple(name for name in rows[0] if name != "phase"))
    screen.print("\nMB/token: of weights, head and cache; of read: of the memory's speed; RSS: memory in use at most.")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    joules = row["energy_j_per_token"]
    return {
        "phase": row["phase"],
        "threads": row["threads"],
        "batch": row["batch"],
        "tokens": row["tokens"],
        "tokens/s": f"{row['tokens_per_s']:,.1f}",
        "first token": f"{row['seconds_to_first_token']:.2f} s",
        "MB/token": f"{row['bytes_per_token'] / 1e6:,.1f}",
        "of read": f"{row['fraction_of_read_bandwidth']:.0%}",
        "RSS": f"{row['peak_rss_bytes'] / 1e6:,.0f} MB",
        "J/token": joules if isinstance(joules, str) else f"{joules:.2f}",
    }
