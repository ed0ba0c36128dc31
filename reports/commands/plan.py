"""bitsim plan."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import Count, output_format

if TYPE_CHECKING:
    from bitsim.simulator.plan import Plan

    from ..chosen_laws import ChosenLaws


class Amount(click.ParamType[float]):
    """A positive amount with its unit: energy (100kWh, 3.6MJ) or money (5000usd)."""

    def __init__(self, name: str) -> None:
        """Take "energy" or "money"."""
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the amount; a usage error where it is none."""
        from bitsim.energy_tables import BitsimError
        from bitsim.energy_tables.units import parse_energy, parse_money

        if isinstance(value, float):
            return value
        parse = parse_energy if self.name == "energy" else parse_money
        try:
            return parse(str(value), param.name if param and param.name else self.name)
        except BitsimError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="The best size, tokens and scheme for a budget.")
@click.option("--flops", type=Count(), help="Budget of compute, such as 1e21.")
@click.option("--energy", type=Amount("energy"), help="Budget of energy, such as 100kWh, 3.6MJ or 2GJ.")
@click.option("--budget", type=Amount("money"), help="Budget of money, such as 5000usd: rent of the machines.")
@click.option("--served-tokens", type=Count(), help="Tokens that the model generates in its life, such as 1T.")
@click.option("--schemes", default="fp16,b1.58", show_default=True, metavar="SCHEMES", help="By commas.")
@click.option(
    "--law", "laws", multiple=True, metavar="LAW",
    help="A loss law that knows tokens: a name, or a file of bitsim fit-law; or SCHEME=LAW (repeatable; default:"
    " chinchilla-besiroglu, and for b1.58 the FP16 size that trilm and floatlm call equal).",
)  # fmt: skip
@click.option("--hardware", default="a100-80gb", show_default=True, help="Machine that trains: name or .toml file.")
@click.option("--devices", type=int, help="How many train (default: as many as hold the training state).")
@click.option("--serving-hardware", help="Machine that serves (default: the one that trains).")
@click.option("--batch", type=int, help="Sequences side by side when it serves (default: 16).")
@click.option("--prompt-tokens", type=int, help="Tokens read, per sequence (default: 512).")
@click.option("--new-tokens", type=int, help="Tokens generated, per sequence (default: 128).")
@click.option("--max-tokens", type=Count(), help="Training tokens at hand.")
@click.option("--max-size", type=Count(), help="Most parameters that the model may have.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE",
    help="Draw the lowest loss for the budget over the size, with the laws' bands: .png, .pdf or .svg.",
)  # fmt: skip
@output_format
def plan(form: str, schemes: str, laws: tuple[str, ...], plot: Path | None, **request: Any) -> None:
    """Find the size, the training tokens and the scheme that reach the lowest loss for a budget.

    With --served-tokens the budget pays for training and for serving: a smaller model, trained for longer, is cheaper
    to serve. All numbers are of the middle of the prices' and laws' ranges.

    \b
    Examples:
      $ bitsim plan --flops 1e21
      $ bitsim plan --energy 1GWh --served-tokens 1T --hardware h100-sxm --devices 1024
      $ bitsim plan --budget 5000usd --served-tokens 10B --serving-hardware raspberry-pi-5 --batch 1
    """
    kinds = {"flops": request["flops"], "energy": request["energy"], "money": request["budget"]}
    given = [(kind, amount) for kind, amount in kinds.items() if amount is not None]
    if len(given) != 1:
        raise click.UsageError("give one of --flops, --energy and --budget")
    if request["served_tokens"] is None:
        _refuse_serving_options(request)
    names = tuple(dict.fromkeys(name.strip() for name in schemes.split(",") if name.strip()))
    if not names:
        raise click.UsageError("--schemes: expected names, by commas, got nothing")
    from bitsim.simulator import make_workload
    from bitsim.simulator.plan import DEFAULT_WORKLOAD, NO_LIMITS, Budget, Limits, Service
    from bitsim.simulator.plan import plan as make_plan

    from ..chosen_laws import choose_laws
    from ..plan_screen import print_plan

    if plot is not None:
        from ..plot_style import check_kind

        check_kind(plot)  # before the work
    workload = {name: request[name] for name in ("batch", "prompt_tokens", "new_tokens") if request[name] is not None}
    usual = {name: getattr(DEFAULT_WORKLOAD, name) for name in ("batch", "prompt_tokens", "new_tokens")}
    chosen = choose_laws(laws, names)
    found = make_plan(
        Budget(*given[0]),
        names,
        laws=chosen.laws,
        hardware=request["hardware"],
        devices=request["devices"],
        service=Service(
            request["served_tokens"] or 0.0, request["serving_hardware"], make_workload(**(usual | workload))
        ),
        limits=Limits(request["max_tokens"] or NO_LIMITS.tokens, request["max_size"] or NO_LIMITS.parameters),
    )
    found = _with_intervals(found, chosen)
    if plot is not None:
        from ..plan_plot import plot_plan

        plot_plan(plot, found, chosen)
    print_plan(found, form)


def _refuse_serving_options(request: dict[str, Any]) -> None:
    """Refuse options that would have no effect: silence would be taken for an answer."""
    for name in ("serving_hardware", "batch", "prompt_tokens", "new_tokens"):
        if request[name] is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} has no meaning without --served-tokens")


def _with_intervals(plan: "Plan", chosen: "ChosenLaws") -> "Plan":
    """Take the ranges of losses from the fits, where laws come from files."""
    schemes, notes = [], list(plan.notes)
    for each in plan.schemes:
        loss = chosen.with_interval(each.loss, each.scheme, each.run.parameters, each.run.tokens)
        notes += [note for note in loss.notes if note not in each.loss.notes]
        schemes.append(replace(each, loss=loss))
    return replace(plan, schemes=tuple(schemes), notes=tuple(notes))
