"""What GGUF calls the tensors of a model, and in which order rows of q and k lie in it."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

LINEAR = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output"} | {
    name: f"ffn_{name}" for name in ("gate", "up", "down")
}
NORM = {
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "attention_sub_norm": "attn_sub_norm",
    "ffn_sub_norm": "ffn_sub_norm",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
}
INTERLEAVED = ("llama",)  # architectures whose q and k rows are in the order of neighbours rotated together

Numbers = TypeVar("Numbers", bound=npt.NDArray[np.generic])


def halves(rows: Numbers, heads: int) -> Numbers:
    """Return rows of q or k, in which neighbours rotate together, in the order of Hugging Face, where halves do."""
    return _swapped(rows, heads, (-1, 2))


def neighbours(rows: Numbers, heads: int) -> Numbers:
    """Return rows of q or k of Hugging Face in llama.cpp's order for architecture llama."""
    return _swapped(rows, heads, (2, -1))


def _swapped(rows: Numbers, heads: int, head: tuple[int, int]) -> Numbers:
    order = np.arange(len(rows)).reshape(heads, *head).swapaxes(1, 2).reshape(-1)
    return rows[order]  # type: ignore[return-value]
