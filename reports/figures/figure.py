"""What a figure is: numbers that follow from a question, and a drawing that follows from the numbers alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document.question import Question

Row = dict[str, float | str | None]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a report, and of `bitsim plot`.

    Attributes:
        name: what it is called.
        title: what it shows, in a line.
        rows: the numbers, in SI units that the names of the columns tell; all rows have the same columns. Raises
            BitsimError where there are none: there is no empty picture.
        draw: a matplotlib figure of such rows, or of those of some machines alone. What shows a single row has the gid
            "v" and the row's index, so that an SVG can be given a text for it.
        hover: what a row says, in a line.
        of_model: whether the numbers depend on the question's model.
    """

    name: str
    title: str
    rows: Callable[[Question], list[Row]]
    draw: Callable[[Rows], Any]
    hover: Callable[[Mapping[str, Any]], str]
    of_model: bool = True
