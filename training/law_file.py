"""Fitted laws as files: what a fit found, from what, with its resamples, so that it predicts as it did."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError, Interval
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.records import read_text
from bitsim.energy_tables.tables import SIZE_COUNTS
from bitsim.runtime.whole import whole_file

from .fit import BOOTSTRAPS
from .fitted import FORMS, Fit
from .huber import Array
from .measured import Measured
from .records import versions

FORMAT, VERSION = "bitsim law", 1
UNITS = {
    "held_out_loss": "nats per token",
    "train_loss": "nats per token",
    "loss": "nats per token",
    "bits_per_byte": "bits per byte",
    "energy_j": "J",
    "peak_memory_bytes": "bytes",
    "seconds": "s",
    "tokens_per_s": "tokens/s",
}  # of the columns of runs.csv that laws are fitted to
_ORIGIN = ("data", "data_hash", "tokenizer_hash", "vocab")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a law's runs come from.

    Attributes:
        runs: name of the file of runs.
        same: cells of the columns data, data_hash, tokenizer_hash and vocab, each once; empty where there are none.
        versions: of bitsim and of what it fitted with.
    """

    runs: str
    same: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, runs: Path) -> "Origin":
        """Look at a file of runs that `read_runs` has read.

        Raises:
            BitsimError: it can't be read.
        """
        rows = list(csv.DictReader(io.StringIO(read_text(runs), newline="")))
        same = {name: tuple(dict.fromkeys(row[name] for row in rows if row.get(name))) for name in _ORIGIN}
        return cls(runs.name, same, versions())

    @property
    def measured_on(self) -> str:
        """The data and the tokenizer in words, as far as they are known."""
        data, tokenizer, vocab = (", ".join(self.same[name]) for name in ("data", "tokenizer_hash", "vocab"))
        known = f"tokenizer {tokenizer[:12]}" if tokenizer else ""
        return ", ".join(part for part in (data, known, f"{vocab} words" if vocab else "") if part) or "unknown data"


@dataclass(frozen=True, slots=True, eq=False)
class SavedLaw:
    """A fit and where its runs come from."""

    fit: Fit
    origin: Origin


def write_law(path: Path, fit: Fit, origin: Origin) -> None:
    """Write a law as JSON, whole or not at all.

    Raises:
        BitsimError: the place can't be written to.
    """
    points = fit.points
    document = {
        "format": FORMAT,
        "version": VERSION,
        "form": fit.form,
        "metric": points.metric,
        "unit": UNITS.get(points.metric, ""),
        "size": points.counts,
        "summary": summary(fit),
        "shared": list(fit.shared),
        "level": fit.level,
        "bootstrap": fit.bootstrap,
        "delta": fit.delta if math.isfinite(fit.delta) else None,
        "objective": fit.objective,
        "starts": list(fit.starts),
        "warnings": list(fit.warnings),
        "runs": origin.runs,
        "same": {name: list(cells) for name, cells in origin.same.items()},
        "versions": dict(origin.versions),
        "points": {
            "scheme": list(points.schemes),
            "parameters": points.parameters.tolist(),
            "tokens": None if points.tokens is None else points.tokens.tolist(),
            "value": points.values.tolist(),
            "warnings": list(points.warnings),
        },
        "names": [list(name) for name in fit.names],
        "unknowns": fit.unknowns.tolist(),  # logarithms of e, a and b: what is fitted, so nothing is rounded
        "resampled": None if fit.resampled is None else fit.resampled.tolist(),
    }
    with whole_file(path) as part:
        part.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


def summary(fit: Fit) -> dict[str, dict[str, Any]]:
    """Return each scheme's coefficients, as low, value and high, and the ranges of its runs; None for no limit."""
    found = {}
    for scheme in fit.points.kinds:
        at = fit.points.where(scheme)
        tokens = fit.points.tokens
        found[scheme] = {
            "runs": int(at.sum()),
            "parameters": _range(fit.points.parameters[at]),
            "tokens": None if tokens is None else _range(tokens[at]),
            "coefficients": {
                name: _limits(fit.coefficient(name, scheme), fit.resampled is not None) for name in FORMS[fit.form]
            },
        }
    return found


def read_law(path: Path) -> SavedLaw:
    """Read a law.

    Raises:
        BitsimError: no such file, or a field that a law can't have; file and field are named.
    """
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BitsimError(f"{path}: expected a law in JSON ({error})") from None
    fields = _Fields(path, document)
    fields.choice("format", (FORMAT,))
    if fields.get("version") != VERSION:
        raise fields.error("version", f"{VERSION}")
    form = fields.choice("form", tuple(FORMS))
    shared = fields.texts("shared")
    if not set(shared) <= set(FORMS[form]):
        raise fields.error("shared", f"some of {', '.join(FORMS[form])}")
    points = _points(fields, form)
    names = _names(fields, form, shared, points)
    starts = fields.array("starts", (2,))
    fit = Fit(
        form=form,
        points=points,
        shared=shared,
        unknowns=fields.array("unknowns", (len(names),)),
        names=names,
        delta=math.inf if fields.get("delta") is None else fields.above_zero("delta"),
        objective=float(fields.array("objective", ())),
        starts=(int(starts[0]), int(starts[1])),
        resampled=None if fields.get("resampled") is None else fields.array("resampled", (None, len(names))),
        bootstrap=fields.choice("bootstrap", BOOTSTRAPS),
        level=fields.above_zero("level", below=1.0),
        warnings=fields.texts("warnings"),
    )
    _check_summary(fields, fit)
    same, made_by = fields.inside("same"), fields.inside("versions")
    return SavedLaw(
        fit,
        Origin(
            runs=fields.text("runs"),
            same={name: same.texts(name) for name in _ORIGIN},
            versions={name: made_by.text(name) for name in made_by.values},
        ),
    )


def _points(fields: "_Fields", form: str) -> Measured:
    inner = fields.inside("points")
    parameters = inner.array("parameters", (None,))
    shape = (len(parameters),)
    schemes = inner.texts("scheme")
    if len(schemes) != shape[0]:
        raise inner.error("scheme", f"one for each of {shape[0]} runs")
    tokens = None if inner.get("tokens") is None and form != "chinchilla" else inner.array("tokens", shape)
    values = inner.array("value", shape)
    for name, column in {"parameters": parameters, "tokens": tokens, "value": values}.items():
        if column is not None and not np.all(column > 0):
            raise inner.error(name, "numbers above 0")
    counts = fields.choice("size", SIZE_COUNTS)
    return Measured(parameters, values, tokens, schemes, fields.text("metric"), inner.texts("warnings"), counts)


def _names(fields: "_Fields", form: str, shared: tuple[str, ...], points: Measured) -> tuple[tuple[str, str], ...]:
    expected = [(name, kind) for name in FORMS[form] for kind in ([""] if name in shared else points.kinds)]
    found = fields.get("names")
    pairs = [tuple(pair) if isinstance(pair, list) else pair for pair in found] if isinstance(found, list) else []
    if pairs != expected:
        raise fields.error("names", f"the {len(expected)} unknowns of form {form}, as pairs of coefficient and scheme")
    return tuple(expected)


def _check_summary(fields: "_Fields", fit: Fit) -> None:
    """Refuse a file whose coefficients were changed in the summary alone, where it would have no effect."""
    inner = fields.inside("summary")
    for scheme in fit.points.kinds:
        coefficients = inner.inside(scheme).inside("coefficients")
        for name in FORMS[fit.form]:
            with np.errstate(over="ignore"):
                held = fit.coefficient(name, scheme).mid
            shown_as = coefficients.get(name)
            value = shown_as[1] if isinstance(shown_as, list) and len(shown_as) == 3 else None
            if not isinstance(value, (int, float)) or not math.isclose(value, held, rel_tol=1e-6, abs_tol=1e-300):
                raise coefficients.error(name, f"low, {held:.6g} and high, as the unknowns say")


def _limits(interval: Interval, known: bool) -> list[float | None]:
    low, value, high = interval
    return [low if known and math.isfinite(low) else None, value, high if known and math.isfinite(high) else None]


def _range(column: Array) -> list[float]:
    return [float(column.min()), float(column.max())]


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a JSON object, read one by one, with the place of the object in the file."""

    path: Path
    values: Any
    place: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            where = f"{self.place.rstrip('.')}: " if self.place else ""
            raise BitsimError(f"{self.path}: {where}expected an object of a law, got '{shown(self.values)}'")

    def error(self, field: str, expected: str) -> BitsimError:
        got = self.values.get(field)
        what = "nothing" if got is None else f"'{shown(got)}'"
        return BitsimError(f"{self.path}: {self.place}{field}: expected {expected}, got {what}")

    def get(self, field: str) -> Any:
        return self.values.get(field)

    def inside(self, field: str) -> "_Fields":
        return _Fields(self.path, self.values.get(field), f"{self.place}{field}.")

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if not isinstance(value, str) or not value:
            raise self.error(field, "some text")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.values.get(field)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(field, "a list of texts")
        return tuple(value)

    def choice(self, field: str, choices: tuple[str, ...]) -> str:
        value = self.text(field)
        if value not in choices:
            raise self.error(field, f"one of {', '.join(choices)}")
        return value

    def above_zero(self, field: str, below: float = math.inf) -> float:
        value = float(self.array(field, ()))
        if not 0 < value < below:
            raise self.error(field, "a number above 0" + (f" and below {below:g}" if below < math.inf else ""))
        return value

    def array(self, field: str, shape: tuple[int | None, ...]) -> Array:
        """Return finite numbers of a shape, in which None is any length."""
        value = self.values.get(field)
        try:
            array = np.asarray(value)
        except ValueError:  # rows of unequal length
            array = np.asarray(None)
        fits = array.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=False)
        )
        if not fits or not array.size or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
            sizes = " x ".join("any" if length is None else str(length) for length in shape)
            raise self.error(field, f"{sizes} finite numbers" if shape else "a finite number")
        return array.astype(np.float64)
