"""bitsim tables list, bitsim tables show, bitsim cite."""

import click

from ..options import output_format


@click.group(short_help="The tables of sourced numbers.")
def tables() -> None:
    """The tables of sourced numbers that every estimate is made from.

    \b
    Examples:
      bitsim tables list
      bitsim tables show op_energy
    """


@tables.command("list", short_help="All tables, one a line.")
@output_format
def list_(form: str) -> None:
    """List the tables with their rows and columns.

    \b
    Example:
      bitsim tables list
    """
    from bitsim.energy_tables.catalogue import read_table, table_names

    from ..text import print_rows

    rows = []
    for name in table_names():
        lines = read_table(name)
        columns = [column for column in lines[0] if column not in ("source", "locator", "status", "note")]
        rows.append({"table": name, "rows": len(lines), "columns": " ".join(columns)})
    print_rows(rows, form, right=("rows",))


@tables.command(short_help="One table, whole.")
@click.argument("name")
@output_format
def show(name: str, form: str) -> None:
    """Show one table, with source, locator and status of every row.

    \b
    Example:
      bitsim tables show memory_energy --format markdown
    """
    from bitsim.energy_tables.catalogue import read_table

    from ..text import print_rows

    rows = read_table(name)
    if form == "table":  # notes are long: they are in the other formats
        rows = [{column: cell for column, cell in row.items() if column != "note"} for row in rows]
    print_rows(rows, form, title=name)


@click.command(short_help="References of source keys.")
@click.argument("keys", nargs=-1)
@output_format
def cite(keys: tuple[str, ...], form: str) -> None:
    """Print the reference of each source KEY, or of all sources.

    \b
    Examples:
      bitsim cite jouppi2021 ma2024era
      bitsim cite --format json
    """
    from bitsim.energy_tables import cite as look_up
    from bitsim.energy_tables import sources

    from ..text import print_rows

    found = look_up(keys or sources())
    if form == "table":
        for source in found:
            click.echo(f"{source.key} [{source.kind}]: {source.reference()}")
    else:
        print_rows([{name: getattr(source, name) for name in source.__slots__} for source in found], form)
