"""Text from a model: tokens, sampling, stop strings, answers one at a time or together, chats, and perplexity."""

from .chat import ChatTemplate
from .conversation import Conversation
from .evaluate import Perplexity, perplexity
from .generate import Answer, generate, generate_batch
from .language_model import LanguageModel
from .sampling import Sampling
from .session import Piece, Request, Session, prompt_tokens
from .tokenizer import Decoder, Tokenizer

__all__ = [
    "Answer",
    "ChatTemplate",
    "Conversation",
    "Decoder",
    "LanguageModel",
    "Perplexity",
    "Piece",
    "Request",
    "Sampling",
    "Session",
    "Tokenizer",
    "generate",
    "generate_batch",
    "perplexity",
    "prompt_tokens",
]
