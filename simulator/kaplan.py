"""Kaplan et al. 2020 (arXiv:2001.08361): loss by size, data and steps, critical batch, best use of compute.

Sizes are parameters without embeddings, losses nats per token on WebText2, compute FLOPs (the paper's PF-days are
`PF_DAY` of them). The joint L(N, D) is the row `kaplan2020` of `loss_laws`, see `loss_laws.loss_nats`.
"""

import math
from dataclasses import dataclass
from functools import cache

from bitsim.energy_tables import law_constants
from bitsim.energy_tables.units import SECONDS_PER_HOUR

from .compute_optimal import FLOPS_PER_PARAMETER_TOKEN
from .loss_laws import check_positive

PF_DAY = 1e15 * 24 * SECONDS_PER_HOUR  # FLOPs


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best use of an amount of compute.

    Attributes:
        min_flops: C_min, the compute at a batch far below the critical one.
        parameters: N.
        batch_tokens: the critical batch at the loss reached.
        min_steps: S_min, the steps at a batch far above the critical one; C_min = 6 N B S_min.
        loss: in nats per token.
    """

    min_flops: float
    parameters: float
    batch_tokens: float
    min_steps: float
    loss: float

    @property
    def steps(self) -> float:
        """Steps at the critical batch: twice the least (Equation 5.4)."""
        return 2.0 * self.min_steps

    @property
    def tokens(self) -> float:
        """Tokens read at the critical batch, D = B S."""
        return self.batch_tokens * self.steps

    @property
    def flops(self) -> float:
        """Compute spent at the critical batch: twice C_min (Equation 5.5)."""
        return FLOPS_PER_PARAMETER_TOKEN * self.parameters * self.tokens


def loss_of_size(parameters: float) -> float:
    """L(N), trained to convergence on ample data (Equation 1.1)."""
    check_positive(parameters=parameters)
    k = _constants()
    return math.pow(k["size_scale"] / parameters, k["size_alpha"])


def loss_of_data(tokens: float) -> float:
    """L(D), a large model stopped early (Equation 1.2)."""
    check_positive(tokens=tokens)
    k = _constants()
    return math.pow(k["data_scale"] / tokens, k["data_alpha"])


def loss_of_compute(least_flops: float) -> float:
    """L(C_min) as fitted to the runs (Equation 1.3)."""
    check_positive(flops=least_flops)
    k = _constants()
    return math.pow(k["compute_scale"] * PF_DAY / least_flops, k["compute_alpha"])


def loss_of_steps(parameters: float, least_steps: float) -> float:
    """L(N, S_min) with ample data (Equation 1.6)."""
    check_positive(parameters=parameters, steps=least_steps)
    k = _constants()
    return _converged(parameters) + math.pow(k["steps_scale"] / least_steps, k["steps_alpha"])


def critical_batch(loss: float) -> float:
    """Return the critical batch in tokens, B* / L^(1/alpha_B) (Equation 1.4)."""
    check_positive(loss=loss)
    k = _constants()
    return k["batch_scale"] / math.pow(loss, 1.0 / k["batch_alpha"])


def min_steps(steps: float, batch_tokens: float, loss: float) -> float:
    """Return S_min, the steps to the same loss at a batch far above the critical one (Equation 5.4)."""
    check_positive(steps=steps, batch=batch_tokens)
    return steps / (1.0 + critical_batch(loss) / batch_tokens)


def min_flops(flops: float, batch_tokens: float, loss: float) -> float:
    """Return C_min, the compute to the same loss at a batch far below the critical one (Equation 5.5)."""
    check_positive(flops=flops, batch=batch_tokens)
    return flops / (1.0 + batch_tokens / critical_batch(loss))


def compute_alpha() -> float:
    """Return alpha_C^min = 1 / (1/alpha_S + 1/alpha_B + 1/alpha_N) (Equation 1.8)."""
    k = _constants()
    return 1.0 / (1.0 / k["steps_alpha"] + 1.0 / k["batch_alpha"] + 1.0 / k["steps_size_alpha"])


def optimum(least_flops: float) -> Optimum:
    """Derive the best size, batch and steps for C_min from L(N, S_min) and the critical batch (Appendix B.2)."""
    check_positive(flops=least_flops)
    k = _constants()
    alpha_n, alpha_s, alpha_c = k["steps_size_alpha"], k["steps_alpha"], compute_alpha()
    surplus = 1.0 + alpha_n / alpha_s
    # Equation B.8
    scale = FLOPS_PER_PARAMETER_TOKEN * k["steps_size_scale"] * k["batch_scale"] * k["steps_scale"]
    scale *= surplus ** (1.0 / alpha_s + 1.0 / alpha_n) * (alpha_s / alpha_n) ** (1.0 / alpha_s)
    loss = (scale / least_flops) ** alpha_c  # Equation B.6
    # Equation B.9
    parameters = k["steps_size_scale"] * (least_flops / scale) ** (alpha_c / alpha_n) * surplus ** (1.0 / alpha_n)
    batch = critical_batch(loss)
    steps = least_flops / (FLOPS_PER_PARAMETER_TOKEN * parameters * batch)
    return Optimum(least_flops, parameters, batch, steps, loss)


def fitted_optimum(least_flops: float) -> Optimum:
    """Return the best size, batch and steps for C_min as fitted to the runs, each a power of C_min (Table 6).

    The powers were fitted one by one, so 6 N B S_min is C_min only to a few percent.
    """
    check_positive(flops=least_flops)
    k = _constants()
    pf_days = least_flops / PF_DAY
    parameters, batch, steps = (
        k[f"optimum_{name}"] * pf_days ** k[f"optimum_{name}_exponent"] for name in ("parameters", "batch", "steps")
    )
    return Optimum(least_flops, parameters, batch, steps, loss_of_compute(least_flops))


def flops_for_loss(parameters: float, loss: float) -> float:
    """Return C_min with which a size reaches a loss (Equation B.15); infinite where it never does."""
    check_positive(parameters=parameters, loss=loss)
    k = _constants()
    left = loss - _converged(parameters)
    if left <= 0:
        return float("inf")
    steps = k["steps_scale"] / math.pow(left, 1.0 / k["steps_alpha"])
    return FLOPS_PER_PARAMETER_TOKEN * parameters * critical_batch(loss) * steps


def _converged(parameters: float) -> float:
    k = _constants()
    return math.pow(k["steps_size_scale"] / parameters, k["steps_size_alpha"])


@cache
def _constants() -> dict[str, float]:
    return {name: row.value for name, row in law_constants("kaplan2020").items()}
