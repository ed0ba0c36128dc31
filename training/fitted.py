"""What a fit found: a law of each scheme with its intervals, and what it says of a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitsim.energy_tables import BitsimError, Interval, LossLaw, Provenance
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count

from .huber import Array, predictions
from .measured import Measured

FORMS = {
    "pure-power": ("a", "alpha"),
    "power": ("e", "a", "alpha"),
    "chinchilla": ("e", "a", "alpha", "b", "beta"),
}
EXPONENTS = {"a": "alpha", "b": "beta"}  # of each term's coefficient


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a fitted law says of one model.

    Attributes:
        value: the law there, with its interval; 0 to infinity where the points hold none.
        noise: standard deviation of a run about the law, as a fraction of the value.
        decades_of_size: powers of ten by which the size is outside those measured; 0 within them.
        decades_of_tokens: the same of training tokens; 0 where the form knows none.
        note: how far it is extrapolated, in words.
    """

    value: Interval
    noise: float
    decades_of_size: float
    decades_of_tokens: float
    note: str


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law of one or several schemes.

    Attributes:
        form: one of `FORMS`.
        points: what it was fitted to.
        shared: coefficients that the schemes have in common.
        unknowns: natural logarithms of e, a and b, and alpha and beta, in the order of `names`. Shape: (unknowns,).
        names: coefficient and scheme of each unknown; the scheme of a shared one is "".
        delta: where the Huber loss of the logarithms turns from square to absolute.
        objective: the sum of Huber losses.
        starts: how many starting points were followed, and how many of them ended at the best.
        resampled: the unknowns of each resample, or None without an interval. Shape: (resamples, unknowns).
        bootstrap: "points" (drawn with replacement) or "noise" (made up about the law, as large as the residuals).
        level: of the intervals, 0.9 for 90 %.
        warnings: what stands against the fit, one line each.
    """

    form: str
    points: Measured
    shared: tuple[str, ...]
    unknowns: Array
    names: tuple[tuple[str, str], ...]
    delta: float
    objective: float
    starts: tuple[int, int]
    resampled: Array | None
    bootstrap: str
    level: float
    warnings: tuple[str, ...] = ()

    @cached_property
    def residuals(self) -> Array:
        """Logarithm of what the law says minus that of what was measured. Shape: (points,)."""
        terms = natural_terms(self.points, self.form, self.names)
        return np.asarray(predictions(terms, self.unknowns[None])[0] - np.log(self.points.values))

    @property
    def noise(self) -> float:
        """Standard deviation of the residuals, for as many points as are left after the unknowns."""
        free = len(self.points) - len(self.names)
        return math.sqrt(float(np.sum(self.residuals**2)) / free) if free > 0 else math.nan

    def coefficient(self, name: str, scheme: str | None = None) -> Interval:
        """Return e, a, alpha, b or beta of a scheme with its interval (of the only scheme, where none is named).

        Raises:
            BitsimError: the form has no such coefficient, or no such scheme was fitted.
        """
        index = self.index(name, scheme)
        power = (lambda x: x) if name in ("alpha", "beta") else np.exp
        with np.errstate(over="ignore"):  # what the points hardly hold may be beyond any number: infinite then
            rows = None if self.resampled is None else power(self.resampled[:, index])
            value = float(power(self.unknowns[index]))
        lowest = -math.inf if name in ("alpha", "beta") else 0.0
        return _interval(value, rows, self.level, lowest)

    def predict(self, parameters: float, tokens: float | None = None, scheme: str | None = None) -> Prediction:
        """Say what the law gives for a model, with its interval and how far it is from the points.

        Raises:
            BitsimError: a number that is not above zero, tokens are missing, or no such scheme was fitted.
        """
        low, mid, high = self.curve([parameters], None if tokens is None else [tokens], scheme)
        where = self.points.where(self._scheme(scheme))
        sizes = _decades_outside(parameters, self.points.parameters[where])
        data = 0.0
        if self.form == "chinchilla" and tokens is not None and self.points.tokens is not None:
            data = _decades_outside(tokens, self.points.tokens[where])
        return Prediction(
            value=Interval.spanning(float(low[0]), float(mid[0]), float(high[0])),
            noise=self.noise,
            decades_of_size=sizes,
            decades_of_tokens=data,
            note=_distance(parameters, sizes, self.points.parameters[where], data),
        )

    def curve(
        self, parameters: ArrayLike, tokens: ArrayLike | None = None, scheme: str | None = None
    ) -> tuple[Array, Array, Array]:
        """Return low, middle and high of the law at many sizes, for a band.

        Raises:
            BitsimError: as `predict`.
        """
        scheme = self._scheme(scheme)
        sizes = np.asarray(parameters, dtype=np.float64)
        if self.form == "chinchilla" and tokens is None:
            raise BitsimError("tokens: a law of sizes and tokens needs them")
        at = Measured.of(sizes, np.ones_like(sizes), tokens, scheme, "value")
        terms = natural_terms(at, self.form, self.names)
        mid = np.exp(predictions(terms, self.unknowns[None])[0])
        if self.resampled is None:
            return np.zeros_like(mid), mid, np.full_like(mid, np.inf)
        low, high = np.quantile(np.exp(predictions(terms, self.resampled)), _tails(self.level), axis=0)
        return low, mid, high

    def law(self, scheme: str | None = None, name: str = "own") -> LossLaw:
        """Return the law of a scheme in the form that `bitsim.simulator` evaluates."""
        return self._law(self.unknowns, self._scheme(scheme), name)

    def interval(self, number: Callable[[LossLaw], float], scheme: str | None = None) -> Interval:
        """Return any number that follows from the law, with its interval: `lambda law: optimal_split(law, C).tokens`.

        Raises:
            BitsimError: no such scheme was fitted, or what `number` raises.
        """
        scheme = self._scheme(scheme)
        rows = None
        if self.resampled is not None:
            rows = np.array([number(self._law(row, scheme, "own")) for row in self.resampled])
        return _interval(number(self._law(self.unknowns, scheme, "own")), rows, self.level, 0.0)

    def equal_parameters(self, parameters: float, tokens: float | None = None, *, of: str, like: str) -> Interval:
        """Return the size at which scheme `of` equals a size of scheme `like`; infinite where it never does.

        Raises:
            BitsimError: as `predict`.
        """
        self.curve([parameters], None if tokens is None else [tokens], like)  # checks the request
        value = self._equal(self.unknowns[None], parameters, tokens, of, like)[0]
        rows = None if self.resampled is None else self._equal(self.resampled, parameters, tokens, of, like)
        return _interval(float(value), rows, self.level, 0.0)

    def _equal(self, rows: Array, parameters: float, tokens: float | None, of: str, like: str) -> Array:
        at = Measured.of([parameters], [1.0], None if tokens is None else [tokens], like)
        left = np.exp(predictions(natural_terms(at, self.form, self.names), rows)[:, 0])
        if "e" in FORMS[self.form]:
            left = left - np.exp(rows[:, self.index("e", of)])
        if tokens is not None and "b" in FORMS[self.form]:
            left = left - np.exp(rows[:, self.index("b", of)] - rows[:, self.index("beta", of)] * math.log(tokens))
        reached = left > 0
        with np.errstate(over="ignore"):
            size = np.exp(
                (rows[:, self.index("a", of)] - np.log(np.where(reached, left, 1.0))) / rows[:, self.index("alpha", of)]
            )
        return np.where(reached, size, np.inf)

    def _law(self, unknowns: Array, scheme: str, name: str) -> LossLaw:
        values = dict.fromkeys(("e", "a", "alpha", "b", "beta"))
        found = {key: float(unknowns[self.index(key, scheme)]) for key in FORMS[self.form]}
        at = {key: value if key in ("alpha", "beta") else math.exp(value) for key, value in found.items()}
        where = self.points.where(scheme)
        sizes, tokens = self.points.parameters[where], self.points.tokens
        only = None if tokens is None or len(set(tokens[where])) > 1 else float(tokens[where][0])
        return LossLaw(
            law=name,
            scheme=scheme,
            form="chinchilla" if self.form == "chinchilla" else "power",
            counts=self.points.counts,
            e_nats=at.get("e", 0.0),
            a=at["a"],
            alpha=at["alpha"],
            **{key: at.get(key, values[key]) for key in ("b", "beta")},
            n_c=None,
            d_c=None,
            valid_parameters_low=float(sizes.min()),
            valid_parameters_high=float(sizes.max()),
            tokens=only,
            provenance=Provenance(("bitsim",), f"fit of {int(where.sum())} runs, form {self.form}", "derived"),
        )

    def index(self, name: str, scheme: str | None = None) -> int:
        """Return where a coefficient of a scheme stands in `unknowns`.

        Raises:
            BitsimError: as `coefficient`.
        """
        scheme = self._scheme(scheme)
        for key in ((name, scheme), (name, "")):
            if key in self.names:
                return self.names.index(key)
        raise BitsimError(f"coefficient: expected one of {', '.join(FORMS[self.form])}, got '{shown(name)}'")

    def _scheme(self, scheme: str | None) -> str:
        kinds = self.points.kinds
        if scheme is None and len(kinds) == 1:
            return kinds[0]
        if scheme not in kinds:
            raise BitsimError(f"scheme: expected one of {', '.join(kinds)}, got '{shown(scheme)}'")
        return scheme


def natural_terms(points: Measured, form: str, names: tuple[tuple[str, str], ...]) -> Array:
    """Return how each term depends on each unknown: a - alpha log N, b - beta log D, e. Shape as in `huber`."""
    columns = {"a": np.log(points.parameters)}
    if points.tokens is not None:
        columns["b"] = np.log(points.tokens)
    leading = [name for name in FORMS[form] if name not in EXPONENTS.values()]
    terms = np.zeros((len(points), len(leading), len(names)))
    for row, scheme in enumerate(points.schemes):
        for term, name in enumerate(leading):
            terms[row, term, unknown_of(names, name, scheme)] += 1.0
            if name in EXPONENTS:
                terms[row, term, unknown_of(names, EXPONENTS[name], scheme)] -= columns[name][row]
    return terms


def unknown_of(names: tuple[tuple[str, str], ...], name: str, scheme: str) -> int:
    """Return where a coefficient of a scheme, or one that all share, stands among the unknowns."""
    return names.index((name, "")) if (name, "") in names else names.index((name, scheme))


def _tails(level: float) -> tuple[float, float]:
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _interval(value: float, rows: NDArray[np.float64] | None, level: float, lowest: float) -> Interval:
    if rows is None:
        return Interval(lowest, value, math.inf)
    low, high = np.quantile(rows, _tails(level), method="inverted_cdf")  # no mean of two: one may be infinite
    return Interval.spanning(float(low), value, float(high))


def _decades_outside(value: float, measured: Array) -> float:
    return max(0.0, math.log10(value / float(measured.max())), math.log10(float(measured.min()) / value))


def _distance(parameters: float, sizes: float, measured: Array, data: float) -> str:
    span = f"{format_count(float(measured.min()))} to {format_count(float(measured.max()))} parameters"
    parts = []
    if sizes > 0:
        far = f"{sizes:.2f} powers of ten outside"
        parts.append(f"{format_count(parameters)} parameters are {far} the {span} measured")
    if data > 0:
        parts.append(f"the tokens are {data:.2f} powers of ten outside those measured")
    return "; ".join(parts) or f"within the {span} measured"
