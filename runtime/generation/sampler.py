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

    def question(self, ahead: Sequence[int] = ()) -> Question:
        """Return what must be known for the next draw, or for that after some tokens `ahead`.

        With a penalty that only lowers logits (p >= 1), the k largest after it are among the k + n largest before it,
        n being the number of penalised tokens: at least k of those k + n are not penalised and stay as they are, and
        whatever is not among the k + n was no larger than they (nor of lower id where equal) and has not grown.
        The same holds for the single one that is k = 1, greedy.
        """
        settings = self.settings
        penalised = 0 if self._seen is None else len(self._seen.union(ahead))
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


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn for one answer: the next token, and as long as they are those of `drafts`, the ones after it."""

    sampler: Sampler
    drafts: Sequence[int] = ()

    @property
    def questions(self) -> list[Question]:
        """What must be known, in the order of the tokens."""
        return [self.sampler.question(self.drafts[:count]) for count in range(len(self.drafts) + 1)]

    def tokens(self, answers: Sequence[Candidates]) -> list[int]:
        """Draw, given the answers to `questions`: the sampler draws what it would one token at a time, and no more."""
        tokens = [self.sampler.pick(answers[0])]
        for draft, answer in zip(self.drafts, answers[1:], strict=True):
            if tokens[-1] != draft:
                break
            tokens.append(self.sampler.pick(answer))
        return tokens


def choose(head: Head, hidden: Float32, draws: Sequence[Draw]) -> list[list[int] | BitsimError]:
    """Draw one token or more for each answer; equal questions reach the head together.

    Args:
        head: of the model.
        hidden: the states of each answer's last token, and then of its drafts: (states, hidden).
        draws: the answers.

    Returns:
        The tokens of each, or why there are none.
    """
    questions = [question for draw in draws for question in draw.questions]
    rows: dict[Question, list[int]] = {}
    for row, question in enumerate(questions):
        rows.setdefault(question, []).append(row)
    answers: dict[int, Candidates] = {}
    for question, asking in rows.items():
        answers.update(zip(asking, _ask(head, hidden[asking], question), strict=True))
    drawn: list[list[int] | BitsimError] = []
    start = 0
    for draw in draws:
        end = start + len(draw.drafts) + 1
        drawn.append(_drawn(draw, [answers[row] for row in range(start, end)]))
        start = end
    return drawn


def _drawn(draw: Draw, answers: Sequence[Candidates]) -> list[int] | BitsimError:
    try:
        return draw.tokens(answers)
    except BitsimError as error:
        return error


def _ask(head: Head, hidden: Float32, question: Question) -> list[Candidates]:
    if question.count is not None:
        return head.top(hidden, min(question.count, head.vocab))
    if question.margin is not None:
        return head.within(hidden, question.margin)
    ids: Ids = np.arange(head.vocab)
    return [Candidates(ids, logits) for logits in head.logits(hidden)]
