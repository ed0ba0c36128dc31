"""A plan drawn: the lowest loss that the budget pays for at each size, its range, and the best size of each scheme."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitsim.energy_tables.units import format_count
from bitsim.simulator.loss_laws import Loss
from bitsim.simulator.plan import NO_LIMITS, Plan, Run, SchemePlan, run_of_size
from bitsim.simulator.sizes import MAX_PARAMETERS, MIN_PARAMETERS

from .chosen_laws import ChosenLaws
from .laws import SIZES
from .plan_screen import amount_text
from .plot_style import (
    DASHED,
    check_kind,
    counted_as,
    draw_band,
    draw_mark,
    empty_figure,
    label_marks,
    label_sizes,
    legend_above,
    literal,
    plain_frame,
    save_figure,
    shortened,
    style_of,
)

_AROUND = 30.0  # how many times smaller and larger than the best sizes
_STEPS = 160
_STEPS_TO_END = 40  # each halves what is left to the last size that is paid for
_EXACT = 1e-9  # of that size
_HIGHEST = 1.5  # of the lowest loss; what is above is cut: where tokens run out, losses rise without bound
_ROOM = 0.04  # of the height, below and above the curves
_PAST_END = 1.2  # how far the axis goes past the last size that is paid for


@dataclass(frozen=True, slots=True)
class PlanCurve:
    """The runs of one scheme that a budget pays for, by size.

    Attributes:
        best: the scheme's plan.
        sizes: rising, in parameters; the best size is among them.
        runs: within the limits, each on all tokens that the budget leaves; None above the largest size.
        losses: of these runs, with ranges (nats per token).
        without_limits: losses (nats per token) of the runs that the budget pays for where no limits are kept.
        ends: whether larger sizes, up to 30 times the best, can't be served and trained at all.
    """

    best: SchemePlan
    sizes: tuple[float, ...]
    runs: tuple[Run | None, ...]
    losses: tuple[Loss | None, ...]
    without_limits: tuple[float, ...]
    ends: bool

    @property
    def limited(self) -> bool:
        """Tell whether limits change the curve."""
        pairs = zip(self.runs, self.without_limits, strict=True)
        return any(run is None or run.loss != loss for run, loss in pairs)


def plan_curves(plan: Plan, chosen: ChosenLaws) -> list[PlanCurve]:
    """Return the curve of each scheme, from 1/30 of the smallest best size to 30 times the largest.

    Args:
        plan: what was found.
        chosen: laws that were asked for; those from files know their ranges.
    """
    bests = [each.run.parameters for each in plan.schemes]
    low, high = max(min(bests) / _AROUND, MIN_PARAMETERS), min(max(bests) * _AROUND, MAX_PARAMETERS)
    return [_curve(plan, each, chosen, low, high) for each in plan.schemes]


def _curve(plan: Plan, each: SchemePlan, chosen: ChosenLaws, low: float, high: float) -> PlanCurve:
    marked = {each.run.parameters, plan.limits.parameters, high}
    grid = {low * (high / low) ** (step / _STEPS) for step in range(_STEPS + 1)}
    end = _last_paid(plan, each, high)
    if end < high:  # the loss rises ever more steeply towards the end
        grid |= {end * (1.0 - 0.5**step) for step in range(1, _STEPS_TO_END)}
    sizes = tuple(sorted(size for size in grid | marked if low <= size <= end))
    runs = [run_of_size(each.law, each.costs, plan.budget, size, plan.limits) for size in sizes]
    free = [run_of_size(each.law, each.costs, plan.budget, size, NO_LIMITS) for size in sizes]
    return PlanCurve(
        best=each,
        sizes=sizes,
        runs=tuple(runs),
        losses=tuple(None if run is None else _loss(each, run, chosen) for run in runs),
        without_limits=tuple(math.inf if run is None else run.loss for run in free),
        ends=end < high,
    )


def _last_paid(plan: Plan, each: SchemePlan, high: float) -> float:
    """Return the largest size up to `high` that the budget can serve and train on a token: costs rise with the size."""
    paid, unpaid = each.run.parameters, high
    if run_of_size(each.law, each.costs, plan.budget, high) is not None:
        return high
    while unpaid / paid > 1.0 + _EXACT:
        middle = math.sqrt(paid * unpaid)
        if run_of_size(each.law, each.costs, plan.budget, middle) is None:
            unpaid = middle
        else:
            paid = middle
    return paid


def _loss(each: SchemePlan, run: Run, chosen: ChosenLaws) -> Loss:
    loss = each.law.predict(run.parameters, run.tokens)
    return chosen.with_interval(loss, each.scheme, run.parameters, run.tokens)


def plot_plan(path: Path, plan: Plan, chosen: ChosenLaws) -> None:
    """Draw a plan: .png, .pdf or .svg, by the name of the file.

    A curve is dashed where the budget pays for more than the limits allow.

    Args:
        path: the picture.
        plan: what was found.
        chosen: laws that were asked for; those from files know their ranges.

    Raises:
        BitsimError: another kind of picture, or the place can't be written to.
    """
    check_kind(path)
    curves = plan_curves(plan, chosen)
    figure = empty_figure(4.4 + 0.15 * len(curves))
    axes = figure.add_subplot(xscale="log")
    for index, curve in enumerate(curves):
        _draw(axes, curve, *style_of(index))
    low, high = curves[0].sizes[0], max(curve.sizes[-1] for curve in curves)
    if all(curve.ends for curve in curves):
        high *= _PAST_END
    label_sizes(axes, low, high, counted_as(SIZES[each.law.law.counts] for each in plan.schemes))
    axes.set_ylabel("lowest loss for the budget (nats per token)")
    axes.set_ylim(*_heights(curves))
    plain_frame(axes)
    label_marks(axes, [(each.run.parameters, each.loss.value) for each in plan.schemes], [*map(_best, plan.schemes)])
    legend_above(figure, _about(plan, curves))
    save_figure(path, figure)


def _draw(axes: Any, curve: PlanCurve, colour: str, mark: str) -> None:
    found = [(size, loss) for size, loss in zip(curve.sizes, curve.losses, strict=True) if loss is not None]
    sizes = [size for size, _ in found]
    if any(loss.low < loss.high for _, loss in found):
        draw_band(axes, sizes, [loss.low for _, loss in found], [loss.high for _, loss in found], colour)
    if curve.limited:
        axes.plot(curve.sizes, curve.without_limits, color=colour, linestyle=DASHED, linewidth=1.2)
    axes.plot(sizes, [loss.value for _, loss in found], color=colour, linewidth=1.6)
    best = curve.best
    name = literal(f"{best.scheme}: {shortened(best.loss.law)}")
    draw_mark(axes, (best.run.parameters, best.loss.value), name, (colour, mark))


def _heights(curves: list[PlanCurve]) -> tuple[float, float]:
    """Return the ends of the axis of losses."""
    bests = [curve.best.loss for curve in curves]
    low = min(min(curve.without_limits) for curve in curves)
    low = min(low, *(loss.low for curve in curves for loss in curve.losses if loss is not None))
    sides = [curve.losses[0].value for curve in curves if curve.losses[0] is not None]
    sides += [curve.without_limits[-1] for curve in curves if not curve.ends]
    top = max(loss.high for loss in bests)
    high = max(min(max(sides), _HIGHEST * min(loss.value for loss in bests)), top + (top - low) / 2)
    room = _ROOM * (high - low)
    return low - room, high + room


def _best(each: SchemePlan) -> str:
    run = each.run
    return f"{each.scheme}: {each.loss.value:.3f}\n{format_count(run.parameters)} on\n{format_count(run.tokens)} tokens"


def _about(plan: Plan, curves: list[PlanCurve]) -> str:
    """Write the head of the legend: the budget, and what the lines mean."""
    served = f", {format_count(plan.service.tokens)} tokens served" if plan.service.tokens else ""
    where = plan.hardware.name
    if plan.serving_hardware.name != where:
        where = f"training on {where}, serving on {plan.serving_hardware.name}"
    lines = [f"{literal(amount_text(plan, plan.budget.amount))}{served}: {where}; marks: best sizes"]
    notes = []
    if any(loss is not None and loss.low < loss.high for curve in curves for loss in curve.losses):
        notes.append("bands: range of the law")
    if any(curve.limited for curve in curves):
        notes.append("dashed: paid for, but beyond the limits")
    if any(curve.ends for curve in curves):
        notes.append("a curve ends where serving takes the budget")
    return "\n".join([*lines, "; ".join(notes)]).rstrip()
