"""Loss from a published law: what quality a size and a number of training tokens buy."""

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
    """Evaluate a law (nats per token). `tokens` has no effect on laws fitted at one amount of data."""
    if law.form == "kaplan":
        if law.n_c is None or law.d_c is None or law.beta is None:
            raise BitsimError(f"loss law {law.law}: expected n_c, d_c and beta")
        return float(((law.n_c / parameters) ** (law.alpha / law.beta) + law.d_c / tokens) ** law.beta)
    value = law.e_nats + law.a / parameters**law.alpha
    if law.form == "chinchilla" and law.b is not None and law.beta is not None:
        value += law.b / tokens**law.beta
    return float(value)


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
