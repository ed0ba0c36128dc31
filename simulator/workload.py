"""What is asked of a model: how many sequences, how long."""

from dataclasses import dataclass

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

MAX_BATCH = 10**7
MAX_TRAINING_TOKENS = 1e18
MAX_CONTEXT = 10**8  # ten times the longest context a published model claims (10M tokens, Llama 4 Scout)


@dataclass(frozen=True, slots=True)
class Workload:
    """`batch` sequences, each with `prompt_tokens` read and `new_tokens` generated.

    `context` is the number of tokens in the KV cache when the last one has been generated. Where it is more than
    prompt and new tokens, the rest were there before (an earlier turn) and are attended to as well.
    """

    batch: int
    prompt_tokens: int
    new_tokens: int
    context: int

    @property
    def earlier_tokens(self) -> int:
        """Tokens in the KV cache before this prompt."""
        return self.context - self.prompt_tokens - self.new_tokens

    @property
    def mean_past(self) -> float:
        """Tokens that the average decode step finds in the KV cache."""
        return self.earlier_tokens + self.prompt_tokens + (max(self.new_tokens, 1) - 1) / 2


def make_workload(
    batch: int = 1, prompt_tokens: int = 512, new_tokens: int = 128, context: int | None = None
) -> Workload:
    """Check and complete a workload; the context is prompt and new tokens unless a longer one is given.

    Raises:
        BitsimError: a count that is negative, not a whole number, or beyond reason.
    """
    _check("batch", batch, 1, MAX_BATCH)
    _check("prompt tokens", prompt_tokens, 0, MAX_CONTEXT)
    _check("new tokens", new_tokens, 0, MAX_CONTEXT)
    needed = prompt_tokens + new_tokens
    if needed == 0:
        raise BitsimError("prompt tokens and new tokens: expected at least one of them above 0")
    if needed > MAX_CONTEXT:
        raise BitsimError(f"prompt tokens and new tokens: expected at most {MAX_CONTEXT:,} together, got {needed:,}")
    if context is None:
        context = needed
    _check("context", context, needed, MAX_CONTEXT)
    return Workload(batch, prompt_tokens, new_tokens, context)


def _check(what: str, value: float, minimum: int, maximum: int) -> None:
    if not is_whole(value) or not minimum <= value <= maximum:
        raise BitsimError(f"{what}: expected a whole number from {minimum:,} to {maximum:,}, got {shown(value)}")


def check_training_tokens(tokens: float) -> None:
    """Raise unless a number of training tokens is one that somebody could mean."""
    if not 1 <= tokens <= MAX_TRAINING_TOKENS:  # false for NaN
        raise BitsimError(f"training tokens: expected 1 to {MAX_TRAINING_TOKENS:g}, got {shown(tokens)}")


def is_whole(value: float) -> bool:
    """Tell whether a number is whole (and no truth value)."""
    return not isinstance(value, bool) and (isinstance(value, int) or float(value).is_integer())
