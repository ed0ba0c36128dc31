"""What a Chinchilla law says of budgets: the best split of compute, and what training beyond it costs and buys.

Compute is C = 6 N D. All of it is closed form (Hoffmann et al. 2022, Equation 4).
"""

from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, LossLaw

from .loss_laws import check_positive, loss_nats, tokens_for_loss

FLOPS_PER_PARAMETER_TOKEN = 6.0  # forward 2, backward 4 (kaplan2020, section 2.1)


@dataclass(frozen=True, slots=True)
class Split:
    """A size and its training tokens, what they cost (FLOPs), and the loss they reach (nats per token)."""

    parameters: float
    tokens: float
    flops: float
    loss: float


@dataclass(frozen=True, slots=True)
class Overtraining:
    """A size trained for more (or fewer) tokens than its compute-optimal number.

    Attributes:
        run: the run asked about.
        optimal_tokens: tokens at which its size would be compute-optimal.
        same_flops: the best split of the same compute; `run.loss - same_flops.loss` is the price of the size.
        same_loss: the cheapest run that reaches the same loss.
    """

    run: Split
    optimal_tokens: float
    same_flops: Split
    same_loss: Split

    @property
    def factor(self) -> float:
        """Tokens over the compute-optimal number for this size."""
        return self.run.tokens / self.optimal_tokens

    @property
    def extra_flops(self) -> float:
        """Compute over that of the cheapest run with the same loss, as a ratio >= 1."""
        return self.run.flops / self.same_loss.flops

    @property
    def parameters_saved(self) -> float:
        """Fraction of the parameters of that cheapest run which this size does without."""
        return 1.0 - self.run.parameters / self.same_loss.parameters


def optimal_split(law: LossLaw, flops: float) -> Split:
    """Return the size and tokens with the lowest loss for an amount of training compute.

    N = G (C/6)^a and D = (C/6)^b / G with G = (alpha A / (beta B))^(1/(alpha+beta)), a = beta/(alpha+beta), b = 1 - a.

    Raises:
        BitsimError: compute that is not above zero, or a law of another form (Kaplan's optimum: `kaplan.optimum`).
    """
    check_positive(flops=flops)
    a, alpha, b, beta = _coefficients(law)
    product = flops / FLOPS_PER_PARAMETER_TOKEN
    g = (alpha * a / (beta * b)) ** (1.0 / (alpha + beta))
    parameters = g * product ** (beta / (alpha + beta))
    tokens = product ** (alpha / (alpha + beta)) / g
    return Split(parameters, tokens, flops, loss_nats(law, parameters, tokens))


def optimal_tokens(law: LossLaw, parameters: float) -> float:
    """Return the tokens for which a size is the compute-optimal one: where alpha A/N^alpha = beta B/D^beta.

    Raises:
        BitsimError: a size that is not above zero, or a law of another form.
    """
    check_positive(parameters=parameters)
    a, alpha, b, beta = _coefficients(law)
    return float((beta * b * parameters**alpha / (alpha * a)) ** (1.0 / beta))


def cheapest_split(law: LossLaw, loss: float) -> Split:
    """Return the run that reaches a loss with the least compute.

    Raises:
        BitsimError: a loss that the law says no run reaches, or a law of another form.
    """
    a, alpha, b, beta = _coefficients(law)
    left = loss - law.e_nats
    if not left > 0:
        raise BitsimError(
            f"loss law {law.law}: expected a loss above {law.e_nats:.4g} nats, which no run goes below, got {loss:.4g}"
        )
    # At the optimum the two terms share what is left as beta to alpha.
    parameters = (a * (alpha + beta) / (beta * left)) ** (1.0 / alpha)
    tokens = (b * (alpha + beta) / (alpha * left)) ** (1.0 / beta)
    return _split(law, parameters, tokens)


def overtraining(law: LossLaw, parameters: float, tokens: float) -> Overtraining:
    """Compare a run with the compute-optimal ones of its size, of its compute and of its loss.

    Raises:
        BitsimError: a number that is not above zero, or a law of another form.
    """
    best_tokens = optimal_tokens(law, parameters)
    run = _split(law, parameters, tokens)
    return Overtraining(run, best_tokens, optimal_split(law, run.flops), cheapest_split(law, run.loss))


def smaller_for_same_loss(law: LossLaw, split: Split, parameters: float) -> Split:
    """Return the longer run with which a smaller size reaches the loss of a split.

    Raises:
        BitsimError: the size never reaches that loss, or a law of another form.
    """
    _coefficients(law)
    tokens = tokens_for_loss(law, split.loss, parameters)
    if tokens == float("inf"):
        floor = law.e_nats + law.a / parameters**law.alpha
        raise BitsimError(
            f"loss law {law.law}: {parameters:.3g} parameters never reach a loss of {split.loss:.4g}"
            f" (with endless data {floor:.4g})"
        )
    return _split(law, parameters, tokens)


def _split(law: LossLaw, parameters: float, tokens: float) -> Split:
    loss = loss_nats(law, parameters, tokens)
    return Split(parameters, tokens, FLOPS_PER_PARAMETER_TOKEN * parameters * tokens, loss)


def _coefficients(law: LossLaw) -> tuple[float, float, float, float]:
    if law.form != "chinchilla" or law.b is None or law.beta is None:
        raise BitsimError(f"loss law {law.law}: expected a law in sizes and tokens (form chinchilla), got {law.form}")
    return law.a, law.alpha, law.b, law.beta
