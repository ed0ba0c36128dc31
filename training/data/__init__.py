"""Text to train on: read, split, made into tokens, cut into sequences."""

from .documents import DEFAULT_DATA, Documents, HubSource, LocalSource, find_source
from .prepared import Prepared, open_prepared, prepare
from .sequences import Ordered, Sequences, shuffled
from .tokenizer import TextCoder, given_tokenizer, train_tokenizer

__all__ = [
    "DEFAULT_DATA",
    "Documents",
    "HubSource",
    "LocalSource",
    "Ordered",
    "Prepared",
    "Sequences",
    "TextCoder",
    "find_source",
    "given_tokenizer",
    "open_prepared",
    "prepare",
    "shuffled",
    "train_tokenizer",
]
