"""Recipes: how fast a model learns, step by step; the same for both twins unless asked otherwise."""

import math
from dataclasses import dataclass, replace
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

BETAS = (0.9, 0.95)  # AdamW: BitNet training tips and GPT-3 (2005.14165, appendix B) alike
CLIP = 1.0  # largest norm of the gradient: 2005.14165, appendix B
_LEAST = 0.1  # of the peak at which a cosine or a line ends (2203.15556, section 3.1)
_SMALLEST_BATCH, _LARGEST_BATCH = 2**10, 2**22  # tokens
# Of 2401.02954's rate and batch, whose runs begin at 1e17 FLOP; ours have 1e12 to 1e15. Measured with 0.55M parameters
# and 2.2M tokens, where the whole rate is 0.0084 and the whole batch 3,760 tokens, and all weights were drawn with
# a spread of 0.02; nats of the held-out text:
#     batch    512     1,024   1,024   1,024   2,048   2,048   4,096
#     rate     0.0042  0.0021  0.0042  0.0084  0.0042  0.0084  0.0042
#     FP16     4.730           4.659           4.730   4.632   4.925
#     ternary          5.221   5.062  >5.3     5.210           5.330
_RATE_SHARE, _BATCH_SHARE = 0.5, 0.25
# Of that rate, for a run from trained weights. Measured with ternary runs from FP16 twins of the ladder (0.55M after 16
# tokens per parameter, 4M after 4), where that rate is 0.0046, 0.0040 and 0.0030; nats of the held-out text:
#     rate               0.004   0.003   0.002   0.001   0.0005  0.0003  0.00025
#     0.55M, 1M tokens   4.507           4.447   4.414   4.405   4.419
#     0.55M, 3M tokens   4.457           4.432   4.410   4.397   4.393   4.382
#     4M, 3M tokens              3.862           3.775   3.756
# by `bitsim train --from results/0.55M-fp16-001f3373/model --data public-domain --tokens 3M --learning-rate 0.0005`.
_TRAINED_SHARE = 0.125
_WARMUP = 125  # steps at most, and a tenth of the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyper-parameters of one run that do not depend on the hardware.

    Attributes:
        peak: learning rate at the end of the warm-up.
        second: two-stage only: the rate from which the second half goes down, in a straight line to zero.
        schedule: "cosine" or "linear" to a tenth of the peak, or "two-stage" (BitNet training tips).
        warmup: steps in which the rate rises in a straight line.
        weight_decay: of AdamW, on matrices alone; two-stage switches it off at half of the steps.
        batch_tokens: tokens of one step of the optimiser, on all devices together.
        strength_steps: steps in which the quantisation fades in (lambda), for a model that starts from a checkpoint.
    """

    name: str
    peak: float
    second: float | None = None
    schedule: str = "cosine"
    warmup: int = 100
    weight_decay: float = 0.1
    batch_tokens: int = 2**15
    strength_steps: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            near = suggestion(self.schedule, SCHEDULES)
            raise BitsimError(f"schedule: expected one of {known}, got '{self.schedule}'{near}")
        if not 0 < self.peak <= 1:  # false for NaN
            raise BitsimError(f"learning rate: expected more than 0 and at most 1, got {self.peak:g}")
        if not 0 <= self.weight_decay <= 1:
            raise BitsimError(f"weight decay: expected 0 to 1, got {self.weight_decay:g}")

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0, of a run of `steps`."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(steps - self.warmup, 1)
        return SCHEDULES[self.schedule](self, min(done, 1.0))

    def decay_at(self, step: int, steps: int) -> float:
        """Return the weight decay of a step."""
        off = self.schedule == "two-stage" and 2 * step >= steps
        return 0.0 if off else self.weight_decay

    def strength_at(self, step: int) -> float:
        """Return how much of the quantisation a step applies: from 0 to 1 in `strength_steps`, then 1."""
        return 1.0 if step >= self.strength_steps else step / self.strength_steps


def _cosine(recipe: Recipe, done: float) -> float:
    return recipe.peak * (_LEAST + (1 - _LEAST) * (1 + math.cos(math.pi * done)) / 2)


def _linear(recipe: Recipe, done: float) -> float:
    return recipe.peak * (1 - (1 - _LEAST) * done)


def _two_stage(recipe: Recipe, done: float) -> float:
    """Two lines to zero at the end, the second one lower from the middle on (BitNet training tips)."""
    start = recipe.peak if done < 0.5 or recipe.second is None else recipe.second
    return start * (1 - done)


SCHEDULES = {"cosine": _cosine, "linear": _linear, "two-stage": _two_stage}


def compute_rate(compute: float) -> float:
    """Return the best highest learning rate for this much compute (FLOP): 0.3118 C^-0.1250 (2401.02954, equation 1)."""
    return float(0.3118 * compute**-0.1250)


def compute_batch(compute: float) -> float:
    """Return the best tokens of a step for this much compute (FLOP): 0.2920 C^0.3271 (2401.02954, equation 1)."""
    return float(0.2920 * compute**0.3271)


def kaplan_rate(non_embedding: float) -> float:
    """Return the learning rate that 2001.08361 (equation D.1) found for this many non-embedding parameters.

    It holds up to 1e10 parameters; beyond, the rate stays what it is there.
    """
    return 0.003239 - 0.0001395 * math.log(min(non_embedding, 1e10))


_TIPS_SIZE = 679.5e6  # non-embedding parameters of the tips' smallest model, "700M"
_TIPS_PEAK, _TIPS_SECOND, _TIPS_WARMUP = 1.5e-3, 1.0e-3, 375  # of that model, in the tips
_TIPS_BATCH = 2**20  # of all their models


def recipe_for(
    name: str, non_embedding: float, tokens: float, context: int, *, trained: bool = False, **changes: Any
) -> Recipe:
    """Return a recipe fit for a size and a number of tokens.

    Args:
        name: "study": one recipe for both twins, cosine, a quarter of 2401.02954's batch and half its rate
            for 6 FLOP per non-embedding parameter and token. "bitnet": the schedule of the BitNet training tips, their
            rate for 700M carried to other sizes in the proportion that 2001.08361 has.
        non_embedding: parameters without the embedding and the head.
        tokens: of the whole run.
        context: tokens of a sequence; a batch is whole sequences.
        trained: the run starts from the weights of a trained model, which wants a lower rate.
        changes: fields of `Recipe` to be other than that; None leaves one as it is.

    Raises:
        BitsimError: no such recipe, or a field out of range.
    """
    if name not in RECIPES:
        known = ", ".join(RECIPES)
        raise BitsimError(f"recipe: expected one of {known}, got '{name}'{suggestion(name, RECIPES)}")
    compute = 6 * non_embedding * tokens
    part, most = (1.0, _TIPS_BATCH) if name == "bitnet" else (_BATCH_SHARE, _LARGEST_BATCH)
    wanted = min(max(part * compute_batch(compute), _SMALLEST_BATCH), most)
    batch = int(changes.pop("batch_tokens", None) or _shareable(wanted / context) * context)
    batch = max(batch // context, 1) * context
    steps = max(int(tokens // batch), 1)
    warmup = min(_TIPS_WARMUP if name == "bitnet" else _WARMUP, max(steps // 10, 1))
    recipe = Recipe(name=name, peak=min(_RATE_SHARE * compute_rate(compute), 1.0), batch_tokens=batch, warmup=warmup)
    if name == "bitnet":
        share = kaplan_rate(non_embedding) / kaplan_rate(_TIPS_SIZE)
        recipe = replace(recipe, peak=_TIPS_PEAK * share, second=_TIPS_SECOND * share, schedule="two-stage")
    if trained:
        recipe = _slowed(recipe, _TRAINED_SHARE)
    changes = {field: value for field, value in changes.items() if value is not None}
    if recipe.second is not None and "peak" in changes:
        changes.setdefault("second", changes["peak"] * _TIPS_SECOND / _TIPS_PEAK)
    return replace(recipe, **changes)


RECIPES = ("study", "bitnet")


def _slowed(recipe: Recipe, share: float) -> Recipe:
    second = None if recipe.second is None else recipe.second * share
    return replace(recipe, peak=recipe.peak * share, second=second)


def _shareable(sequences: float) -> int:
    """Return the nearest of 1 to 8, 10, 12, 14, 16, 20, ...: near, and devices and micro-batches can still share it."""
    unit = max(2.0 ** (math.floor(math.log2(max(sequences, 1.0))) - 2), 1.0)
    return max(int(sequences / unit + 0.5) * int(unit), 1)
