"""What a checkpoint is once it is open, whatever file it lies in."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..model.config import ModelConfig, TextRules
from ..packing.codec import Ternary

Float32 = npt.NDArray[np.float32]

LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
# Norms of a layer; the sub-norms come before `o` and before `down`, q_norm and k_norm are of one head.
NORMS = ("attention_norm", "ffn_norm", "attention_sub_norm", "ffn_sub_norm", "q_norm", "k_norm")


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A matrix of 16-bit floating-point numbers (rows, columns) = (outputs, inputs).

    `bits` are uint16: of IEEE half precision, or of bfloat16 if `brain`.
    """

    bits: npt.NDArray[np.uint16]
    brain: bool = False

    def as_float32(self) -> Float32:
        """Return the numbers."""
        if not self.brain:
            return self.bits.view(np.float16).astype(np.float32)
        return (self.bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """One matrix of a layer and what goes with it.

    A ternary one takes int8 activations (per token, by the largest) and gives weights @ x times scales: the scales of
    `Ternary` always multiply, whatever the file does. `norm` is the RMSNorm that some checkpoints have inside of their
    linear layers, before activations are quantised, and `norm_eps` what it adds to the mean square.
    """

    weights: Ternary | Dense
    bias: Float32 | None = None
    norm: Float32 | None = None
    norm_eps: float = 1e-6


class Checkpoint(Protocol):
    """A model in a file or folder; tensors are read when asked for."""

    config: ModelConfig
    text: TextRules

    def embedding(self) -> Dense:
        """Return the token embedding (vocabulary, hidden)."""
        ...

    def head(self) -> Dense | None:
        """Return the output head (vocabulary, hidden); None where it is the embedding."""
        ...

    def output_norm(self) -> Float32:
        """Return the weights of the last norm."""
        ...

    def norm(self, layer: int, name: str) -> Float32 | None:
        """Return the weights of a norm of a layer, one of `NORMS`; None where the model has none of this name."""
        ...

    def linear(self, layer: int, name: str) -> Linear:
        """Return a matrix of a layer, one of `LINEARS`; rows of q and k in the order of Hugging Face.

        Raises:
            BitsimError: the tensor is damaged; file and tensor are named.
        """
        ...
