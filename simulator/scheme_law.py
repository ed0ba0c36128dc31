"""The loss of one scheme as planning needs it: in sizes and tokens, and comparable with the other schemes'.

No published law in sizes and tokens is of ternary and FP16 models on the same data. The nearest are TriLM's and
FloatLM's laws of sizes (kaushal2024spectra): twins on the same data and tokens. They say which FP16 size M a ternary
size N equals:

    e_f + a_f M^-alpha_f = e_t + a_t N^-alpha_t

and the FP16 law in sizes and tokens says what M reaches: L_ternary(N, D) = L_fp16(M(N), D).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, LossLaw, loss_laws
from bitsim.energy_tables.errors import shown, suggestion
from bitsim.energy_tables.units import format_count

from .loss_laws import Loss, equal_parameters, law_for, loss_nats, predict_loss, tokens_for_loss
from .model_spec import ModelSpec

DEFAULT_LAW = "chinchilla-besiroglu"
_TWINS = {"b1.58": ("trilm", "floatlm")}  # of a scheme that no law in tokens compares with FP16: its law, and FP16's
_SIXTEEN_BITS = ("fp32", "bf16", "fp16")
_TOKEN_FORMS = ("chinchilla", "kaplan")
# Half of the last printed digit of TriLM's and FloatLM's e and a; their exponents are printed as one number.
_HALF_DIGITS = {"e_nats": 0.005, "a": 0.5}


@dataclass(frozen=True, slots=True)
class SchemeLaw:
    """The loss of a scheme.

    Attributes:
        scheme: name of the scheme.
        law: a law in sizes and tokens.
        twins: None where `law` is of this scheme; else laws in sizes of this scheme and of `law`'s, on the same data.
    """

    scheme: str
    law: LossLaw
    twins: tuple[LossLaw, LossLaw] | None = None

    def __post_init__(self) -> None:
        """Refuse laws of other forms: a law fitted at one number of tokens says nothing about a budget."""
        if self.law.form not in _TOKEN_FORMS:
            known = ", ".join(law.law for law in loss_laws().values() if law.form in _TOKEN_FORMS)
            raise BitsimError(f"loss law {self.law.law}: expected a law that knows tokens ({known})")

    @property
    def name(self) -> str:
        """The law's name, and those of the twins."""
        return self.law.law if self.twins is None else f"{self.law.law} by {self.twins[0].law}/{self.twins[1].law}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Keys of the sources of all laws in use."""
        laws = (self.law, *(self.twins or ()))
        return tuple(dict.fromkeys(key for law in laws for key in law.provenance.sources))

    def equal_size(self, parameters: float) -> float:
        """Return the size of the law's own scheme that reaches the same loss."""
        return _equal(self.twins, parameters)

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss (nats per token) of a size after so many tokens."""
        return loss_nats(self.law, self.equal_size(parameters), tokens)

    def tokens_for(self, loss: float, parameters: float) -> float:
        """Return the tokens after which a size reaches a loss; infinite where it never does."""
        return tokens_for_loss(self.law, loss, self.equal_size(parameters))

    def predict(self, parameters: float, tokens: float) -> Loss:
        """Return the loss with its range: the law's own, and what the printed digits of the twins leave open."""
        sizes = [self.equal_size(parameters)]
        if self.twins is not None:
            sizes += [_equal((_moved(self.twins[0], by), _moved(self.twins[1], -by)), parameters) for by in (-1, 1)]
        found = [predict_loss(self.law, size, tokens) for size in sizes]
        losses = [loss for loss in found if loss is not None]
        middle = losses[0]
        notes = list(middle.notes)
        if self.twins is not None:
            notes += _stretch(self.twins[0], parameters)
        low, high = min(loss.low for loss in losses), max(loss.high for loss in losses)
        return Loss(self.name, middle.value, low, high, tuple(notes))


def scheme_laws(schemes: tuple[str, ...], laws: Mapping[str, LossLaw | str] | None = None) -> dict[str, SchemeLaw]:
    """Return the law of each scheme.

    Args:
        schemes: names of schemes.
        laws: a law or its name by scheme, such as those of one `training.fitted.Fit` of both schemes. A scheme that
            is not in it takes FP16's by way of the twins, and FP16 takes `DEFAULT_LAW`.

    Raises:
        BitsimError: an unknown law, one that knows no tokens, a scheme without a law, or a law without its scheme.
    """
    given = laws or {}
    for scheme in given:
        if scheme not in (*schemes, "fp16"):
            raise BitsimError(f"laws: expected laws of {', '.join(schemes)}, got one of {shown(scheme)}")
    full = _named(given.get("fp16", DEFAULT_LAW))
    found = {}
    for scheme in schemes:
        if scheme in given:
            found[scheme] = SchemeLaw(scheme, _named(given[scheme]))
        elif scheme in _TWINS:
            ours, theirs = (loss_laws()[name] for name in _TWINS[scheme])
            found[scheme] = SchemeLaw(scheme, full, (ours, theirs))
        elif scheme == "fp16":
            found[scheme] = SchemeLaw(scheme, full)
        else:
            raise BitsimError(f"scheme {scheme[:40]}: expected a loss law of its own; known are fp16 and b1.58")
    return found


def expected_loss(
    scheme: str, spec: ModelSpec, tokens: float, laws: Mapping[str, LossLaw | str] | None = None
) -> Loss | None:
    """Return the loss (nats per token) of a model after so many training tokens; None where its scheme has no law.

    Schemes of 16 and 32 bits train alike. FP16 and ternary follow `scheme_laws`, so that their losses compare; another
    scheme follows its published law of sizes.

    Args:
        scheme: name of the scheme.
        spec: the model; its parameters are counted as the law counts them.
        tokens: training tokens.
        laws: see `scheme_laws`.

    Raises:
        BitsimError: an unknown law, or one that knows no tokens.
    """
    kind = "fp16" if scheme in _SIXTEEN_BITS else scheme
    if kind == "fp16" or kind in _TWINS or kind in (laws or {}):
        found = scheme_laws((kind,), laws)[kind]
        counted = spec.parameters_linear if found.law.counts == "non_embedding" else spec.parameters
        return found.predict(counted, tokens)
    return predict_loss(law_for(kind), spec.parameters, tokens)


def comparison_notes(laws: Mapping[str, SchemeLaw]) -> list[str]:
    """Say what a comparison of the schemes rests on."""
    notes = []
    for law in laws.values():
        if law.twins is not None:
            ours, theirs = law.twins
            notes.append(
                f"loss of {law.scheme}: that of {law.law.law} at the FP16 size which is equal by {ours.law} and "
                f"{theirs.law} (twins on the same data, {format_count(ours.tokens or 0)} tokens); that the equal size "
                "is the same at other numbers of tokens is assumed"
            )
    for name in dict.fromkeys(law.law.law for law in laws.values() if law.law.counts == "non_embedding"):
        notes.append(f"{name} counts parameters without embedding: so do the sizes and the compute of its plans")
    if len({law.law.provenance.sources for law in laws.values()}) > 1:
        names = ", ".join(f"{law.scheme} by {law.name}" for law in laws.values())
        notes.append(f"laws fitted on different data ({names}): their losses do not compare")
    return notes


def _named(law: LossLaw | str) -> LossLaw:
    if isinstance(law, LossLaw):
        return law
    known = loss_laws()
    if law not in known:
        raise BitsimError(f"unknown loss law '{law[:40]}'{suggestion(law, known)} (known: {', '.join(known)})")
    return known[law]


def _equal(twins: tuple[LossLaw, LossLaw] | None, parameters: float) -> float:
    if twins is None:
        return parameters
    ours, theirs = twins
    return equal_parameters(theirs, ours, parameters, tokens=1.0)  # laws of sizes: tokens have no effect


def _moved(law: LossLaw, by: int) -> LossLaw:
    return law._replace(e_nats=law.e_nats + by * _HALF_DIGITS["e_nats"], a=law.a + by * _HALF_DIGITS["a"])


def _stretch(law: LossLaw, parameters: float) -> list[str]:
    """Say where a size is outside those that a law was fitted on."""
    loss = predict_loss(law, parameters, law.tokens or 1.0)
    return [note for note in loss.notes if note.endswith("extrapolated")] if loss else []
