"""Bars made of parts, grouped by machine: each machine has its own scale, each part a colour and a hatch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plot_style import COLOURS, SMALL, literal
from .asked import machine_label
from .figure import Rows
from .text import cut

TOTAL = "total"  # the part that is the bar as a whole: its number stands beside the bar
_HATCHES = ("", "////", "..", "xxxx", "\\\\\\\\", "----", "||||")
_FILLS = (*COLOURS, "#999999")
_FEW, _THICKER = 4, 1.5  # bars that are thicker where there are no more
_BAR, _HEAD, _GAP = 0.2, 0.22, 0.10  # inches: a bar and the room about it, a machine's name, between machines
_THICK = 0.8  # of the room of a bar
_SEEN = 0.002  # of the longest bar: what is shorter can't be seen
_HEADING = 80  # characters of a machine's name


@dataclass(frozen=True, slots=True)
class Stacks:
    """How rows become bars.

    Attributes:
        parts: names of the parts, from left to right; each row's column "part" is one of them, or `TOTAL`.
        value: column of the numbers, which are zero or more.
        number: writes what stands beside a bar, from the row of its total.
    """

    parts: tuple[str, ...]
    value: str
    number: Callable[[Mapping[str, Any]], str]


def height_of(rows: Rows) -> float:
    """Return the height (inches) that the bars of rows need."""
    machines = _machines(rows)
    bars = _bars(rows)
    return bars * _room(rows) + len(machines) * (_HEAD + _GAP)


def draw_stacks(
    axes: Any, rows: Rows, stacks: Stacks, chosen: Callable[[Mapping[str, Any]], bool], room: float
) -> None:
    """Draw a bar for each scheme on each machine.

    Args:
        axes: to be drawn into; it has no numbers, as each machine has a scale of its own.
        rows: with the columns of `asked.system_columns`, "part" and the value. All of them: their places give the gids.
        stacks: what they mean.
        chosen: which rows are drawn here.
        room: what the numbers beside the bars take, in lengths of the longest bar.
    """
    at, places, names, bar_room = 0.0, [], [], _room(rows)
    for machine in _machines(rows):
        name = axes.text(
            0.0, at + _HEAD / 2, literal(cut(machine, _HEADING)), fontsize=SMALL, va="center", fontweight="bold",
            gid="machine",
        )  # fmt: skip
        name.set_in_layout(False)  # it may be longer than the axes are wide
        at += _HEAD
        here = [(index, row) for index, row in enumerate(rows) if machine_label(row) == machine and chosen(row)]
        longest = max((row[stacks.value] for _, row in here if row["part"] == TOTAL), default=0.0) or 1.0
        for scheme in _schemes(rows, machine):
            bar = [(index, row) for index, row in here if row["scheme"] == scheme]
            _draw_bar(axes, bar, stacks, longest, at + bar_room / 2, bar_room * _THICK)
            places.append(at + bar_room / 2)
            names.append(literal(scheme))
            at += bar_room
        at += _GAP
    axes.set_yticks(places, names, fontsize=SMALL)
    axes.set_ylim(at, 0.0)
    axes.set_xlim(0.0, 1.0 + room)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.patch.set_visible(False)  # a machine's name may go on below it


def _draw_bar(
    axes: Any, bar: Sequence[tuple[int, Mapping[str, Any]]], stacks: Stacks, longest: float, place: float, thick: float
) -> None:
    by_part = {row["part"]: (index, row) for index, row in bar}
    left = 0.0
    for number, part in enumerate(stacks.parts):
        index, row = by_part.get(part, (0, {stacks.value: 0.0}))
        width = row[stacks.value] / longest
        if width > 0:
            axes.barh(place, width, thick, left, gid=f"v{index}", **_style(number))
            left += width
    if TOTAL in by_part:
        index, row = by_part[TOTAL]
        axes.text(left + 0.015, place, stacks.number(row), fontsize=SMALL, va="center", gid=f"v{index}")


def draw_key(figure: Any, rows: Rows, stacks: Stacks, columns: int = 3) -> None:
    """Say which colour and hatch is which part, for the parts that can be seen."""
    from matplotlib.patches import Patch

    longest = dict.fromkeys(_machines(rows), 0.0)
    for row in rows:
        longest[machine_label(row)] = max(longest[machine_label(row)], row[stacks.value])
    there = {row["part"] for row in rows if row[stacks.value] > _SEEN * longest[machine_label(row)]}
    handles = [Patch(label=part, **_style(number)) for number, part in enumerate(stacks.parts) if part in there]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, fontsize=SMALL, frameon=False, handlelength=2.2,
        handleheight=1.1, columnspacing=1.4,
    )  # fmt: skip


def _bars(rows: Rows) -> int:
    return sum(len(_schemes(rows, machine)) for machine in _machines(rows))


def _room(rows: Rows) -> float:
    """Return the room of a bar (inches)."""
    return _BAR * (_THICKER if _bars(rows) <= _FEW else 1.0)


def _style(number: int) -> dict[str, Any]:
    return {"facecolor": _FILLS[number], "hatch": _HATCHES[number], "edgecolor": "white", "linewidth": 0.4}


def _machines(rows: Rows) -> list[str]:
    return list(dict.fromkeys(machine_label(row) for row in rows))


def _schemes(rows: Rows, machine: str) -> list[str]:
    return list(dict.fromkeys(row["scheme"] for row in rows if machine_label(row) == machine))
