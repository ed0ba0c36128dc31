"""A checkpoint that is another but for its matrices, or its constants."""

from collections.abc import Callable

from ..model.config import ModelConfig, TextRules
from .checkpoint import Checkpoint, Dense, Float32, Linear


class Changed:
    """A checkpoint whose matrices are changed one after the other as they are asked for."""

    def __init__(
        self,
        base: Checkpoint,
        linear: Callable[[str, Linear], Linear] = lambda name, linear: linear,
        config: ModelConfig | None = None,
    ) -> None:
        """Take a checkpoint, what is to be done with a matrix of each name, and the constants instead of its own."""
        self.config: ModelConfig = config or base.config
        self.text: TextRules = base.text
        self._base, self._linear = base, linear

    def embedding(self) -> Dense:
        """Return the token embedding."""
        return self._base.embedding()

    def head(self) -> Dense | None:
        """Return the output head, or None."""
        return self._base.head()

    def output_norm(self) -> Float32:
        """Return the weights of the last norm."""
        return self._base.output_norm()

    def norm(self, layer: int, name: str) -> Float32 | None:
        """Return the weights of a norm, or None."""
        return self._base.norm(layer, name)

    def linear(self, layer: int, name: str) -> Linear:
        """Return a matrix of a layer, changed."""
        return self._linear(name, self._base.linear(layer, name))
