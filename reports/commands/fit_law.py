"""bitsim fit-law."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..options import output_format

_PATH = click.Path(path_type=Path)


@click.command("fit-law", short_help="A law of the loss from the runs of a ladder.")
@click.argument("runs", type=_PATH)
@click.option("-o", "--output", type=_PATH, metavar="FILE", help="Save the law, for bitsim predict --law FILE.")
@click.option(
    "--form", "law_form", type=click.Choice(["power", "chinchilla", "pure-power"]), default="power", show_default=True,
    help="power: e + a N^-alpha. chinchilla: with + b D^-beta. pure-power: without e.",
)  # fmt: skip
@click.option("--metric", default="held_out_loss", show_default=True, help="Column that the law is about.")
@click.option(
    "--size-column", type=click.Choice(["non_embedding", "parameters"]), default="non_embedding", show_default=True,
    help="Column that counts as N.",
)  # fmt: skip
@click.option("--shared", default="", metavar="NAMES", help="Coefficients that all schemes share, by commas: alpha.")
@click.option("--level", type=float, default=0.9, show_default=True, help="Of the intervals.")
@click.option(
    "--bootstrap", type=click.Choice(["points", "noise"]),
    help="What intervals are made of. Default: noise where there are fewer than ten runs for each unknown.",
)  # fmt: skip
@click.option("--resamples", type=click.IntRange(0, 20_000), default=4000, show_default=True, help="0: no intervals.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
@click.option("--plot", type=_PATH, metavar="FILE", help="Draw runs, curves and bands: .png, .pdf or .svg.")
@click.option("--check", is_flag=True, help="Predict each run from the others, and the largest size from the rest.")
@output_format
def fit_law(runs: Path, form: str, output: Path | None, plot: Path | None, check: bool, **request: Any) -> None:
    """Fit a law of size, and of training tokens, to RUNS, the runs.csv of a ladder: all schemes together, a law each.

    What stands against the fit is said on standard error. With --check, CSV holds the checks, not the coefficients.

    \b
    Examples:
      $ bitsim fit-law runs/runs.csv -o law.json --plot law.png --check
      $ bitsim fit-law runs/runs.csv --form chinchilla --shared e,alpha,beta
      $ bitsim fit-law runs/runs.csv --metric peak_memory_bytes --size-column parameters
    """
    from bitsim.training.fit import fit_law as fitted
    from bitsim.training.law_file import Origin, write_law
    from bitsim.training.measured import read_runs

    from ..law_plot import check_kind, plot_law

    if output is not None and output.resolve() == runs.resolve():
        raise click.UsageError(f"--output: expected another file than the runs, got '{output}'")
    if plot is not None:
        check_kind(plot)  # before the work
    points = read_runs(runs, request.pop("metric"), request.pop("size_column"))
    law_form = request.pop("law_form")
    options = {**request, "shared": [name.strip() for name in request["shared"].split(",") if name.strip()]}
    fit = fitted(points, law_form, **options)
    checks, refused = _checks(fit, options) if check else ({}, [])
    warnings = [*fit.warnings, *refused]
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if output is not None:
        write_law(output, fit, Origin.of(runs))
    if plot is not None:
        plot_law(plot, fit)
    _show(fit, checks, warnings, form)


def _checks(fit: Any, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the runs left out under the check's name, and why a check can't be made."""
    from bitsim.energy_tables import BitsimError
    from bitsim.training.fit_checks import leave_one_out, predict_largest

    ways: dict[str, Callable[[], Any]] = {
        "leave-one-out": lambda: leave_one_out(fit),
        "largest size": lambda: predict_largest(fit.points, fit.form, **options)[1],
    }
    found, refused = {}, []
    for name, way in ways.items():
        try:
            found[name] = way()
        except BitsimError as error:
            refused.append(f"no check {name}: {error}")
    return found, refused


def _show(fit: Any, checks: dict[str, Any], warnings: list[str], form: str) -> None:
    from ..text import as_markdown, print_json, print_rows

    if form == "json":
        print_json(_payload(fit, checks, warnings))
        return
    coefficients, left_out = _coefficient_rows(fit), _check_rows(checks)
    if form == "csv":
        print_rows(left_out or coefficients, form)
        return
    tables = [_coefficient_cells(fit, coefficients), *([_check_cells(fit, left_out)] if left_out else [])]
    if form == "markdown":
        click.echo("\n\n".join(as_markdown(rows) for rows in tables))
        return
    click.echo(_title(fit) + "\n")
    print_rows(tables[0], form, right=("value",))
    click.echo("\n" + _about(fit))
    for rows in tables[1:]:
        click.echo()
        print_rows(rows, form, right=("size", "tokens", "measured", "predicted", "error"))


def _title(fit: Any) -> str:
    from bitsim.training.law_file import UNITS

    law = {"power": "e + a N^-alpha", "pure-power": "a N^-alpha", "chinchilla": "e + a N^-alpha + b D^-beta"}[fit.form]
    unit = UNITS.get(fit.points.metric)
    return f"{fit.points.metric} = {law}" + (f", {unit}" if unit else "")


def _about(fit: Any) -> str:
    from bitsim.energy_tables.units import format_count

    points = fit.points
    span = " to ".join(format_count(float(end)) for end in (points.parameters.min(), points.parameters.max()))
    counted = "parameters without embedding" if fit.points.counts == "non_embedding" else "parameters"
    followed, agreeing = fit.starts
    noise = "" if math.isnan(fit.noise) else f" Runs lie {fit.noise:.2%} about the law."
    made = "" if fit.resampled is None else f" Intervals: {len(fit.resampled):,} resamples of the {fit.bootstrap}."
    return (
        f"N: {counted}. {len(points)} runs of {span}.{noise} {agreeing} of {followed} starts found this best fit.{made}"
    )


def _coefficient_rows(fit: Any) -> list[dict[str, Any]]:
    from bitsim.training.law_file import summary

    return [
        {
            "scheme": scheme,
            "coefficient": name,
            "low": low,
            "value": value,
            "high": high,
            "shared": "yes" if name in fit.shared else "no",
        }
        for scheme, held in summary(fit).items()
        for name, (low, value, high) in held["coefficients"].items()
    ]


def _coefficient_cells(fit: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    title = f"{fit.level * 100:g} % interval"
    return [
        {
            "scheme": row["scheme"],
            "coefficient": row["coefficient"] + (" (shared)" if row["shared"] == "yes" else ""),
            "value": f"{row['value']:.4g}",
            title: _span(row["low"], row["high"]),
        }
        for row in rows
    ]


def _check_rows(checks: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "check": name,
            "scheme": run.scheme,
            "size": run.parameters,
            "tokens": run.tokens,
            "measured": run.measured,
            "predicted": run.predicted.mid,
            "low": None if run.predicted.is_exact else _finite(run.predicted.low),
            "high": None if run.predicted.is_exact else _finite(run.predicted.high),
            "error": run.error,
        }
        for name, runs in checks.items()
        for run in runs
    ]


def _check_cells(fit: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from bitsim.energy_tables.units import format_count

    title = f"law's {fit.level * 100:g} % interval"
    return [
        {
            "check": row["check"],
            "scheme": row["scheme"],
            "size": format_count(row["size"]),
            "tokens": "" if row["tokens"] is None else format_count(row["tokens"]),
            "measured": f"{row['measured']:.5g}",
            "predicted": f"{row['predicted']:.5g}",
            title: "" if row["low"] is None else _span(row["low"], row["high"]),
            "error": f"{row['error']:+.2%}",
        }
        for row in rows
    ]


def _payload(fit: Any, checks: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    from bitsim.training.law_file import UNITS, summary

    schemes = summary(fit)
    for scheme in schemes.values():
        scheme["coefficients"] = {
            name: dict(zip(("low", "value", "high"), limits, strict=True)) | {"shared": name in fit.shared}
            for name, limits in scheme["coefficients"].items()
        }
    return {
        "form": fit.form,
        "metric": fit.points.metric,
        "unit": UNITS.get(fit.points.metric),
        "size": fit.points.counts,
        "level": fit.level,
        "bootstrap": fit.bootstrap,
        "noise": _finite(fit.noise),
        "starts": {"followed": fit.starts[0], "agreeing": fit.starts[1]},
        "schemes": schemes,
        "checks": _check_rows(checks),
        "warnings": warnings,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _span(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "none"
    return f"{'any' if low is None else f'{low:.4g}'} to {'any' if high is None else f'{high:.4g}'}"
