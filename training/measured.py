"""What runs measured, as arrays that a law can be fitted to; read from runs.csv and checked."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown, suggestion
from bitsim.energy_tables.records import Record, read_text
from bitsim.energy_tables.tables import SIZE_COUNTS

Array = NDArray[np.float64]

# Runs that differ in one of these have losses that can't be compared.
_SAME = {"data_hash": "data", "tokenizer_hash": "tokenizers", "data": "data", "vocab": "vocabularies"}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A metric at some sizes.

    Attributes:
        parameters: size of each point's model. Shape: (points,).
        values: the metric, above zero. Shape: (points,).
        tokens: training tokens, where they are known. Shape: (points,).
        schemes: scheme of each point.
        metric: what was measured, with its unit where it has one: "loss", "energy_j".
        warnings: what is odd about the points as a whole.
        counts: what counts as the size: all "parameters", or "non_embedding" ones alone.
    """

    parameters: Array
    values: Array
    tokens: Array | None
    schemes: tuple[str, ...]
    metric: str = "loss"
    warnings: tuple[str, ...] = ()
    counts: str = "parameters"

    @classmethod
    def of(
        cls,
        parameters: ArrayLike,
        values: ArrayLike,
        tokens: ArrayLike | None = None,
        schemes: str | Sequence[str] = "fp16",
        metric: str = "loss",
    ) -> Self:
        """Make points from sequences.

        Raises:
            BitsimError: sequences of unequal length, or a number that is not finite and above zero.
        """
        columns = {"parameters": parameters, metric: values} | ({} if tokens is None else {"tokens": tokens})
        arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
        points = arrays["parameters"].shape
        for name, array in arrays.items():
            if array.ndim != 1 or array.shape != points:
                raise BitsimError(f"{name}: expected one number for each of {points[0] if points else 0} points")
            bad = array[~(np.isfinite(array) & (array > 0))]
            if len(bad):
                raise BitsimError(f"{name}: expected finite numbers above 0, got {bad[0]:g}")
        named = (schemes,) * points[0] if isinstance(schemes, str) else tuple(schemes)
        if len(named) != points[0]:
            raise BitsimError(f"schemes: expected one for each of {points[0]} points, got {len(named)}")
        return cls(arrays["parameters"], arrays[metric], arrays.get("tokens"), named, metric)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The schemes, each once, in the order of their first points."""
        return tuple(dict.fromkeys(self.schemes))

    def where(self, scheme: str) -> NDArray[np.bool_]:
        """Tell which points are of a scheme."""
        return np.array([name == scheme for name in self.schemes], dtype=np.bool_)

    def chosen(self, keep: NDArray[np.bool_]) -> "Measured":
        """Return some of the points."""
        return Measured(
            self.parameters[keep],
            self.values[keep],
            None if self.tokens is None else self.tokens[keep],
            tuple(name for name, kept in zip(self.schemes, keep, strict=True) if kept),
            self.metric,
            self.warnings,
            self.counts,
        )


def read_runs(path: Path, metric: str = "held_out_loss", size: str = "non_embedding") -> Measured:
    """Read the runs of a ladder.

    Args:
        path: a CSV with the columns of runs.csv, of which `scheme`, `tokens`, `seed`, the size and the metric are read.
        metric: any column of numbers above zero: held_out_loss, bits_per_byte, energy_j, peak_memory_bytes, ...
        size: "non_embedding" (as Kaplan counts) or "parameters" (as Hoffmann does).

    Raises:
        BitsimError: no such file, not a CSV, a column is missing, a cell is no number above zero, a run comes twice, or
            all runs are of one size. The message names file, line and field.
    """
    if size not in SIZE_COUNTS:
        raise BitsimError(f"size: expected one of {', '.join(SIZE_COUNTS)}, got '{shown(size)}'")
    records = _records(path, ("scheme", size, "tokens", "seed", metric))
    lines: dict[tuple[str, float, float, str], int] = {}
    rows = []
    for record in records:
        row = record.text("scheme"), _above_zero(record, size), _above_zero(record, "tokens"), record.text("seed")
        if row in lines:
            raise BitsimError(
                f"{path}:{record.line}: expected each run once, got scheme {row[0]}, {row[1]:,.0f} parameters,"
                f" {row[2]:,.0f} tokens, seed {row[3]} as in line {lines[row]}"
            )
        lines[row] = record.line
        rows.append((*row[:3], _above_zero(record, metric)))
    schemes, sizes, tokens, values = zip(*rows, strict=True)
    if len(set(sizes)) == 1:
        raise BitsimError(f"{path}: expected runs of several sizes, got {len(rows)} of {sizes[0]:,.0f} {size}")
    points = Measured.of(sizes, values, tokens, schemes, metric)
    return replace(points, warnings=tuple(_differences(path, records)), counts=size)


def _records(path: Path, columns: Sequence[str]) -> list[Record]:
    """Read the lines of a CSV that has at least the columns."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    records = []
    try:
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise BitsimError(
                f"{path}:1: expected the columns {', '.join(columns)}; missing {', '.join(missing)}"
                f"{suggestion(missing[0], header)}"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise BitsimError(f"{path}:{reader.line_num}: expected {len(header)} cells, got {len(cells)}")
            records.append(Record(path, reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise BitsimError(f"{path}:{reader.line_num}: expected CSV, got a damaged line ({error})") from None
    if not records:
        raise BitsimError(f"{path}: expected a line for each run, got none")
    return records


def _above_zero(record: Record, field: str) -> float:
    try:
        number = record.number(field)
    except BitsimError:
        number = 0.0
    if number <= 0:
        raise record.error(field, "a finite number above 0")
    return number


def _differences(path: Path, records: Sequence[Record]) -> list[str]:
    found = []
    for column, what in _SAME.items():
        cells: Mapping[str, None] = dict.fromkeys(str(record.cells.get(column, "")) for record in records)
        if len(cells) > 1:
            found.append(f"{path}: runs of different {what} (column {column}): their losses can't be compared")
    return found
