"""How well a model foretells a text: loss, perplexity, bits per byte."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..heads.head import Float32, Ids
from .language_model import LanguageModel
from .long_text import encode_long
from .session import check_tokens
from .tokenizer import Tokenizer

_CONTEXT = 2048  # tokens, where the model has room for more
_LOGITS = 1 << 23  # computed at once: 32 MB
_LARGEST_TEXT = 1 << 26  # bytes

Progress = Callable[[int, int], None]  # tokens done, of how many


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a text was foretold.

    Attributes:
        loss: mean of -ln p over the tokens scored, nats per token.
        perplexity: e to the loss; infinite where that overflows.
        bits_per_byte: -log2 p of the text scored, per byte of its UTF-8; None for tokens without a tokenizer. Unlike
            the other two it can be compared between models with different tokenizers.
        tokens: that were scored: all but the first, or all where the model's rules put a token before a text.
        bytes: of the text scored.
        context: tokens that a prediction could look back at.
    """

    loss: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int
    bytes: int | None
    context: int


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `first` to `end` are read, anew, and those from `scored` on foretold by the ones before them."""

    first: int
    scored: int
    end: int


def windows(tokens: int, context: int, stride: int) -> Iterator[Window]:
    """Cut a text so that each token but the first is foretold once.

    The first window foretells `context` tokens, each later one `stride` more, with `context` tokens to look back at for
    the last of them and `context - stride` at least for the first.
    """
    scored = 1
    while scored < tokens:
        end = min(scored + (context if scored == 1 else stride), tokens)
        yield Window(max(0, end - 1 - context), scored, end)
        scored = end


def perplexity(
    model: LanguageModel,
    text: str | Ids,
    *,
    context: int | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """Return how well the model foretells a text.

    Args:
        model: any.
        text: a text, or tokens as they are; then none is put before them.
        context: tokens that a prediction may look back at; without, the model's context but at most 2048.
        stride: tokens scored per window after the first (see `windows`); without, the context: no overlap, the least
            work, the highest loss.
        progress: called after each window.

    Raises:
        BitsimError: for a context that the model does not have, a text of less than two tokens or more than 64 MiB.
    """
    context, stride = _sizes(model, context, stride)
    tokens, size = _tokens_and_bytes(model, text)
    total = 0.0
    for window in windows(len(tokens), context, stride):
        total -= float(log_likelihoods(model, tokens, window).sum())
        if progress:
            progress(window.end, len(tokens))
    count = len(tokens) - 1
    loss = total / count
    bits = total / math.log(2) / size if size else None
    return Perplexity(loss, math.exp(loss) if loss < 700 else math.inf, bits, count, size, context)


def log_likelihoods(model: LanguageModel, tokens: Ids, window: Window) -> npt.NDArray[np.float64]:
    """Return ln p of each token scored in a window."""
    inputs = tokens[window.first : window.end - 1]
    sequence = model.sequence(len(inputs))
    skipped = window.scored - 1 - window.first
    if skipped:
        model.step([(sequence, inputs[:skipped])])
    hidden = model.hidden_states(sequence, inputs[skipped:])
    return np.concatenate([found for found, _ in scores(model, hidden, tokens[window.scored : window.end])])


def scores(
    model: LanguageModel, hidden: Float32, tokens: Ids
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """Yield, for some rows of `hidden` after the others, ln p of the row's token and whether it is the likeliest."""
    rows = max(1, _LOGITS // model.head.vocab)
    for start in range(0, len(tokens), rows):
        logits = model.head.logits(hidden[start : start + rows])
        wanted = tokens[start : start + rows, None]
        largest = logits.max(axis=1, keepdims=True)
        if not np.isfinite(largest).all():
            raise BitsimError("the model computed logits that are no finite numbers: its file may be damaged")
        own = np.take_along_axis(logits, wanted, axis=1) - largest
        likeliest = logits.argmax(axis=1) == wanted[:, 0]
        normaliser = np.log(np.exp(logits - largest).sum(axis=1, dtype=np.float64))
        yield own[:, 0].astype(np.float64) - normaliser, likeliest


def _sizes(model: LanguageModel, context: int | None, stride: int | None) -> tuple[int, int]:
    if context is None:
        context = min(model.context, _CONTEXT)
    if not 1 <= context <= model.context:
        raise BitsimError(f"context: expected 1 to the model's {model.context:,} tokens, got {context}")
    step = context if stride is None else stride
    if not 1 <= step <= context:
        raise BitsimError(f"stride: expected 1 to the context's {context} tokens, got {step}")
    return context, step


def _tokens_and_bytes(model: LanguageModel, text: str | Ids) -> tuple[Ids, int | None]:
    """Return all tokens, and how many bytes those after the first stand for."""
    if isinstance(text, str):
        if len(text) > _LARGEST_TEXT or len(text.encode("utf-8", "replace")) > _LARGEST_TEXT:
            raise BitsimError(f"the text has more than {_LARGEST_TEXT >> 20} MiB")
        tokenizer = Tokenizer(model.text)
        tokens = encode_long(tokenizer, text)
        begun = tokenizer.rules.add_bos and len(tokens) > 0 and tokens[0] == tokenizer.rules.bos
        size: int | None = len(text.encode()) - (0 if begun else _bytes(tokenizer, tokens[:1]))
    else:
        tokens = np.asarray(text, np.int64)
        size = None if model.text.tokenizer is None else _bytes(Tokenizer(model.text), tokens[1:])
    if len(tokens) < 2:
        raise BitsimError("the text has less than two tokens: there is nothing to foretell")
    return check_tokens(model, tokens), size


def _bytes(tokenizer: Tokenizer, tokens: Ids) -> int:
    return len(tokenizer.decode(tokens.tolist()).encode())
