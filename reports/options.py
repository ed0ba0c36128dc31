"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "csv", "markdown")


class Count(click.ParamType[float]):
    """A positive count with an optional suffix: 350M, 7B, 2T."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the count; a usage error where it is none."""
        from bitsim.energy_tables.errors import BitsimError
        from bitsim.energy_tables.units import parse_count

        if isinstance(value, float):
            return value
        try:
            return parse_count(str(value), param.name if param and param.name else "count")
        except BitsimError as error:
            self.fail(str(error), param, ctx)


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers as a list or a range: `1,2,8`, `1:128:*2` (doubling) or `0:4096:512`."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the numbers; a usage error where they are none."""
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for part in str(value).split(","):
            found += self._range(part.strip(), param, ctx)
        return tuple(found)

    def _range(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        pieces = text.split(":")
        step = pieces[2] if len(pieces) == 3 else "1"
        doubling = step.startswith("*")
        try:
            first, last, stride = (
                int(pieces[0]),
                int(pieces[1] if len(pieces) > 1 else pieces[0]),
                int(step.lstrip("*")),
            )
        except ValueError:
            first, last, stride = 0, -1, 1
        bad = len(pieces) > 3 or first < 0 or last < first or stride < 1 or (doubling and (stride < 2 or first < 1))
        if bad or (last - first) // stride > 10**6:
            self.fail(f"expected numbers such as 1,2,8 or 1:128:*2 or 0:4096:512, got '{text[:40]}'", param, ctx)
        values = []
        while first <= last:
            values.append(first)
            first = first * stride if doubling else first + stride
        return values


def output_format(command: Command) -> Command:
    """Add --format."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="Output format.",
    )(command)


def model_options(command: Command) -> Command:
    """Add --size and --model, of which exactly one must be given."""
    command = click.option(
        "--model", help="A preset, a folder with a config.json, a config.json, or a .csv of models."
    )(command)
    return click.option("--size", help="Number of parameters, such as 350M, 70B or 1T: a LLaMA shape of that size.")(
        command
    )


def one_model(size: str | None, model: str | None) -> Any:
    """Return the ModelSpec of exactly one of the two options."""
    from bitsim.simulator import resolve_model, spec_for_size

    if (size is None) == (model is None):
        raise click.UsageError("give one of --size and --model")
    return spec_for_size(size) if size is not None else resolve_model(str(model))
