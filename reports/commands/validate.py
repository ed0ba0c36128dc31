"""bitsim validate."""

from collections.abc import Sequence
from typing import Any

import click

from ..options import output_format

_GROUPS = ("arithmetic", "ratios", "memory", "parameters", "speeds", "energy", "serving")


@click.command(short_help="Published numbers, recomputed.")
@click.option("--group", type=click.Choice(_GROUPS), help="Only one kind of number.")
@click.option("--summary", is_flag=True, help="Only the errors of each group.")
@output_format
def validate(group: str | None, summary: bool, form: str) -> None:
    """Recompute every published number that the model covers: ours, theirs, the error, the source.

    "fitted" marks numbers that the engine predicting them was fitted to; the others it has not seen.

    \b
    Examples:
      bitsim validate --summary
      bitsim validate --group arithmetic
      bitsim validate --format csv > validation.csv
    """
    from bitsim.simulator.validation import validate as run

    from ..text import print_rows

    checks = run(group)
    if form == "table" and not summary:
        print_rows([_line(check) for check in checks], form, right=("published", "ours", "error"))
    elif not summary:
        print_rows([_row(check) for check in checks], form)
    if summary and form != "table":
        print_rows(_summary(checks), form)
    elif summary or form == "table":
        lines = [_summary_line(row) for row in _summary(checks)]
        print_rows(lines, form, title="Errors", right=("numbers", "mean error", "largest", "agree"))


def _line(check: Any) -> dict[str, Any]:
    agrees = {True: "agrees", False: "DIFFERS", None: ""}[check.within]
    return {
        "what": check.what,
        "published": f"{check.published:.4g} {check.unit}",
        "ours": f"{check.ours:.4g}",
        "error": f"{check.error:+.1%}",
        "": "fitted" if check.fitted else agrees,
        "source": f"{check.sources[0]} {check.locator}"[:40],
    }


def _row(check: Any) -> dict[str, Any]:
    names = ("group", "id", "what", "published", "ours", "unit", "error", "fitted", "within")
    return {name: getattr(check, name) for name in names} | {
        "source": " ".join(check.sources),
        "locator": check.locator,
        "note": check.note,
    }


def _summary(checks: Sequence[Any]) -> list[dict[str, Any]]:
    from bitsim.simulator.validation import mean_absolute_error

    rows = []
    for group in dict.fromkeys(check.group for check in checks):
        for fitted in (False, True):
            members = [check for check in checks if check.group == group and check.fitted == fitted]
            judged = [check for check in members if check.within is not None]
            if members:
                rows.append(
                    {
                        "group": group,
                        "fitted": fitted,
                        "numbers": len(members),
                        "mean_error": mean_absolute_error(members),
                        "largest_error": max(abs(check.error) for check in members),
                        "agree": sum(bool(check.within) for check in judged),
                        "judged": len(judged),
                    }
                )
    return rows


def _summary_line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "group": row["group"],
        "seen by the fit": "yes" if row["fitted"] else "no",
        "numbers": row["numbers"],
        "mean error": f"{row['mean_error']:.1%}",
        "largest": f"{row['largest_error']:.1%}",
        "agree": f"{row['agree']} of {row['judged']}" if row["judged"] else "",
    }
