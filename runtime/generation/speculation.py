"""How many guessed tokens a step takes along: as many as make tokens come quickest, by what steps have cost so far."""

from collections import deque
from collections.abc import Sequence

MOST = 15  # guesses of one answer in a step
KEPT = 8  # seconds of the last steps of a size that are kept: the fewest count, for what disturbs only adds
STALE = 1000  # steps after which a size counts as never tried
FIRST_SLOPE = 0.5  # of a plain step's seconds: what a further token is taken to cost before any was tried
ADVANTAGE = 1.03  # times as many tokens a second, or a plain step is taken


class StepCosts:
    """Seconds of steps by the number of tokens in them."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[int, deque[float]]] = {}  # tokens: when last, seconds
        self._steps = 0

    def note(self, tokens: int, seconds: float) -> None:
        """Take the seconds of a step."""
        self._steps += 1
        if tokens not in self._noted:
            self._noted[tokens] = self._steps, deque(maxlen=KEPT)  # the first may compile and is not counted
            return
        _, kept = self._noted[tokens]
        kept.append(seconds)
        self._noted[tokens] = self._steps, kept

    def known(self) -> dict[int, float]:
        """Return the sizes that are known, in order, and their seconds."""
        self._noted = {size: noted for size, noted in self._noted.items() if self._steps - noted[0] < STALE}
        return {size: min(kept) for size, (_, kept) in sorted(self._noted.items()) if kept}


def seconds_of(known: dict[int, float], tokens: int) -> float:
    """Return the seconds that a step of so many tokens should take: on the line between those known around it.

    Beyond the largest known, on the line through it and the smallest; `known` is in order of size and not empty.
    """
    sizes = list(known)
    above = next((size for size in sizes if size >= tokens), sizes[-1])
    below = next((size for size in reversed(sizes) if size <= tokens), sizes[0])
    if above == tokens:
        return known[tokens]
    if above < tokens:
        above, below = sizes[-1], sizes[0]
    slope = (known[above] - known[below]) / (above - below) if above > below else FIRST_SLOPE * known[below]
    return known[below] + slope * (tokens - below)


class Speculation:
    """Decides for each step; `always` takes all guesses there are."""

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._costs = StepCosts()

    def note(self, tokens: int, seconds: float) -> None:
        """Take the seconds of a step that read no prompt."""
        self._costs.note(tokens, seconds)

    def counts(self, chances: Sequence[Sequence[float]]) -> list[int]:
        """Return how many guesses of each answer the next step takes along.

        Args:
            chances: of each answer, how likely its guesses are right, each with all before it: never rising.
        """
        if self._always:
            return [len(each) for each in chances]
        known = self._costs.known()
        plain = len(chances)
        if plain not in known:
            return [0] * plain
        ranked = sorted(((chance, at) for at, each in enumerate(chances) for chance in each), key=lambda one: -one[0])
        best, most, expected = ADVANTAGE * plain / known[plain], 0, float(plain)
        for count, (chance, _) in enumerate(ranked, 1):
            expected += chance
            if (rate := expected / seconds_of(known, plain + count)) > best:
                best, most = rate, count
        taken = [at for _, at in ranked[:most]]
        return [taken.count(at) for at in range(plain)]
