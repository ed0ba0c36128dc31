"""Drawing tokens for several answers at once: the head is asked no more than each answer's settings need."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bitsim.energy_tables import BitsimError

from ..heads.head import Candidates, Float32, Head, Ids
from . import sampling
from .sampling import Sampling

_SLACK = 0.01  # logits that `within` is asked beyond min-p's bound: the filter itself decides, rounding can't
_NUCLEUS = 10.0  # logits below the largest: where a nucleus is looked for before all tokens are sorted


@dataclass(frozen=True, slots=True)
class Question:
    """What a head is asked: its `count` largest, those within a `margin`, or, without both, all logits."""

    count: int | None = None
    margin: float | None = None


class Sampler:
    """Draws the tokens of one answer; what it draws does not depend on other answers."""

    def __init__(self, settings: Sampling, prompt: Iterable[int]) -> None:
        self.settings = settings.seeded()
        self._random = np.random.Generator(np.random.PCG64(self.settings.seed))
        self._seen = set(prompt) if settings.repetition_penalty > 1 else None

    @property
    def question(self) -> Question:
        """What must be known for the next draw.

        With a penalty that only lowers logits (p >= 1), the k largest after it are among the k + n largest before it,
        n being the number of penalised tokens: at least k of those k + n are not penalised and stay as they are, and
        whatever is not among the k + n was no larger than they (nor of lower id where equal) and has not grown.
        The same holds for the single one that is k = 1, greedy.
        """
        settings, penalised = self.settings, len(self._seen or ())
        count = 1 if settings.greedy else settings.top_k
        if count:  # with a penalty rounded up, so that fewer different questions reach the head
            return Question(count=count if not penalised else 1 << (count + penalised - 1).bit_length())
        if settings.min_p and settings.top_p == 1 and not penalised:
            return Question(margin=_SLACK - math.log(settings.min_p))
        return Question()

    def pick(self, candidates: Candidates) -> int:
        """Return the next token, given the answer to `question` (all logits: in any order)."""
        if not np.isfinite(candidates.logits).all():
            raise BitsimError("the model computed logits that are no finite numbers: its file may be damaged")
        token = self._pick(candidates)
        if self._seen is not None:
            self._seen.add(token)
        return token

    def _pick(self, candidates: Candidates) -> int:
        settings = self.settings
        if self._seen:
            seen = np.fromiter(self._seen, np.int64)
            candidates = sampling.penalised(candidates, seen, settings.repetition_penalty)
        if settings.greedy:
            return int(candidates.ids[0])
        return sampling.draw(self._filtered(candidates), settings.temperature, self._random.random())

    def _filtered(self, candidates: Candidates) -> Candidates:
        settings = self.settings
        if settings.top_k:
            candidates = sampling.top_k(candidates, settings.top_k)
            if settings.top_p < 1:
                candidates = sampling.top_p(candidates, settings.top_p)
        elif settings.top_p < 1:
            candidates = _nucleus(candidates, settings.top_p)
        elif settings.min_p:
            candidates = sampling.ordered(candidates)
        return sampling.min_p(candidates, settings.min_p) if settings.min_p else candidates


def _nucleus(candidates: Candidates, share: float) -> Candidates:
    """Return top-p of all tokens; sorting only those near the largest, where they are likely enough together."""
    relative = sampling.weights(candidates.logits)
    total, near = float(relative.sum()), candidates.logits >= candidates.logits.max() - _NUCLEUS
    if float(relative[near].sum()) > share * total * (1 + 1e-9):
        candidates = Candidates(candidates.ids[near], candidates.logits[near])
    return sampling.top_p(sampling.ordered(candidates), share, total)


def choose(head: Head, hidden: Float32, samplers: Sequence[Sampler]) -> list[int]:
    """Draw a token for each row of `hidden` (sequences, hidden); equal questions reach the head together."""
    rows: dict[Question, list[int]] = {}
    for row, sampler in enumerate(samplers):
        rows.setdefault(sampler.question, []).append(row)
    tokens = [0] * len(samplers)
    for question, asking in rows.items():
        answers = _ask(head, hidden[asking], question)
        for row, answer in zip(asking, answers, strict=True):
            tokens[row] = samplers[row].pick(answer)
    return tokens


def _ask(head: Head, hidden: Float32, question: Question) -> list[Candidates]:
    if question.count is not None:
        return head.top(hidden, min(question.count, head.vocab))
    if question.margin is not None:
        return head.within(hidden, question.margin)
    ids: Ids = np.arange(head.vocab)
    return [Candidates(ids, logits) for logits in head.logits(hidden)]
