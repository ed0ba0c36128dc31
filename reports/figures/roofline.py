"""The roofline: how many products a second a machine reaches by how many it makes of a byte, with a model's operations.

The roofs are what the engine reaches of the machine's peaks; those of one device, or of all where they split each
matrix.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitsim.energy_tables.units import format_si
from bitsim.simulator import Estimate, Scheme
from bitsim.simulator.cost import Machine
from bitsim.simulator.system import System, machine_of

from ..document.question import Question
from ..plot_style import SMALL, empty_figure, literal
from .asked import estimates_of, machine_label, system_columns, system_label
from .figure import Figure, Row, Rows
from .label_dots import Dots, label_dots
from .lines import draw_mark, draw_scheme_key, heading, label_right, log_frame, scheme_style, unit_ticks
from .text import broken

_UNITS = {
    "fp32_flops_per_s": "FP32",
    "fp16_flops_per_s": "FP16",
    "bf16_flops_per_s": "BF16",
    "int8_ops_per_s": "INT8",
    "int4_ops_per_s": "INT4",
    "binary_ops_per_s": "binary",
    "ternary_ops_per_s": "ternary",
}
_ADDITIONS = {"b1.58": "ternary", "b1": "binary"}
_GROUPS = {
    "attention.qkv": "layers",
    "attention.output": "layers",
    "ffn.up": "layers",
    "ffn.down": "layers",
    "attention.scores": "attention",
    "head": "head",
}
_PHASES = {"prefill": "prompt", "decode": "token"}
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)  # of the height of a memory roof, where its speed may stand
_LARGE, _SMALL, _AROUND, _KEY = 3.35, 1.6, 0.6, 0.6  # inches: axes of one machine and of several, about them, the key
_NAMED = 2  # schemes; of more, the texts of dots say what is done alone, and marks say for whom
_ALONG = 2  # memory roofs that have room for their speeds along them
_GREY = "0.35"
_ABOUT = "filled: a new token; hollow: reading the prompt; roofs: what the engine reaches"
_PRODUCTS = "products"


def _rows(question: Question) -> list[Row]:
    return [row for estimate in estimates_of(question) for row in _of(estimate)]


def _of(estimate: Estimate) -> Iterator[Row]:
    system = System(
        scheme=estimate.scheme,
        hardware=estimate.hardware,
        engine=estimate.engine,
        table=estimate.table,
        node=estimate.node,
        devices=estimate.devices,
        split=estimate.split,
    )
    machine = machine_of(system, "mid", system.keeps_on_chip(estimate.model))
    yield _row(estimate, "memory roof", "DRAM") | {"bytes_per_s": 1.0 / machine.memory_s_per_byte}
    yield from _compute_roofs(estimate, machine)
    for operation in estimate.operations:
        if operation.macs > 0 and operation.dram_bytes > 0 and operation.operation in _GROUPS:
            yield _row(estimate, "operation", operation.operation, operation.phase) | {
                "products": operation.macs,
                "dram_bytes": operation.dram_bytes,
                "products_per_byte": operation.macs / operation.dram_bytes,
                "products_per_s": operation.macs / operation.latency_s,
                "bound_by": operation.bound,
            }


def _compute_roofs(estimate: Estimate, machine: Machine) -> Iterator[Row]:
    scheme = estimate.scheme
    floats = (f"{scheme.float_format}_flops_per_s", "fp16_flops_per_s", "fp32_flops_per_s")
    own, others = _name(estimate, scheme.rates, scheme), _name(estimate, floats, None)
    yield _row(estimate, "compute roof", own) | {"products_per_s": 1.0 / machine.linear_s_per_mac}
    if others != own or machine.attention_s_per_mac != machine.linear_s_per_mac:
        yield _row(estimate, "compute roof", others) | {"products_per_s": 1.0 / machine.attention_s_per_mac}


def _name(estimate: Estimate, rates: tuple[str, ...], scheme: Scheme | None) -> str:
    """Say which units make the products, and of what kind they are."""
    unit = _UNITS[next(rate for rate in rates if estimate.hardware.get(rate) is not None)]
    additions = None if scheme is None else _ADDITIONS.get(scheme.name)
    if additions is None:
        return f"{unit} {_PRODUCTS}"
    return f"{additions} additions" + ("" if unit == additions else f" on {unit} units")


def _row(estimate: Estimate, kind: str, name: str, phase: str | None = None) -> Row:
    values: Row = dict.fromkeys(
        ("products", "dram_bytes", "products_per_byte", "products_per_s", "bytes_per_s", "bound_by")
    )
    return {"kind": kind} | system_columns(estimate) | {"name": name, "phase": phase} | values


def _draw(rows: Rows) -> Any:
    machines = list(dict.fromkeys(machine_label(row) for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    columns = min(len(machines), 2)
    lines = math.ceil(len(machines) / columns)
    figure = empty_figure(lines * ((_LARGE if columns == 1 else _SMALL) + _AROUND) + _KEY)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(machines) :]:
        axes.set_axis_off()
    found = []
    for axes, machine in zip(panels.flat, machines, strict=False):
        own = [(index, row) for index, row in enumerate(rows) if machine_label(row) == machine]
        found.append((axes, own, _draw_machine(axes, own, schemes, columns == 1)))
        title = broken(machine, 80 if columns == 1 else 42, 2)
        if columns == 1 and len(found[-1][2]) > _ALONG:
            title += "\n" + broken(f"DRAM: {_speeds(found[-1][2])}", 80, 2)
        heading(axes, literal(title))
    for column in range(columns):
        last = [axes for axes in panels[:, column] if axes.axison][-1]
        last.set_xlabel(f"{_PRODUCTS} for a byte of DRAM", fontsize=SMALL)
    draw_scheme_key(figure, schemes, title=_ABOUT)
    figure.draw_without_rendering()  # the places of the texts below depend on those of the axes
    figure.set_layout_engine("none")
    for axes, own, slopes in found:
        dots = _dots(own, schemes)
        _label_slopes(axes, slopes, schemes, [dot.y for dot in dots], columns == 1)
        if columns == 1:
            label_dots(axes, dots)
    return figure


def _draw_machine(
    axes: Any, rows: Sequence[tuple[int, Mapping[str, Any]]], schemes: list[str], large: bool
) -> dict[float, tuple[int, list[str]]]:
    """Draw a machine's roofs and operations; return its memory roofs: bytes a second, row and schemes of each."""
    kinds = {kind: [each for each in rows if each[1]["kind"] == kind] for kind in ("compute roof", "operation")}
    dots = [row for _, row in kinds["operation"]]
    tops = [row["products_per_s"] for _, row in kinds["compute roof"]]
    slopes = _same(rows, "memory roof", "bytes_per_s")
    ridges = [max(tops) / speed for speed in slopes]
    xs = [*(row["products_per_byte"] for row in dots), *ridges]
    x = min(xs) / 2.5, max(xs) * 3.0
    ys = [*(row["products_per_s"] for row in dots), *tops]
    log_frame(axes, x, (min(ys) / 2.0, max(ys) * 1.8), most=(6, 6) if large else (4, 4))
    unit_ticks(axes.yaxis, "/s")
    axes.set_ylabel(_PRODUCTS if large else "", fontsize=SMALL)
    for speed, (index, names) in slopes.items():
        end = max(row["products_per_s"] for _, row in kinds["compute roof"] if row["scheme"] in names)
        axes.plot(
            [x[0], end / speed],
            [x[0] * speed, end],
            color=_colour(names, schemes),
            linewidth=1.4,
            zorder=2,
            gid=f"v{index}",
        )
    roofs = _same(rows, "compute roof", "products_per_s")
    for rate, (index, names) in roofs.items():
        speed = max(row["bytes_per_s"] for _, row in rows if row["kind"] == "memory roof" and row["scheme"] in names)
        colour = _colour(names, schemes)
        axes.plot([rate / speed, x[1]], [rate, rate], color=colour, linewidth=1.4, zorder=2, gid=f"v{index}")
    named = [(row["products_per_s"], row["name"]) for _, row in kinds["compute roof"]]
    what = {rate: _joined([name for top, name in named if top == rate]) for rate in roofs}
    label_right(
        axes,
        _LARGE if large else _SMALL,
        list(roofs),
        [broken(f"{name}: {_rate(rate)}", 24 if large else 17, 4) for rate, name in what.items()],
        [_colour(names, schemes) for _, names in roofs.values()],
    )
    for index, row in kinds["operation"]:
        number = schemes.index(row["scheme"])
        place = row["products_per_byte"], row["products_per_s"]
        draw_mark(axes, *place, number, f"v{index}", 6.0 if large else 4.5, hollow=row["phase"] == "prefill")
    return slopes


def _joined(names: Sequence[str]) -> str:
    """Name what is made at one rate: units are named once."""
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else ", ".join(name.split(" on ")[0] for name in unique)


def _speeds(slopes: Mapping[float, tuple[int, list[str]]]) -> str:
    return "; ".join(f"{', '.join(names)} {format_si(speed, 'B/s')}" for speed, (_, names) in slopes.items())


def _same(rows: Sequence[tuple[int, Mapping[str, Any]]], kind: str, *columns: str) -> dict[Any, tuple[int, list[str]]]:
    """Put the rows of a kind that are alike together: the first row's place, and all their schemes."""
    found: dict[Any, tuple[int, list[str]]] = {}
    for index, row in rows:
        if row["kind"] == kind:
            key = row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns)
            found.setdefault(key, (index, []))[1].append(row["scheme"])
    return found


def _colour(names: list[str], schemes: list[str]) -> str:
    return scheme_style(schemes.index(names[0]))[0] if len(names) == 1 and len(schemes) > 1 else _GREY


def _label_slopes(
    axes: Any, slopes: Mapping[float, tuple[int, list[str]]], schemes: list[str], dots: Sequence[float], large: bool
) -> None:
    """Write the speeds of the highest and the lowest memory roof along them, one above and one below."""
    window = axes.get_window_extent()
    decades = [math.log10(high / low) for low, high in (axes.get_xlim(), axes.get_ylim())]
    angle = math.degrees(math.atan2(window.height / decades[1], window.width / decades[0]))
    speeds = sorted(slopes, reverse=True)
    if large and len(speeds) > _ALONG:
        return  # they stand above the axes
    for speed in dict.fromkeys((speeds[0], speeds[-1])):
        above = speed == speeds[0]
        who = f"{', '.join(slopes[speed][1])}: " if large and len(slopes) > 1 else ""
        y = _free_place(axes, speed, dots)
        axes.annotate(
            who + format_si(speed, "B/s"), (y / speed, y), rotation=angle, rotation_mode="anchor",
            fontsize=SMALL - 1 + large, xytext=(-3, 3) if above else (4, -4), textcoords="offset points", ha="center",
            va="bottom" if above else "top", color=_colour(slopes[speed][1], schemes),
        )  # fmt: skip


def _free_place(axes: Any, speed: float, dots: Sequence[float]) -> float:
    """Return the height of the place on a memory roof, among some, that is furthest from the dots' heights."""
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    top: float = max(line.get_ydata()[-1] for line in axes.lines if len(line.get_xdata()) == 2)
    low: float = max(bottom, left * speed)
    places: list[float] = [low * (top / low) ** share for share in _SHARES]
    return max(places, key=lambda place: min((abs(math.log(place / dot)) for dot in dots), default=0.0))


def _dots(rows: Sequence[tuple[int, Mapping[str, Any]]], schemes: list[str]) -> list[Dots]:
    return [
        Dots(
            row["products_per_byte"],
            row["products_per_s"],
            f"{row['scheme']}, {_PHASES[row['phase']]}" if len(schemes) <= _NAMED else "",
            _GROUPS[row["name"]],
            scheme_style(schemes.index(row["scheme"]))[0],
        )
        for _, row in rows
        if row["kind"] == "operation"
    ]


def _rate(rate: float) -> str:
    return format_si(rate, "/s").replace(" /s", "/s").replace(" ", "\N{NO-BREAK SPACE}")


def _hover(row: Mapping[str, Any]) -> str:
    if row["kind"] == "memory roof":
        return f"{system_label(row)}: DRAM, {format_si(row['bytes_per_s'], 'B/s')}"
    if row["kind"] == "compute roof":
        return f"{system_label(row)}: {row['name']}, {_rate(row['products_per_s'])}"
    place = f"{_rate(row['products_per_s'])}, {row['products_per_byte']:.3g} for a byte"
    return f"{system_label(row)}, {row['phase']}, {row['name']}: {place}, bound by {row['bound_by']}"


ROOFLINE = Figure("roofline", "The machine's roofs and the model's operations", _rows, _draw, _hover)
