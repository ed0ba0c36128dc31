"""Fits laws of the loss, or of any other metric, to what runs measured, with intervals.

Forms, with N parameters and D training tokens:

    pure-power   a N^-alpha
    power        e + a N^-alpha
    chinchilla   e + a N^-alpha + b D^-beta            (Hoffmann et al. 2022, approach 3)

Several schemes can be fitted together, with some coefficients shared: the ternary and the FP16 law with one alpha, say.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.energy_tables.units import format_count

from .fitted import EXPONENTS, FORMS, Fit, natural_terms, unknown_of
from .huber import Array, least_share, minimise, predictions
from .measured import Measured

BOOTSTRAPS = ("points", "noise")
DELTA = 1e-3  # Hoffmann et al. 2022, Appendix D.2

_POINTS_PER_UNKNOWN = 10  # below which resampling the points says little, and noise is made up instead
# All of this grid are followed to their minima: the 64 that begin lowest lie together, and once all missed the best.
_START_EXPONENTS = (-1.0, -0.4, 0.1, 0.3, 0.6, 1.2, 2.0)
_START_SHARES = (0.03, 0.15, 0.4, 0.7, 0.95)
_NOTHING = 1e-3  # of the sum: less of a term is no term

_LOSSES = ("held_out_loss", "train_loss", "loss", "bits_per_byte")  # metrics that should fall as sizes and tokens grow


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
    ends, values = minimise(scale.terms, target[None], even, starts, delta)
    best = int(np.argmin(values))
    agreeing = int(np.sum(values <= values[best] * (1 + 1e-4) + 1e-12))

    kind = bootstrap or ("points" if len(points) >= _POINTS_PER_UNKNOWN * len(names) else "noise")
    rows = None
    if resamples > 0 and (kind == "points" or len(points) > len(names)):
        draw = _drawn_points if kind == "points" else _drawn_noise
        residuals = predictions(scale.terms, ends[best][None])[0] - target
        targets, weights = draw(points, form, together, target, residuals, resamples, np.random.default_rng(seed))
        rows = scale.natural(_refitted(scale.terms, targets, weights, _beginnings(scale.terms, ends, values), delta))
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
            if name in EXPONENTS.values():
                continue
            shift[index] = centre
            if name in EXPONENTS:
                exponent = unknown_of(names, EXPONENTS[name], scheme or points.kinds[0])
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
        leading = [name for name in FORMS[form] if name not in EXPONENTS.values()]
        exponents = [name for name in FORMS[form] if name in EXPONENTS.values()]
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
        elif name in ("alpha", "beta") and fit.unknowns[index] < 0 and fit.points.metric in _LOSSES:
            more = "parameters" if name == "alpha" else "tokens"
            found.append(f"{name}{of} came out below 0: in these runs more {more} do not lower the loss")
    if len(fit.points) <= len(fit.names):
        found.append(f"no interval: {len(fit.points)} points leave nothing over for {len(fit.names)} unknowns")
    return found


def _names(points: Measured, form: str, shared: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name in FORMS[form]:
        found += [(name, "")] if name in shared else [(name, kind) for kind in points.kinds]
    return tuple(found)


def _pairs(points: Measured, form: str) -> set[tuple[float, float]]:
    tokens = points.tokens if form == "chinchilla" and points.tokens is not None else np.zeros(len(points))
    return set(zip(points.parameters.tolist(), tokens.tolist(), strict=True))


def _beginnings(terms: Array, ends: Array, values: Array) -> Array:
    """Return where fits to resamples begin: at the best fit and, if it lacks a term, at the best one that has all.

    No descent brings back a term of nothing, whose slope is nothing too, and the intervals would not hear of it.
    """
    order = np.argsort(values, kind="stable")
    whole = order[least_share(terms, ends[order]) > _NOTHING]
    best = order[:1]
    return ends[best if not len(whole) or whole[0] == best[0] else np.append(best, whole[0])]


def _refitted(terms: Array, targets: Array, weights: Array, beginnings: Array, delta: float) -> Array:
    """Return the unknowns of each resample: of the descents from each beginning, the lowest."""
    resamples = max(len(targets), len(weights))
    fits = [
        minimise(terms, targets, weights, np.repeat(beginning[None], resamples, axis=0), delta)
        for beginning in beginnings
    ]
    lowest = np.argmin([values for _, values in fits], axis=0)
    return np.asarray(np.stack([found for found, _ in fits])[lowest, np.arange(resamples)])


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
