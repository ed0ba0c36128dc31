"""A plan on the screen, as JSON and as rows."""

from typing import Any

from bitsim.energy_tables import Interval
from bitsim.energy_tables.units import SECONDS_PER_HOUR, format_count, format_si
from bitsim.simulator.plan import BUDGETS, Plan, Run, SchemePlan

from .text import console, print_json, print_rows

_DAY = 24 * SECONDS_PER_HOUR


def print_plan(plan: Plan, form: str) -> None:
    """Print a plan as a table, JSON, CSV or Markdown."""
    if form == "json":
        print_json(_payload(plan))
    elif form == "table":
        _print_screen(plan)
    else:
        print_rows([_flat(plan, each) for each in plan.schemes], form)


def _print_screen(plan: Plan) -> None:
    columns = {each.scheme: _lines(plan, each) for each in plan.schemes}
    first = next(iter(columns.values()))
    rows = [{"": name} | {scheme: lines[name] for scheme, lines in columns.items()} for name in first]
    served = f", {format_count(plan.service.tokens)} tokens served" if plan.service.tokens else ""
    where = plan.hardware.name
    if plan.serving_hardware.name != where:
        where = f"training on {where}, serving on {plan.serving_hardware.name}"
    print_rows(rows, "table", title=f"Lowest loss for {amount_text(plan, plan.budget.amount)}{served}: {where}")
    screen = console()
    for line in (_verdict(plan), *(f"Note: {note}." for note in plan.notes)):
        screen.print(line)
    screen.print("Sources: " + ", ".join(plan.sources) + "  (bitsim cite KEY)")


def _lines(plan: Plan, each: SchemePlan) -> dict[str, str]:
    """Write one column of the screen."""
    run, served = each.run, plan.service.tokens
    lines = {
        "size": format_count(run.parameters),
        "training tokens": format_count(run.tokens),
        "tokens per parameter": _number(each.tokens_per_parameter),
        "loss, nats per token": f"{each.loss.value:.3f}  ({each.loss.low:.3f} - {each.loss.high:.3f})",
        "loss law": each.loss.law,
        "what binds": ", ".join(each.binds),
        "training compute": f"{run.flops:.3g} FLOP",
        "training energy": _energy(each.training_j),
        "training rent": _money(each.training_usd),
        "training time": "{1} days  ({0} - {2})".format(*map(_number, each.wall_s.scaled(1 / _DAY))),
        "  on devices": f"{each.devices:,}",
    }
    if served:
        lines |= {
            "serving energy": _energy(each.serving_j),
            "serving rent": _money(each.serving_usd),
            "serving's share": f"{run.serving / run.total:.0%} of {amount_text(plan, run.total)}",
            "same loss, cheapest to train": _short(plan, each.train_first),
            "  size moved by serving": f"{each.size_moved:.2f}x, saves {each.saved:.0%}",
        }
    if len(plan.schemes) > 1:
        goal = plan.schemes[0]
        lines[f"loss of {goal.scheme}, {goal.run.loss:.3f}, for"] = (
            "no run reaches it" if each.same_loss is None else _short(plan, each.same_loss)
        )
    return lines


def _verdict(plan: Plan) -> str:
    best = plan.best
    others = [each for each in plan.schemes if each is not best]
    line = (
        f"Best: {best.scheme}, {format_count(best.run.parameters)} parameters on {format_count(best.run.tokens)} tokens"
    )
    if others:
        behind = ", ".join(f"{each.scheme} {each.run.loss - best.run.loss:.3f} nats behind" for each in others)
        widest = max(plan.schemes, key=lambda each: each.loss.high - each.loss.low).loss
        width = (widest.high - widest.low) / 2
        line += f"; {behind} (the losses are known to about {width:.2f})"
    return line + "."


def _short(plan: Plan, run: Run) -> str:
    return f"{format_count(run.parameters)} on {format_count(run.tokens)}: {amount_text(plan, run.total)}"


def amount_text(plan: Plan, value: float) -> str:
    """Write an amount in the unit of the budget."""
    if plan.budget.kind == "flops":
        return f"{value:.3g} FLOP"
    return format_si(value / SECONDS_PER_HOUR, "Wh") if plan.budget.kind == "energy" else _dollars(value)


def _energy(joules: Interval) -> str:
    low, mid, high = (format_si(value / SECONDS_PER_HOUR, "Wh") for value in joules)
    return f"{mid}  ({low} - {high})"


def _money(usd: Interval | None) -> str:
    if usd is None:
        return "unknown"
    low, mid, high = (_dollars(value) for value in usd)
    return f"{mid}  ({low} - {high})"


def _dollars(value: float) -> str:
    return f"${format_count(value)}" if value >= 10_000 else f"${_number(value)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _payload(plan: Plan) -> dict[str, Any]:
    work = plan.service.workload
    return {
        "budget": {"kind": plan.budget.kind, "amount": plan.budget.amount, "unit": BUDGETS[plan.budget.kind]},
        "hardware": plan.hardware.name,
        "serving_hardware": plan.serving_hardware.name,
        "served_tokens": plan.service.tokens,
        "workload": {"batch": work.batch, "prompt_tokens": work.prompt_tokens, "new_tokens": work.new_tokens},
        "limits": {"tokens": plan.limits.tokens, "parameters": plan.limits.parameters},
        "best": plan.best.scheme,
        "schemes": [_scheme_payload(plan, each) for each in plan.schemes],
        "notes": list(plan.notes),
        "sources": list(plan.sources),
    }


_RANGES = ("training_j", "training_usd", "device_s", "wall_s", "serving_j", "serving_usd")


def _scheme_payload(plan: Plan, each: SchemePlan) -> dict[str, Any]:
    found: dict[str, Any] = {
        "scheme": each.scheme,
        "budget": plan.budget.kind,
        **_run_payload(each.run),
        "tokens_per_parameter": each.tokens_per_parameter,
        "flops": each.run.flops,
        "law": each.loss.law,
        "loss_range": {"low": each.loss.low, "mid": each.loss.value, "high": each.loss.high},
        "binds": list(each.binds),
        "devices": each.devices,
        "serving_devices": each.serving_devices if plan.service.tokens else None,
    }
    for name in _RANGES:
        value: Interval | None = getattr(each, name)
        found[name] = None if value is None else value.mid
        found[f"{name}_range"] = None if value is None else {"low": value.low, "mid": value.mid, "high": value.high}
    served = plan.service.tokens > 0
    return found | {
        "train_first": _run_payload(each.train_first) if served else None,
        "size_moved": each.size_moved if served else None,
        "saved": each.saved if served else None,
        "same_loss": None if each.same_loss is None else _run_payload(each.same_loss),
    }


def _run_payload(run: Run) -> dict[str, float]:
    return {
        "parameters": run.parameters,
        "tokens": run.tokens,
        "loss": run.loss,
        "training_cost": run.training,
        "serving_cost": run.serving,
        "total_cost": run.total,
    }


def _flat(plan: Plan, each: SchemePlan) -> dict[str, Any]:
    """One row: the single values, `binds` in words, and the parts of ranges and of other runs, joined by a dot."""
    cells = _scheme_payload(plan, each) | {"binds": " ".join(each.binds)}
    row: dict[str, Any] = {}
    for name, value in cells.items():
        if name in ("train_first", "same_loss"):
            row |= {f"{name}.{key}": (value or {}).get(key) for key in ("parameters", "tokens", "total_cost")}
        elif name == "loss_range":
            row |= {"loss_low": value["low"], "loss_high": value["high"]}
        elif not isinstance(value, dict) and not name.endswith("_range"):
            row[name] = value
    return row
