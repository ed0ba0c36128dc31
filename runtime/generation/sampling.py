"""How the next token is drawn: the settings, and each filter as a function of some tokens and their logits.

The order is llama.cpp's: repetition penalty, top-k, top-p, min-p, then the temperature. So the filters look at the
model's own distribution: a higher temperature makes the draw among the tokens left more even and lets no others in.
"""

import secrets
from dataclasses import dataclass, replace

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..heads.head import Candidates, Float32, Ids

_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: what logits are divided by before the draw; 0 takes the largest logit (greedy).
        top_k: only the so many largest; 0 for all.
        top_p: only the fewest tokens whose probabilities add up to this; 1 for all.
        min_p: only tokens at least this times as likely as the likeliest; 0 for all.
        repetition_penalty: logits of tokens in the prompt and the answer so far are divided by this where positive,
            multiplied where negative; 1 for none.
        seed: equal seeds give equal answers; without one each answer is drawn anew.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0, 100)
        _check("top_k", self.top_k, 0, 2**31 - 1, whole=True)
        _check("top_p", self.top_p, 0, 1, above=True)
        _check("min_p", self.min_p, 0, 1)
        _check("repetition_penalty", self.repetition_penalty, 1, 100)
        if self.seed is not None:
            _check("seed", self.seed, 0, _LARGEST_SEED, whole=True)

    @property
    def greedy(self) -> bool:
        """Whether the largest logit is taken, without a draw."""
        return self.temperature == 0

    def seeded(self) -> "Sampling":
        """Return the same with a seed, a fresh one where there was none."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))


def _check(name: str, value: object, low: int, high: int, *, whole: bool = False, above: bool = False) -> None:
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    inside = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    if not inside or (above and value == low):
        bounds = f"above {low}, at most {high}" if above else f"from {low} to {high}"
        raise BitsimError(f"{name}: expected a {'whole ' if whole else ''}number {bounds}, got {shown(value)}")


def penalised(candidates: Candidates, seen: Ids, penalty: float) -> Candidates:
    """Lower the logits of tokens that were `seen` (sorted ids)."""
    logits = candidates.logits
    lowered = np.where(logits < 0, logits * np.float32(penalty), logits / np.float32(penalty))
    return ordered(Candidates(candidates.ids, np.where(np.isin(candidates.ids, seen), lowered, logits)))


def ordered(candidates: Candidates) -> Candidates:
    """Put the largest logit first, of equal ones the lowest id."""
    order = np.lexsort((candidates.ids, -candidates.logits))
    return Candidates(candidates.ids[order], candidates.logits[order])


def weights(logits: Float32, temperature: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the tokens' probabilities as multiples of the likeliest token's."""
    below = logits.astype(np.float64) - float(logits.max())
    with np.errstate(over="ignore"):  # minus infinity at the lowest temperatures: a weight of 0
        return np.exp(below / temperature)


def top_k(candidates: Candidates, count: int) -> Candidates:
    """Keep the first `count`."""
    return _first(candidates, count)


def top_p(candidates: Candidates, share: float, total: float | None = None) -> Candidates:
    """Keep the fewest, of an ordered list, whose probabilities reach `share`: at least one.

    Args:
        candidates: ordered tokens.
        share: of the sum of all probabilities.
        total: that sum as a multiple of the likeliest token's, where `candidates` are not all there are.
    """
    reached = np.cumsum(weights(candidates.logits))
    goal = share * (reached[-1] if total is None else total)
    return _first(candidates, int(np.searchsorted(reached, goal)) + 1)


def min_p(candidates: Candidates, share: float) -> Candidates:
    """Keep those, of an ordered list, at least `share` times as likely as the first."""
    return _first(candidates, int(np.count_nonzero(weights(candidates.logits) >= share)))


def draw(candidates: Candidates, temperature: float, uniform: float) -> int:
    """Return the id that a number from [0, 1) falls on."""
    reached = np.cumsum(weights(candidates.logits, temperature))
    place = int(np.searchsorted(reached, uniform * reached[-1], side="right"))
    return int(candidates.ids[min(place, len(reached) - 1)])  # the product may round up to the sum


def _first(candidates: Candidates, count: int) -> Candidates:
    return Candidates(candidates.ids[:count], candidates.logits[:count])
