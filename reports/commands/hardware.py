"""bitsim hardware list, bitsim hardware show."""

from typing import Any

import click

from ..options import output_format


@click.group(short_help="The machines bitsim knows.")
def hardware() -> None:
    """The machines bitsim knows.

    \b
    Examples:
      bitsim hardware list
      bitsim hardware show raspberry-pi-5
    """


@hardware.command("list", short_help="All machines, one a line.")
@output_format
def list_(form: str) -> None:
    """List the machines: bandwidth, memory, peak rates and power.

    \b
    Example:
      bitsim hardware list --format markdown
    """
    from bitsim.energy_tables import hardware_names, load_hardware
    from bitsim.energy_tables.units import format_si

    from ..text import print_rows

    numbers = (
        "bandwidth_bytes_per_s",
        "capacity_bytes",
        "fp16_flops_per_s",
        "int8_ops_per_s",
        "idle_w",
        "peak_w",
    )
    rows: list[dict[str, Any]] = []
    for name in hardware_names():
        profile = load_hardware(name)
        values = {number: profile.get(number) for number in numbers}
        rows.append(
            {"name": name, "title": profile.title}
            | {number: value.mid if value else None for number, value in values.items()}
        )
    if form == "table":
        units = dict(zip(numbers, ("B/s", "B", "FLOP/s", "OP/s", "W", "W"), strict=True))
        short = dict(zip(numbers, ("bandwidth", "memory", "FP16", "INT8", "idle", "peak"), strict=True))
        rows = [
            {"name": row["name"], "title": row["title"]}
            | {short[n]: "-" if row[n] is None else format_si(row[n], units[n]) for n in numbers}
            for row in rows
        ]
    print_rows(rows, form, right=("bandwidth", "memory", "FP16", "INT8", "idle", "peak"))


@hardware.command(short_help="Every value of one machine, with its source.")
@click.argument("name")
@output_format
def show(name: str, form: str) -> None:
    """Show every value of a machine (a name or a .toml file), its range and its source.

    \b
    Example:
      bitsim hardware show a100-80gb
    """
    from bitsim.energy_tables import load_hardware

    from ..text import print_rows

    profile = load_hardware(name)
    rows = [
        {
            "quantity": quantity,
            "low": found.value.low,
            "mid": found.value.mid,
            "high": found.value.high,
            "source": " ".join(found.provenance.sources),
            "locator": found.provenance.locator,
            "status": found.provenance.status,
            "note": found.provenance.note,
        }
        for quantity, found in profile.quantities.items()
    ]
    if form == "table":
        rows = [{key: value for key, value in row.items() if key not in ("locator", "note")} for row in rows]
    title = f"{profile.name}: {profile.title}. {profile.process}, {profile.memory}, {profile.cores} cores"
    print_rows(rows, form, title=title, right=("low", "mid", "high"))
