"""Documents to tokens, sequences and their order, in plain loops."""

import numpy as np
import tokenizers


def tokens_of(documents: list[str], tokenizer: tokenizers.Tokenizer, eos: int) -> list[int]:
    """Return the tokens of documents, each encoded at once, with `eos` after each."""
    tokens: list[int] = []
    for text in documents:
        for token in tokenizer.encode(text, add_special_tokens=False).ids:
            tokens.append(token)
        tokens.append(eos)
    return tokens


def sequences_of(tokens: list[int], context: int) -> list[list[int]]:
    """Return runs of `context` tokens, without the rest."""
    found = []
    for start in range(0, len(tokens), context):
        run = tokens[start : start + context]
        if len(run) == context:
            found.append(run)
    return found


def order_of(sequences: int, count: int, seed: int) -> list[int]:
    """Return which sequence each of `count` items is: all of them by a random key, then all by new keys, and so on."""
    taken: list[int] = []
    epoch = 0
    while len(taken) < count:
        source = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
        keys = [(int(source.random_raw()), position) for position in range(sequences)]
        taken += [position for _, position in sorted(keys)]
        epoch += 1
    return taken[:count]
