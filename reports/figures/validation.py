"""Published numbers beside ours, all rows of bitsim validate."""

from collections.abc import Mapping
from typing import Any

from ..document.question import Question
from ..plot_style import COLOURS, SMALL, empty_figure
from .figure import Figure, Row, Rows
from .lines import log_frame
from .text import broken

_LINE = 0.2  # inches, of a group
_NARROWEST = 1.3  # times: the axis reaches at least so far to both sides


def _rows(question: Question) -> list[Row]:
    from bitsim.simulator.validation import validate

    del question  # the same for all
    return [
        {
            "group": check.group,
            "id": check.id,
            "what": check.what,
            "published": check.published,
            "predicted": check.ours,
            "unit": check.unit,
            "predicted_over_published": check.ours / check.published,
            "seen_by_the_fit": "yes" if check.fitted else "no",
            "agrees": {True: "yes", False: "no", None: None}[check.within],
            "source": " ".join(check.sources),
        }
        for check in validate()
    ]


def _draw(rows: Rows) -> Any:
    from matplotlib.lines import Line2D

    groups = list(dict.fromkeys(row["group"] for row in rows))
    figure = empty_figure(len(groups) * _LINE + 1.2)
    axes = figure.add_subplot()
    axes.axvline(1.0, color="0.4", linewidth=0.9, zorder=1)
    for index, row in enumerate(rows):
        seen = row["seen_by_the_fit"] == "yes"
        place = groups.index(row["group"]) + (0.17 if seen else -0.17)
        colour = COLOURS[1] if seen else COLOURS[0]
        mark = Line2D(
            [row["predicted_over_published"]], [place], linestyle="none", marker="D" if seen else "o", markersize=4.2,
            markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.9, gid=f"v{index}", zorder=3,
        )  # fmt: skip
        mark.set_in_layout(False)  # hundreds lie inside the axes, and need no room of their own
        axes.add_artist(mark)
    far = max(_NARROWEST, *(max(ratio, 1.0 / ratio) for ratio in (row["predicted_over_published"] for row in rows)))
    log_frame(axes, (1.0 / (far * 1.05), far * 1.05), None)
    counts = [sum(row["group"] == group for row in rows) for group in groups]
    axes.set_yticks(range(len(groups)), [_label(group, count) for group, count in zip(groups, counts, strict=True)])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("predicted / published", fontsize=SMALL)
    _draw_key(figure)
    return figure


def _label(group: str, count: int) -> str:
    return f"{broken(group, 60, lines=1)}, {count}"


def _draw_key(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=mark, markersize=5, mfc="none", mec=colour, label=name)
        for mark, colour, name in (("o", COLOURS[0], "not seen by the fit"), ("D", COLOURS[1], "seen by the fit"))
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=SMALL, frameon=False)


def _hover(row: Mapping[str, Any]) -> str:
    numbers = f"{row['predicted']:.4g}, published {row['published']:.4g} {row['unit']}"
    return f"{row['what']}: predicted {numbers} ({row['predicted_over_published'] - 1:+.1%}; {row['source']})"


VALIDATION = Figure("validation", "Published numbers beside the predicted ones", _rows, _draw, _hover, of_model=False)
