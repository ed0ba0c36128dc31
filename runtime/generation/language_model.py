"""What generation asks of a model: sequences that remember, and a step for several of them at once."""

from typing import Any, Protocol

from ..heads.head import Float32, Head, Ids
from ..model.config import ModelConfig, TextRules


class Sequence(Protocol):
    """The tokens that a model has read, as keys and values of its own."""

    @property
    def length(self) -> int:
        """Tokens so far."""
        ...

    @property
    def capacity(self) -> int:
        """Tokens that it has room for: what was asked for or a little more."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        ...

    def copy_from(self, other: Any, length: int) -> None:
        """Become a copy of the first `length` tokens of another sequence of the same model."""
        ...


class LanguageModel(Protocol):
    """A decoder-only model.

    A sequence is typed as Any where it goes back into the model: a model takes the sequences that it made, no others.
    """

    @property
    def config(self) -> ModelConfig:
        """Shape and constants."""
        ...

    @property
    def text(self) -> TextRules:
        """How text becomes tokens and back."""
        ...

    @property
    def head(self) -> Head:
        """What turns a hidden state into logits."""
        ...

    @property
    def context(self) -> int:
        """The most tokens of a sequence."""
        ...

    def sequence(self, capacity: int | None = None) -> Sequence:
        """Return an empty sequence with room for `capacity` tokens, at most the context."""
        ...

    def step(self, parts: list[tuple[Any, Ids]], last: list[int] | None = None) -> Float32:
        """Append tokens to each sequence, in one pass over the weights.

        Args:
            parts: sequences, and what each goes on with.
            last: of how many of each part's last tokens the states are wanted, none allowed; 1 of each without.

        Returns:
            The hidden states after the last norm of those tokens, in their order: (states, hidden).
        """
        ...

    def hidden_states(self, sequence: Any, tokens: Ids) -> Float32:
        """Append tokens to a sequence and return the hidden state of every one: (tokens, hidden)."""
        ...
