"""bitsim fit-check."""

from typing import Any

import click

from ..options import output_format

DEFAULT_MODELS = (
    "bitnet-b1.58-700M",
    "bitnet-b1.58-2B-4T",
    "llama-3.2-3b",
    "llama-3-8b",
    "bitnet-b1.58-13B",
    "bitnet-b1.58-30B",
    "llama-3-70b",
)


@click.command("fit-check", short_help="What fits a machine, and how fast it runs there.")
@click.option("--hardware", required=True, help="Name or .toml file.")
@click.option("--size", "sizes", multiple=True, help="Number of parameters (repeatable).")
@click.option("--model", "models", multiple=True, help="Preset or file (repeatable; default: seven from 700M to 70B).")
@click.option("--scheme", "schemes", multiple=True, help="Repeatable; default: fp16, w4a16 and b1.58.")
@click.option("--engine", help="Software whose efficiency to assume.")
@click.option("--threads", type=int, help="CPU threads (default: all).")
@click.option("--prompt-tokens", type=int, default=512, show_default=True, help="Tokens read.")
@click.option("--new-tokens", type=int, default=128, show_default=True, help="Tokens generated.")
@output_format
def fit_check(
    hardware: str,
    sizes: tuple[str, ...],
    models: tuple[str, ...],
    schemes: tuple[str, ...],
    form: str,
    **request: Any,
) -> None:
    """Show which models fit a machine, tokens per second, joules per token and the longest context.

    \b
    Examples:
      bitsim fit-check --hardware raspberry-pi-5
      bitsim fit-check --hardware m2 --size 7B --size 13B --format json
    """
    from bitsim.energy_tables import load_hardware
    from bitsim.energy_tables.units import format_si
    from bitsim.simulator import estimate, resolve_model, spec_for_size

    from ..text import print_rows

    profile = load_hardware(hardware)
    specs = [spec_for_size(size) for size in sizes] + [resolve_model(model) for model in models]
    specs = specs or [resolve_model(model) for model in DEFAULT_MODELS]
    rows: list[dict[str, Any]] = []
    for spec in specs:
        for scheme in schemes or ("fp16", "w4a16", "b1.58"):
            result = estimate(spec, scheme, profile, **request)
            energy = result.energy_per_new_token_j
            rows.append(
                {
                    "model": spec.name,
                    "scheme": scheme,
                    "dram_bytes": result.dram_bytes.total,
                    "fits": result.fits,
                    "largest_context": result.largest_context if result.fits else 0,
                    "tokens_per_s": result.tokens_per_s.mid if result.fits else None,
                    "seconds_to_first_token": result.prefill_s.mid if result.fits else None,
                    "energy_per_new_token_j": energy.mid if energy and result.fits else None,
                    "engine": result.engine.name,
                    "engine_fit": result.engine.fit,
                }
            )
    if form != "table":
        print_rows(rows, form)
        return

    _print(rows, f"{profile.title}: {format_si(profile.value('capacity_bytes').mid, 'B')} of memory")


def _print(rows: list[dict[str, Any]], title: str) -> None:
    """Print the rows for a person; a speed that no published speed stands behind gets a tilde."""
    from bitsim.energy_tables.units import format_si

    from ..text import console, print_rows

    def shown(row: dict[str, Any], name: str, unit: str) -> str:
        return "-" if row[name] is None else format_si(row[name], unit)

    def speed(row: dict[str, Any]) -> str:
        tilde = "" if row["engine_fit"] == "fitted" else "~"
        return "-" if row["tokens_per_s"] is None else f"{tilde}{row['tokens_per_s']:.3g}"

    lines = [
        {
            "model": row["model"],
            "scheme": row["scheme"],
            "memory": format_si(row["dram_bytes"], "B"),
            "fits": "yes" if row["fits"] else "no",
            "longest context": f"{row['largest_context']:,}" if row["fits"] else "-",
            "tokens/s": speed(row),
            "first token": shown(row, "seconds_to_first_token", "s"),
            "per token": shown(row, "energy_per_new_token_j", "J"),
        }
        for row in rows
    ]
    print_rows(lines, "table", title=title, right=tuple(lines[0])[2:])
    engines = dict.fromkeys(f"{row['scheme']}: {row['engine']}" for row in rows)
    console().print(f"Software: {', '.join(engines)}. ~: fitted on another machine or scheme.")
