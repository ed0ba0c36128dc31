"""Laws of the loss by name or from a file, and what they say of one model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitsim.energy_tables import BitsimError, Interval, LossLaw, loss_laws
from bitsim.energy_tables.citations import DATA
from bitsim.energy_tables.errors import shown, suggestion
from bitsim.energy_tables.units import format_count
from bitsim.simulator.loss_laws import equal_parameters, law_for, predict_loss
from bitsim.training.law_file import UNITS, SavedLaw, read_law

TOKENS_PER_PARAMETER = 20.0  # where no tokens are given; about Chinchilla's rule (hoffmann2022, Table 3)
MOST = {"--size": 1e18, "--tokens": 1e21}  # what is asked beyond is a slip of the hand
FAR = 1.0  # decades outside the runs, beyond which a prediction is a guess
_AROUND, _STEPS = 3.0, 120  # how far a curve goes past the runs and the model, and in how many steps
_UNKNOWN = 10.0  # how far it goes where the sizes of the runs are not known
_SHORT = {"kaplan": "kaplan2020"}
OWN = "own"  # of both schemes, fitted to the ladder in training/results
_SIXTEEN_BITS = ("fp16", "bf16", "fp32")  # train alike, so that one law serves them
_PAIRS = (("trilm", "floatlm"), ("bitnet-b1", "bitnet-fp16"))  # on the same data: low-bit, and FP16
_SLIM = "SlimPajama, GPT-NeoX tokenizer"
_MASSIVE = "MassiveText, its own SentencePiece tokenizer"
_BITNET = "the data of BitNet (wang2023bitnet), its tokenizer of 16K words"
_LADDER = "public-domain English, its own tokenizer of 4,096 words (training/results)"
_MEASURED_ON = {
    "kaplan2020": "WebText2, GPT-2 tokenizer",
    "chinchilla": _MASSIVE,
    "chinchilla-unrounded": _MASSIVE,
    "chinchilla-besiroglu": _MASSIVE,
    "trilm": _SLIM,
    "floatlm": _SLIM,
    "spectra-1.1": "the data of Spectra 1.1 (vaidhya2025spectra)",
    "bitnet-b1": _BITNET,
    "bitnet-fp16": _BITNET,
    "own-fp16": _LADDER,
    "own-b1.58": _LADDER,
}
SIZES = {"non_embedding": "parameters without embedding", "parameters": "parameters"}

Law = LossLaw | SavedLaw


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a law says of a model.

    Attributes:
        scheme: of the model.
        law: name of the law, or its file.
        metric: what is predicted: "loss", or the column that the law was fitted to.
        unit: of the metric; "" where it is not known.
        value: the metric, with its interval; ends of 0 and infinity where there is none.
        interval: what the interval holds.
        measured_on: data and tokenizer of the runs: losses of different ones can't be compared.
        counted: what counts as the size.
        tokens: training tokens that the answer is for; None where the law knows none.
        decades_of_size: powers of ten by which the size is outside the runs; None where their sizes are not known.
        decades_of_tokens: the same of the tokens.
        notes: what a reader must know, one line each.
    """

    scheme: str
    law: str
    metric: str
    unit: str
    value: Interval
    interval: str
    measured_on: str
    counted: str
    tokens: float | None
    decades_of_size: float | None
    decades_of_tokens: float | None
    notes: tuple[str, ...]

    @property
    def far(self) -> bool:
        """Tell whether the law is stretched beyond a decade."""
        return max(self.decades_of_size or 0.0, self.decades_of_tokens or 0.0) > FAR


@dataclass(frozen=True, slots=True)
class Curve:
    """A law over the size.

    Attributes:
        forecast: of the model asked about.
        parameters: size of that model.
        sizes: rising; that of the model and the ends of the law's runs are among them.
        tokens: training tokens at each size; None where the law knows none.
        values: what a forecast says at each size; intervals end in 0 and infinity where there are none.
        runs: sizes of the smallest and the largest run that the law was fitted on; None where they are not known.
    """

    forecast: Forecast
    parameters: float
    sizes: tuple[float, ...]
    tokens: tuple[float | None, ...]
    values: tuple[Interval, ...]
    runs: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Equal:
    """The size at which one scheme equals a size of another; infinite where it never does.

    Attributes:
        scheme: whose size it is.
        like: the scheme that it equals.
        law: name or file of the laws of both.
        parameters: that size, with its interval where there is one.
        has_interval: whether there is one.
        decades_of_size: powers of ten by which that size is outside the runs of `scheme`.
    """

    scheme: str
    like: str
    law: str
    parameters: Interval
    has_interval: bool
    decades_of_size: float

    @property
    def far(self) -> bool:
        """Tell whether the answer is beyond a decade outside the runs, where there is an answer."""
        return FAR < self.decades_of_size < math.inf


def open_law(name: str) -> Law:
    """Return a published law by its name, or a fitted one from its file.

    Raises:
        BitsimError: no such law, or a damaged file.
    """
    laws = loss_laws()
    known = _SHORT.get(name.casefold(), name.casefold())
    if known in laws:
        return laws[known]
    if known == OWN:
        return read_law(DATA / "own_law.json")
    if _is_file(name):
        return read_law(Path(name))
    names = (*laws, *_SHORT, OWN)
    hint = suggestion(name, names) or f"; known: {', '.join(names)}"
    raise BitsimError(f"--law: expected a file of bitsim fit-law or a published law, got '{shown(name)}'{hint}")


def _is_file(name: str) -> bool:
    try:
        return Path(name).suffix == ".json" or Path(name).exists()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL byte
        return False


def forecasts(
    names: Sequence[str], schemes: Sequence[str], parameters: float, tokens: float | None
) -> tuple[list[Forecast], list[Equal]]:
    """Ask laws about a model.

    Args:
        names: laws, by name or file; none for the published law of each scheme.
        schemes: none for all that the laws know (without laws: fp16 and b1.58).
        parameters: size of the model, counted as each law counts it.
        tokens: training tokens; by default `TOKENS_PER_PARAMETER` where a law needs them.

    Returns:
        A forecast for each law and scheme, and for low-bit schemes the size that equals an FP16 model of this size.

    Raises:
        BitsimError: no such law, a scheme that a law was not fitted to, or a number out of all range.
    """
    for option, number in (("--size", parameters), ("--tokens", tokens)):
        if number is not None and not 1 <= number <= MOST[option]:
            raise BitsimError(f"{option}: expected 1 to {MOST[option]:.0e}, got {number:.3g}")
    asked = _asked(names, schemes)
    equals: list[Equal] = []
    for name, law in {name: law for law, name, _ in asked}.items():
        if isinstance(law, SavedLaw):
            equals += _equal_fitted(law, name, parameters, tokens)
        else:
            equals += _equal_published(law, parameters)
    found = [_forecast(law, name, scheme, parameters, tokens) for law, name, scheme in asked]
    return found, list(dict.fromkeys(equals))


def curves(names: Sequence[str], schemes: Sequence[str], parameters: float, tokens: float | None) -> list[Curve]:
    """Ask laws about a model, and each about all sizes from below its runs and the model to above them.

    Args:
        names: laws, as of `forecasts`.
        schemes: as of `forecasts`.
        parameters: size of the model.
        tokens: training tokens of all sizes; by default as many per parameter as the model has.

    Returns:
        A curve for each forecast, in the same order.

    Raises:
        BitsimError: as `forecasts`.
    """
    found = []
    for law, name, scheme in _asked(names, schemes):
        runs = _sizes_of_runs(law, scheme)
        marked = {parameters, *(runs or (parameters / _UNKNOWN, parameters * _UNKNOWN))}
        low, high = min(marked) / _AROUND, max(marked) * _AROUND
        grid = {low * (high / low) ** (step / _STEPS) for step in range(_STEPS + 1)}
        sizes = tuple(sorted(grid | marked))
        said = [_forecast(law, name, scheme, size, tokens) for size in sizes]
        at = said[sizes.index(parameters)]
        values = tuple(each.value for each in said)
        found.append(Curve(at, parameters, sizes, tuple(each.tokens for each in said), values, runs))
    return found


def _asked(names: Sequence[str], schemes: Sequence[str]) -> list[tuple[Law, str, str]]:
    """Return each law that is asked, its name or file, and a scheme that it is asked about."""
    found: list[tuple[Law, str, str]] = []
    if not names:
        for scheme in schemes or ("fp16", "b1.58"):
            default = law_for(scheme)
            if default is None:
                raise BitsimError(f"--scheme: expected a scheme with a published law, got '{shown(scheme)}'")
            found.append((default, default.law, scheme))
    for name in names:
        law = open_law(name)
        if isinstance(law, SavedLaw):
            wanted = _wanted(schemes, law.fit.points.kinds, name)
        else:
            kinds = _SIXTEEN_BITS if law.scheme in _SIXTEEN_BITS else (law.scheme,)
            wanted = _wanted(schemes, kinds, name) if schemes else (law.scheme,)
        found += [(law, name, scheme) for scheme in wanted]
    return found


def _forecast(law: Law, name: str, scheme: str, parameters: float, tokens: float | None) -> Forecast:
    if isinstance(law, SavedLaw):
        return _fitted(law, name, scheme, parameters, tokens)
    return _published(law, scheme, parameters, tokens)


def _sizes_of_runs(law: Law, scheme: str) -> tuple[float, float] | None:
    if isinstance(law, SavedLaw):
        sizes = law.fit.points.parameters[law.fit.points.where(scheme)]
        return float(sizes.min()), float(sizes.max())
    low, high = law.valid_parameters_low, law.valid_parameters_high
    return (low, high) if low and high else None


def _wanted(schemes: Sequence[str], kinds: Sequence[str], law: str) -> Sequence[str]:
    for scheme in schemes:
        if scheme not in kinds:
            raise BitsimError(f"--scheme: expected one of law {law}: {', '.join(kinds)}, got '{shown(scheme)}'")
    return schemes or kinds


def _published(law: LossLaw, scheme: str, parameters: float, tokens: float | None) -> Forecast:
    asked, notes = _tokens(law.form != "power", parameters, tokens)
    loss = predict_loss(law, parameters, asked or law.tokens or parameters * TOKENS_PER_PARAMETER)
    assert loss is not None  # there is a law
    far_in_tokens = abs(math.log10(tokens / law.tokens)) if tokens and law.tokens else None
    far = None
    if law.valid_parameters_low and law.valid_parameters_high:
        far = _decades(parameters, law.valid_parameters_low, law.valid_parameters_high)
    else:
        notes.append(f"loss law {law.law}: the sizes of its runs are not known, so this may be far outside them")
    if asked is not None:
        notes.append(f"loss law {law.law}: no range of tokens is on record, so these may be far outside it")
    return Forecast(
        scheme=scheme,
        law=law.law,
        metric="loss",
        unit="nats per token",
        value=Interval.spanning(max(loss.low, 0.0), loss.value, loss.high),
        interval="what the published digits or errors leave open",
        measured_on=_MEASURED_ON.get(law.law) or law.provenance.note or "unknown data",
        counted=SIZES[law.counts],
        tokens=asked or law.tokens,
        decades_of_size=far,
        decades_of_tokens=far_in_tokens,
        notes=(*notes, *loss.notes),
    )


def _fitted(law: SavedLaw, name: str, scheme: str, parameters: float, tokens: float | None) -> Forecast:
    fit = law.fit
    asked, notes = _tokens(fit.form == "chinchilla", parameters, tokens)
    if tokens is not None and asked is None:
        notes.append(f"{name} knows no tokens: --tokens changes nothing")
    said = fit.predict(parameters, asked, scheme)
    notes.append(f"{name}, {scheme}: {said.note}")
    if math.isfinite(said.noise):
        notes.append(f"{name}: the interval is the law's; a run lies {said.noise:.2%} about the law")
    return Forecast(
        scheme=scheme,
        law=name,
        metric=fit.points.metric,
        unit=UNITS.get(fit.points.metric, ""),
        value=said.value,
        interval=f"{fit.level * 100:g} % of resamples" if fit.resampled is not None else "none",
        measured_on=law.origin.measured_on,
        counted=SIZES[fit.points.counts],
        tokens=asked,
        decades_of_size=said.decades_of_size,
        decades_of_tokens=None if asked is None else said.decades_of_tokens,
        notes=(*notes, *(f"{name}: {warning}" for warning in fit.warnings)),
    )


def _tokens(needed: bool, parameters: float, tokens: float | None) -> tuple[float | None, list[str]]:
    """Return the tokens that a law is asked about, and what must be said of them."""
    if not needed:
        return None, []
    if tokens is not None:
        return tokens, []
    tokens = TOKENS_PER_PARAMETER * parameters
    return tokens, [f"no --tokens: {TOKENS_PER_PARAMETER:g} tokens per parameter, {format_count(tokens)}"]


def _decades(parameters: float, low: float, high: float) -> float:
    at = math.log10(parameters) if parameters else -math.inf  # an equal size may come out as 0 or infinite
    return max(0.0, at - math.log10(high), math.log10(low) - at)


def _equal_published(law: LossLaw, parameters: float) -> list[Equal]:
    """Compare a law with its twin on the same data; at the tokens of both, which the laws take as given."""
    laws = loss_laws()
    found = []
    for name, twin in _PAIRS:
        of, like = laws[name], laws[twin]
        if law.law in (name, twin) and of.valid_parameters_low and of.valid_parameters_high:
            size = equal_parameters(of, like, parameters, of.tokens or parameters)
            far = _decades(size, of.valid_parameters_low, of.valid_parameters_high)
            found.append(Equal(of.scheme, like.scheme, f"{name} and {twin}", Interval.exact(size), False, far))
    return found


def _equal_fitted(law: SavedLaw, name: str, parameters: float, tokens: float | None) -> list[Equal]:
    fit = law.fit
    like = next((scheme for scheme in _SIXTEEN_BITS if scheme in fit.points.kinds), None)
    if like is None:
        return []
    asked, _ = _tokens(fit.form == "chinchilla", parameters, tokens)
    found = []
    for scheme in fit.points.kinds:
        if scheme not in _SIXTEEN_BITS:
            size = fit.equal_parameters(parameters, asked, of=scheme, like=like)
            measured = fit.points.parameters[fit.points.where(scheme)]
            far = _decades(size.mid, float(measured.min()), float(measured.max()))
            found.append(Equal(scheme, like, name, size, fit.resampled is not None, far))
    return found
