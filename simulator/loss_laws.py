"""Loss laws evaluated and turned round: the loss of a size and its tokens, and the size or the tokens of a loss."""

import math
from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, LossLaw, loss_laws
from bitsim.energy_tables.units import format_count

# Laws whose data are nearest to each kind of scheme; post-training schemes have none.
_LAWS = {
    "fp32": "chinchilla-besiroglu",
    "fp16": "chinchilla-besiroglu",
    "bf16": "chinchilla-besiroglu",
    "b1.58": "trilm",
    "b1": "bitnet-b1",
}
# What the printed digits leave open, in nats: an exponent of 0.26 is 0.255 to 0.265, which is 0.07 at 4B parameters;
# for Chinchilla the standard error of its E (besiroglu2024, Table 1).
_WIDTHS = {"power": 0.07, "chinchilla": 0.03, "kaplan": 0.03}
_TWINS = {"trilm": "floatlm", "bitnet-b1": "bitnet-fp16"}  # the same data in FP16


@dataclass(frozen=True, slots=True)
class Loss:
    """A predicted loss in nats per token of the law's own data and tokenizer."""

    law: str
    value: float
    low: float
    high: float
    notes: tuple[str, ...]


def law_for(scheme: str) -> LossLaw | None:
    """Return the published law for a scheme, or None where there is none."""
    name = _LAWS.get(scheme)
    return None if name is None else loss_laws()[name]


def loss_nats(law: LossLaw, parameters: float, tokens: float) -> float:
    """Evaluate a law (nats per token). `tokens` has no effect on laws fitted at one amount of data.

    power: E + A/N^alpha. chinchilla: E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, Equation 2).
    kaplan: ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D (Kaplan et al. 2020, Equation 1.5).

    Raises:
        BitsimError: a size or a number of tokens that is not above zero, or a law without a coefficient of its form.
    """
    check_positive(parameters=parameters, tokens=tokens)
    if law.form == "kaplan":
        n_c, d_c, alpha_d = _kaplan_coefficients(law)
        return float(((n_c / parameters) ** (law.alpha / alpha_d) + d_c / tokens) ** alpha_d)
    value = law.e_nats + law.a / parameters**law.alpha
    if law.form == "chinchilla":
        b, beta = _data_coefficients(law)
        value += b / tokens**beta
    return float(value)


def parameters_for_loss(law: LossLaw, loss: float, tokens: float) -> float:
    """Return the size at which a law gives a loss after so many tokens; infinite where no size does.

    Raises:
        BitsimError: a number that is not above zero, or a law without a coefficient of its form.
    """
    check_positive(loss=loss, tokens=tokens)
    if law.form == "kaplan":
        n_c, d_c, alpha_d = _kaplan_coefficients(law)
        left = loss ** (1.0 / alpha_d) - d_c / tokens
        return n_c / left ** (alpha_d / law.alpha) if left > 0 else math.inf
    left = loss - law.e_nats
    if law.form == "chinchilla":
        b, beta = _data_coefficients(law)
        left -= b / tokens**beta
    return float((law.a / left) ** (1.0 / law.alpha)) if left > 0 else math.inf


def tokens_for_loss(law: LossLaw, loss: float, parameters: float) -> float:
    """Return the training tokens after which a size reaches a loss; infinite where it never does.

    Raises:
        BitsimError: a number that is not above zero, or a law that does not know tokens.
    """
    check_positive(loss=loss, parameters=parameters)
    if law.form == "kaplan":
        n_c, d_c, alpha_d = _kaplan_coefficients(law)
        left = loss ** (1.0 / alpha_d) - (n_c / parameters) ** (law.alpha / alpha_d)
        return d_c / left if left > 0 else math.inf
    b, beta = _data_coefficients(law)
    left = loss - law.e_nats - law.a / parameters**law.alpha
    return float((b / left) ** (1.0 / beta)) if left > 0 else math.inf


def equal_parameters(of: LossLaw, like: LossLaw, parameters: float, tokens: float) -> float:
    """Return the size of one law whose loss is that of another law's size after the same tokens.

    With TriLM's and FloatLM's laws it is the ternary model that equals an FP16 model of a size. It is infinite where
    the first law levels off above that loss. Both laws must be fitted on the same data, or the answer means nothing.
    """
    return parameters_for_loss(of, loss_nats(like, parameters, tokens), tokens)


def nats(bits: float) -> float:
    """Turn a loss in bits per token, as BitNet (wang2023bitnet, Figure 3) draws it, into nats."""
    return bits * math.log(2.0)


def check_positive(**numbers: float) -> None:
    """Refuse what is not a finite number above zero, by its name.

    Raises:
        BitsimError: one of the numbers is not.
    """
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise BitsimError(f"{name}: expected a finite number above 0, got {value:g}")


def _kaplan_coefficients(law: LossLaw) -> tuple[float, float, float]:
    if law.n_c is None or law.d_c is None or law.beta is None:
        raise BitsimError(f"loss law {law.law}: expected n_c, d_c and beta")
    return law.n_c, law.d_c, law.beta


def _data_coefficients(law: LossLaw) -> tuple[float, float]:
    if law.b is None or law.beta is None:
        raise BitsimError(f"loss law {law.law}: expected b and beta, which say what tokens do")
    return law.b, law.beta


def predict_loss(law: LossLaw | None, parameters: float, tokens: float) -> Loss | None:
    """Predict a loss with the width that the printed coefficients leave open, and say where the law is stretched."""
    if law is None:
        return None
    value = loss_nats(law, parameters, tokens)
    notes = []
    low, high = law.valid_parameters_low, law.valid_parameters_high
    if (low and parameters < low) or (high and parameters > high):
        span = f"{format_count(low or 0)} to {format_count(high or 0)} parameters"
        notes.append(f"loss law {law.law} was fitted from {span}: extrapolated")
    if law.form == "power" and law.tokens:
        notes.append(f"loss law {law.law} holds for {format_count(law.tokens)} training tokens only")
    if law.law in _TWINS:
        twin = loss_nats(loss_laws()[_TWINS[law.law]], parameters, tokens)
        notes.append(
            f"losses of different laws are on different data; {law.law}'s FP16 twin {_TWINS[law.law]}: {twin:.3f}"
        )
    return Loss(law.law, value, value - _WIDTHS[law.form], value + _WIDTHS[law.form], tuple(notes))
