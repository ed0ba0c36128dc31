"""Fits laws of the loss, or of any other metric, to what runs measured, with intervals.

Forms, with N parameters and D training tokens:

    pure-power   a N^-alpha
    power        e + a N^-alpha
    chinchilla   e + a N^-alpha + b D^-beta            (Hoffmann et al. 2022, approach 3)

Several schemes can be fitted together, with some coefficients shared: the ternary and the FP16 law with one alpha, say.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitsim.energy_tables import BitsimError, Interval, LossLaw, Provenance
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count

from .huber import Array, minimise, objective, predictions
from .measured import Measured

FORMS = {
    "pure-power": ("a", "alpha"),
    "power": ("e", "a", "alpha"),
    "chinchilla": ("e", "a", "alpha", "b", "beta"),
}
BOOTSTRAPS = ("points", "noise")
DELTA = 1e-3  # Hoffmann et al. 2022, Appendix D.2

_EXPONENTS = {"a": "alpha", "b": "beta"}  # of each term's coefficient
_POINTS_PER_UNKNOWN = 10  # below which resampling the points says little, and noise is made up instead
_STARTS = 64  # of the grid below, the best are followed to their minima
_START_EXPONENTS = (-1.0, -0.4, 0.1, 0.3, 0.6, 1.2, 2.0)
_START_SHARES = (0.03, 0.15, 0.4, 0.7, 0.95)


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


def fit_law(
    points: Measured,
    form: str = "chinchilla",
    *,
    shared: Collection[str] = (),
    delta: float = DELTA,
    bootstrap: str | None = None,
    resamples: int = 4000,
    level: float = 0.9,
    seed: int = 0,
) -> Fit:
    """Fit a law by Huber loss on logarithms, from many starts, with bootstrap intervals.

    Args:
        points: what was measured, of one scheme or of several.
        form: one of `FORMS`.
        shared: coefficients that all schemes have in common, such as ("alpha",).
        delta: where the Huber loss turns absolute; infinite for least squares.
        bootstrap: "points" draws points with replacement (within each scheme); "noise" adds made-up noise to the law,
            of a size that is itself drawn as uncertain as so few residuals leave it. By default points where there are
            ten for each unknown, else noise.
        resamples: how many; 0 for no intervals.
        level: of the intervals.
        seed: of the resampling.

    Raises:
        BitsimError: no such form, or points that can't hold the unknowns: fewer sizes than unknowns, or tokens in the
            same proportion to the size in every run.
    """
    if form not in FORMS:
        raise BitsimError(f"form: expected one of {', '.join(FORMS)}, got '{shown(form)}'")
    if bootstrap is not None and bootstrap not in BOOTSTRAPS:
        raise BitsimError(f"bootstrap: expected one of {', '.join(BOOTSTRAPS)}, got '{shown(bootstrap)}'")
    if not 0 < level < 1:
        raise BitsimError(f"level: expected a number between 0 and 1, got {level:g}")
    unknown = [name for name in shared if name not in FORMS[form]]
    if unknown:
        raise BitsimError(f"shared: expected some of {', '.join(FORMS[form])}, got '{shown(unknown[0])}'")
    together = tuple(name for name in FORMS[form] if name in shared) if len(points.kinds) > 1 else ()
    warnings = [*points.warnings, *check_points(points, form, together)]

    names = _names(points, form, together)
    scale = Scale.of(points, form, names)
    target = np.log(points.values) - scale.centre
    even = np.ones((1, len(points)))
    starts = scale.starts(points, form, names)
    heights = objective(scale.terms, target, even, starts, delta)
    starts = starts[np.argsort(heights, kind="stable")[:_STARTS]]
    ends, values = minimise(scale.terms, target[None], even, starts, delta)
    best = int(np.argmin(values))
    agreeing = int(np.sum(values <= values[best] * (1 + 1e-4) + 1e-12))

    kind = bootstrap or ("points" if len(points) >= _POINTS_PER_UNKNOWN * len(names) else "noise")
    rows = None
    if resamples > 0 and (kind == "points" or len(points) > len(names)):
        draw = _drawn_points if kind == "points" else _drawn_noise
        residuals = predictions(scale.terms, ends[best][None])[0] - target
        targets, weights = draw(points, form, together, target, residuals, resamples, np.random.default_rng(seed))
        found, _ = minimise(scale.terms, targets, weights, np.repeat(ends[best][None], resamples, axis=0), delta)
        rows = scale.natural(found)
    unknowns = scale.natural(ends[best][None])[0]
    fit = Fit(
        form=form,
        points=points,
        shared=together,
        unknowns=unknowns,
        names=names,
        delta=delta,
        objective=float(values[best]),
        starts=(len(starts), agreeing),
        resampled=rows,
        bootstrap=kind,
        level=level,
    )
    return replace(fit, warnings=(*warnings, *_doubts(fit)))


def natural_terms(points: Measured, form: str, names: tuple[tuple[str, str], ...]) -> Array:
    """Return how each term depends on each unknown: a - alpha log N, b - beta log D, e. Shape as in `huber`."""
    columns = {"a": np.log(points.parameters)}
    if points.tokens is not None:
        columns["b"] = np.log(points.tokens)
    leading = [name for name in FORMS[form] if name not in _EXPONENTS.values()]
    terms = np.zeros((len(points), len(leading), len(names)))
    for row, scheme in enumerate(points.schemes):
        for term, name in enumerate(leading):
            terms[row, term, _column(names, name, scheme)] += 1.0
            if name in _EXPONENTS:
                terms[row, term, _column(names, _EXPONENTS[name], scheme)] -= columns[name][row]
    return terms


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Unknowns moved to the middle of the points, where they hardly depend on one another or on the units.

    Attributes:
        terms: as `natural_terms`, for the moved unknowns.
        turn: natural unknowns are turn @ moved + shift. Shape: (unknowns, unknowns).
        shift: Shape: (unknowns,).
        centre: mean logarithm of the values, which is taken off the target.
    """

    terms: Array
    turn: Array
    shift: Array
    centre: float

    @classmethod
    def of(cls, points: Measured, form: str, names: tuple[tuple[str, str], ...]) -> "Scale":
        """Take the middle of all points, whatever their scheme."""
        centre = float(np.mean(np.log(points.values)))
        turn, shift = np.eye(len(names)), np.zeros(len(names))
        middles = {"a": float(np.mean(np.log(points.parameters)))}
        if points.tokens is not None:
            middles["b"] = float(np.mean(np.log(points.tokens)))
        for index, (name, scheme) in enumerate(names):
            if name in _EXPONENTS.values():
                continue
            shift[index] = centre
            if name in _EXPONENTS:
                exponent = _column(names, _EXPONENTS[name], scheme or points.kinds[0])
                turn[index, exponent] = middles[name]
        return cls(natural_terms(points, form, names) @ turn, turn, shift, centre)

    def natural(self, moved: Array) -> Array:
        """Turn moved unknowns into natural ones. Shape: (rows, unknowns)."""
        return np.asarray(moved @ self.turn.T + self.shift)

    def moved(self, natural: Array) -> Array:
        """Turn natural unknowns into moved ones. Shape: (rows, unknowns)."""
        return np.asarray(np.linalg.solve(self.turn, (natural - self.shift).T).T)

    def starts(self, points: Measured, form: str, names: tuple[tuple[str, str], ...]) -> Array:
        """Return starting points: a grid of exponents, and of the shares of the terms in the middle."""
        leading = [name for name in FORMS[form] if name not in _EXPONENTS.values()]
        exponents = [name for name in FORMS[form] if name in _EXPONENTS.values()]
        shares = [
            (1.0 - sum(split), *split) for split in product(_START_SHARES, repeat=len(leading) - 1) if sum(split) < 1.0
        ]
        middles = {
            kind: float(np.mean(np.log(points.values[points.where(kind)]))) - self.centre for kind in points.kinds
        }
        rows = []
        for powers, split in product(product(_START_EXPONENTS, repeat=len(exponents)), shares):
            at = dict(zip(exponents, powers, strict=True)) | dict(zip(leading, np.log(split), strict=True))
            rows.append([at[name] + (middles.get(kind, 0.0) if name in leading else 0.0) for name, kind in names])
        return np.array(rows)


def check_points(points: Measured, form: str, shared: Collection[str]) -> list[str]:
    """Refuse points that can't hold the unknowns, and warn of points that barely do.

    Raises:
        BitsimError: fewer different sizes, tokens or runs than unknowns, or tokens that follow from sizes.
    """
    if form == "chinchilla" and points.tokens is None:
        raise BitsimError("form chinchilla: expected the training tokens of each run")
    warnings = []
    different = 0
    for kind in points.kinds:
        where = points.where(kind)
        own = [name for name in FORMS[form] if name not in shared]
        columns = {"sizes": (points.parameters[where], ("e", "a", "alpha"))}
        if form == "chinchilla" and points.tokens is not None:
            columns["numbers of tokens"] = (points.tokens[where], ("e", "b", "beta"))
        for what, (column, coefficients) in columns.items():
            needed = [name for name in coefficients if name in own]
            count = len(set(column))
            if count < len(needed):
                raise BitsimError(
                    f"form {form}: expected at least {len(needed)} different {what} of {kind},"
                    f" for the unknowns {', '.join(needed)}, got {count}"
                )
            if count == len(needed) > 1:
                warnings.append(
                    f"{count} {what} of {kind} for {len(needed)} unknowns: the law goes through them whatever they are,"
                    " so nothing here says that it has this form"
                )
        different += len(_pairs(points.chosen(where), form))
    total = len(_names(points, form, tuple(shared)))
    if different < total:
        raise BitsimError(
            f"form {form}: expected at least {total} different runs for {total} unknowns, got {different}"
        )
    if points.tokens is not None:
        warnings += _token_doubts(points, form)
    span = float(np.log10(points.parameters.max() / points.parameters.min()))
    if span < 1.0:
        warnings.append(f"the sizes span {span:.2f} powers of ten: an exponent needs one or more")
    return warnings


def _token_doubts(points: Measured, form: str) -> list[str]:
    sizes, tokens = np.log(points.parameters), np.log(np.asarray(points.tokens))
    if form == "chinchilla":
        spread = tokens - np.polyval(np.polyfit(sizes, tokens, 1), sizes)
        if np.std(spread) < 0.02:
            raise BitsimError(
                "form chinchilla: expected several numbers of tokens at like sizes, got tokens that follow from the"
                " size in every run: what is due to size and what to tokens can't be told apart (form power can)"
            )
        return []
    if np.ptp(tokens) > 0.02:
        return [
            f"form {form} knows no tokens, and the runs have {format_count(float(np.exp(tokens.min())))} to"
            f" {format_count(float(np.exp(tokens.max())))}: it holds for runs with the same rule of tokens"
        ]
    return []


def _doubts(fit: Fit) -> list[str]:
    """Look at what came out."""
    found = []
    for index, (name, kind) in enumerate(fit.names):
        of = f" of {kind}" if kind else ""
        if name == "e" and math.exp(fit.unknowns[index]) < 1e-3 * float(fit.points.values.min()):
            found.append(f"the points show no floor{of}: e came out as 0")
        if name in ("alpha", "beta") and abs(fit.unknowns[index]) < 1e-3:
            found.append(f"{name}{of} came out as 0: its term can't be told from a constant")
    if len(fit.points) <= len(fit.names):
        found.append(f"no interval: {len(fit.points)} points leave nothing over for {len(fit.names)} unknowns")
    return found


def _names(points: Measured, form: str, shared: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name in FORMS[form]:
        found += [(name, "")] if name in shared else [(name, kind) for kind in points.kinds]
    return tuple(found)


def _column(names: tuple[tuple[str, str], ...], name: str, scheme: str) -> int:
    return names.index((name, "")) if (name, "") in names else names.index((name, scheme))


def _pairs(points: Measured, form: str) -> set[tuple[float, float]]:
    tokens = points.tokens if form == "chinchilla" and points.tokens is not None else np.zeros(len(points))
    return set(zip(points.parameters.tolist(), tokens.tolist(), strict=True))


def _drawn_points(
    points: Measured,
    form: str,
    shared: tuple[str, ...],
    target: Array,
    residuals: Array,
    resamples: int,
    random: np.random.Generator,
) -> tuple[Array, Array]:
    """Draw points with replacement within each scheme; what can't hold the unknowns is drawn again."""
    weights = np.zeros((resamples, len(points)))
    for kind in points.kinds:
        where = np.flatnonzero(points.where(kind))
        needed = sum(name in FORMS[form] and name not in shared for name in ("e", "a", "alpha"))
        sizes = points.parameters[where][:, None] == np.unique(points.parameters[where])
        waiting = np.arange(resamples)
        while len(waiting):
            drawn = random.multinomial(len(where), np.full(len(where), 1.0 / len(where)), size=len(waiting))
            weights[np.ix_(waiting, where)] = drawn
            waiting = waiting[np.sum(drawn @ sizes > 0, axis=1) < needed]
    return target[None], weights


def _drawn_noise(
    points: Measured,
    form: str,
    shared: tuple[str, ...],
    target: Array,
    residuals: Array,
    resamples: int,
    random: np.random.Generator,
) -> tuple[Array, Array]:
    """Add normal noise to the law; its variance is drawn too, which makes up for few residuals as Student's t does."""
    free = len(points) - len(_names(points, form, shared))
    spread = np.sqrt(np.sum(residuals**2) / random.chisquare(free, size=(resamples, 1)))
    return target + residuals + spread * random.standard_normal((resamples, len(points))), np.ones((1, len(points)))


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
