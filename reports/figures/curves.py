"""The loss on the way: training and held-out loss of each run of a ladder over the tokens."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.records import read_text
from bitsim.energy_tables.units import format_count
from bitsim.training.records import CURVE

from ..document.question import Question
from ..plot_style import SMALL, empty_figure, literal
from .figure import Figure, Row, Rows
from .lines import draw_mark, draw_scheme_key, label_right, log_frame, scheme_style, span
from .text import broken

_LOSSES = ("train_loss_nats_per_token", "held_out_loss_nats_per_token")
_MOST = 200  # points of training loss that a run's curve is drawn with
_NAME = 24  # characters of a line
_AROUND = 1.1  # inches, above and below the axes
_LINE = 0.16  # inches, of a run's name


def _rows(question: Question) -> list[Row]:
    if question.runs is None:
        raise BitsimError("--runs: expected a runs.csv beside the folders of its runs, got none")
    from ..document.sections.runs import read_rows

    rows = [row for run in read_rows(question.runs) for row in _run(question.runs.parent, run)]
    if not rows:
        raise BitsimError(f"{question.runs}: expected a {CURVE} in the folder of a run beside it, found none")
    return rows


def _run(folder: Path, run: Mapping[str, str]) -> list[Row]:
    name = run.get("run", "")
    path = folder / name / CURVE
    if not name or Path(name).name != name or not path.is_file():
        return []
    points = [row for row in csv.DictReader(io.StringIO(read_text(path), newline="")) if row]
    found: list[Row] = [
        {
            "run": name,
            "scheme": run["scheme"],
            "non_embedding_parameters": float(run["non_embedding"]),
            "tokens": _number(path, row, "tokens"),
            "train_loss_nats_per_token": _number(path, row, "loss"),
            "held_out_loss_nats_per_token": _number(path, row, "held_out_loss"),
        }
        for row in points
    ]
    found = [row for row in found if row["tokens"]]
    step = math.ceil(len(found) / _MOST)
    return [
        row
        for index, row in enumerate(found)
        if index % step == 0 or row["held_out_loss_nats_per_token"] is not None or index == len(found) - 1
    ]


def _number(path: Path, row: Mapping[str, str | None], column: str) -> float | None:
    text = row.get(column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise BitsimError(f"{path}: {column}: expected a number, got '{text[:40]}'") from None
    return value if math.isfinite(value) else None


def _draw(rows: Rows) -> Any:
    runs = list(dict.fromkeys(row["run"] for row in rows))
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    figure = empty_figure(max(4.0, len(runs) * _LINE + 1.1))
    axes = figure.add_subplot()
    losses = [row[name] for row in rows for name in _LOSSES if row[name]]
    if not losses:
        raise BitsimError("curves: expected losses, got none")
    log_frame(axes, span([row["tokens"] for row in rows], 0.02), span(losses, 0.04))
    ends, texts, colours, starts = [], [], [], []
    for run in runs:
        own = [(index, row) for index, row in enumerate(rows) if row["run"] == run]
        number = schemes.index(own[0][1]["scheme"])
        colour, _, line = scheme_style(number)
        for name, width, alpha in zip(_LOSSES, (0.7, 1.5), (0.5, 1.0), strict=True):
            points = [(row["tokens"], row[name]) for _, row in own if row[name]]
            if points:
                tokens, values = zip(*points, strict=True)
                axes.plot(tokens, values, color=colour, linewidth=width, alpha=alpha, linestyle=line)
        held_out = [(index, row) for index, row in own if row[_LOSSES[1]]]
        for index, row in held_out:
            draw_mark(axes, row["tokens"], row[_LOSSES[1]], number, f"v{index}", 3.8)
        last = (held_out or own)[-1][1]
        starts.append(last["tokens"])
        ends.append(last[_LOSSES[1]] or last[_LOSSES[0]] or losses[-1])
        texts.append(literal(_label(last, own[0][1])))
        colours.append(colour)
    axes.set_xlabel("training tokens", fontsize=SMALL)
    axes.set_ylabel("loss (nats per token)", fontsize=SMALL)
    label_right(axes, figure.get_figheight() - _AROUND, ends, texts, colours, starts)
    draw_scheme_key(figure, schemes, title="thin: training loss; thick, with marks: held-out loss")
    return figure


def _label(last: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    loss = last[_LOSSES[1]] or last[_LOSSES[0]]
    size = format_count(first["non_embedding_parameters"])
    return (
        broken(f"{first['scheme']} {size}: {loss:.3f}", _NAME, 2)
        if loss
        else broken(f"{first['scheme']} {size}", _NAME)
    )


def _hover(row: Mapping[str, Any]) -> str:
    said = [
        f"{what} {row[name]:.4f}" for what, name in zip(("training", "held-out"), _LOSSES, strict=True) if row[name]
    ]
    return f"{row['run']}, {format_count(row['tokens'])} tokens: {' and '.join(said)} nats per token"


CURVES = Figure("curves", "Training and held-out loss of a ladder's runs", _rows, _draw, _hover, of_model=False)
