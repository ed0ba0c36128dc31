"""bitsim predict."""

import math
from pathlib import Path
from typing import Any

import click

from ..options import Count, output_format


@click.command(short_help="The loss that a law gives a size.")
@click.option("--size", type=Count(), required=True, help="Parameters, such as 70B, counted as the law counts them.")
@click.option("--tokens", type=Count(), help="Training tokens, such as 2T. Default: 20 per parameter.")
@click.option(
    "--law", "laws", multiple=True, metavar="FILE|NAME",
    help="A file of bitsim fit-law, or kaplan, chinchilla, trilm, floatlm, own, ...; may be given again."
    " Default: the published law of each scheme.",
)  # fmt: skip
@click.option("--scheme", "schemes", multiple=True, help="Of those that the law knows; may be given again.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE",
    help="Draw the laws over the size, with their bands: .png, .pdf or .svg.",
)  # fmt: skip
@output_format
def predict(
    size: float, tokens: float | None, laws: tuple[str, ...], schemes: tuple[str, ...], plot: Path | None, form: str
) -> None:
    """Predict the loss of a model, its interval, and how far outside its runs the law is asked.

    Where a law knows two schemes, it also says which ternary model equals an FP16 model of this size.

    \b
    Examples:
      $ bitsim predict --size 70B --tokens 2T
      $ bitsim predict --size 50M --law law.json
      $ bitsim predict --size 3B --law trilm --law floatlm
    """
    from ..laws import curves, forecasts

    if plot is not None:
        from ..plot_style import check_kind

        check_kind(plot)  # before the work
    found, equals = forecasts(laws, schemes, size, tokens)
    if plot is not None:
        from ..predict_plot import check_metrics, plot_predictions

        check_metrics(found)
        plot_predictions(plot, curves(laws, schemes, size, tokens))
    for forecast in found:
        if forecast.far:
            click.echo(f"Warning: {_far(forecast)}", err=True)
    for equal in equals:
        if equal.far:
            click.echo(f"Warning: {_equality(equal, size)}: this is a guess", err=True)
    if form == "json":
        from ..text import print_json

        print_json(_payload(found, equals, size))
    else:
        _show(found, equals, size, form)


def _far(forecast: Any) -> str:
    parts = {"size": forecast.decades_of_size, "tokens": forecast.decades_of_tokens}
    far = " and ".join(f"{what} {decades:.1f}" for what, decades in parts.items() if decades)
    return f"law {forecast.law}, {forecast.scheme}: {far} powers of ten outside the runs: this is a guess"


def _payload(found: list[Any], equals: list[Any], size: float) -> dict[str, Any]:
    return {
        "parameters": size,
        "predictions": [_row(forecast) | {"notes": list(forecast.notes)} for forecast in found],
        "equals": [
            {
                "scheme": equal.scheme,
                "like": equal.like,
                "law": equal.law,
                "low": _finite(equal.parameters.low) if equal.has_interval else None,
                "parameters": _finite(equal.parameters.mid),
                "high": _finite(equal.parameters.high) if equal.has_interval else None,
                "decades_of_size": _finite(equal.decades_of_size),
            }
            for equal in equals
        ],
    }


def _row(forecast: Any) -> dict[str, Any]:
    known = math.isfinite(forecast.value.high)
    return {
        "scheme": forecast.scheme,
        "law": forecast.law,
        "metric": forecast.metric,
        "low": forecast.value.low if known else None,
        "value": forecast.value.mid,
        "high": forecast.value.high if known else None,
        "unit": forecast.unit,
        "interval": forecast.interval,
        "tokens": forecast.tokens,
        "counted": forecast.counted,
        "measured_on": forecast.measured_on,
        "decades_of_size": forecast.decades_of_size,
        "decades_of_tokens": forecast.decades_of_tokens,
    }


def _show(found: list[Any], equals: list[Any], size: float, form: str) -> None:
    from bitsim.energy_tables.units import format_count

    from ..text import as_markdown, print_rows

    if form == "csv":
        print_rows([{"parameters": size} | _row(forecast) for forecast in found], form)
        return
    rows = [_cells(forecast) for forecast in found]
    notes = list(dict.fromkeys(note for forecast in found for note in (_measured(forecast), *forecast.notes)))
    notes += [_equality(equal, size) for equal in equals]
    if form == "markdown":
        click.echo(as_markdown(rows) + "\n\n" + "\n".join(f"- {note}" for note in notes))
        return
    click.echo(f"{format_count(size)} parameters\n")
    print_rows(rows, form, right=("value", "tokens"))
    click.echo()
    for note in notes:
        click.echo(note)


def _cells(forecast: Any) -> dict[str, str]:
    from bitsim.energy_tables.units import format_count

    row = _row(forecast)
    far = [decades for decades in (forecast.decades_of_size, forecast.decades_of_tokens) if decades is not None]
    return {
        "scheme": forecast.scheme,
        "law": forecast.law,
        "metric": forecast.metric,
        "value": f"{forecast.value.mid:.4g}",
        "interval": "none" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}",
        "unit": forecast.unit,
        "tokens": "as its runs" if forecast.tokens is None else format_count(forecast.tokens),
        "extrapolated": "unknown" if not far else f"{max(far):.2f} decades" if max(far) else "no",
    }


def _measured(forecast: Any) -> str:
    return f"{forecast.law}: on {forecast.measured_on}; N counts {forecast.counted}; interval: {forecast.interval}"


def _equality(equal: Any, size: float) -> str:
    from bitsim.energy_tables.units import format_count

    low, mid, high = equal.parameters
    model = f"{equal.like} of {format_count(size)}"
    if not math.isfinite(mid):
        least = f"; the interval begins at {format_count(low)}" if equal.has_interval and math.isfinite(low) else ""
        return f"{equal.law}: no {equal.scheme} model equals {model}: its law levels off above that{least}"
    ends = ""
    if equal.has_interval:
        ends = f" ({format_count(low)} to {format_count(high) if math.isfinite(high) else 'any size'})"
    far = f", {equal.decades_of_size:.2f} decades outside its runs" if equal.decades_of_size else ""
    return f"{equal.law}: {equal.scheme} of {format_count(mid)} parameters{ends} equals {model}{far}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
