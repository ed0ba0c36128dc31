"""A chat that goes on: each turn reads only what is new, for the sequence still holds the turns before."""

from collections.abc import Generator, Iterator

import numpy as np

from ..heads.head import Ids
from .chat import ChatTemplate
from .language_model import LanguageModel
from .sampling import Sampling
from .session import Piece, Request, Session, check_tokens
from .speculation import Speculation
from .tokenizer import Tokenizer


def common_prefix(one: Ids, other: Ids) -> int:
    """Return how many tokens two lists have in common at the start."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


class Conversation:
    """One person's chat with a model."""

    def __init__(self, model: LanguageModel, *, system: str | None = None, context: int | None = None) -> None:
        """Begin a chat.

        Args:
            model: one with a tokenizer and a chat template; a BitsimError without.
            system: what the model is told before all else.
            context: tokens of the whole conversation, at most the model's context; without, what the model thinks fit.
        """
        self._tokenizer = Tokenizer(model.text)
        self._template = ChatTemplate(model.text)
        self._model = model
        self._speculation = Speculation()
        self._sequence = model.sequence(context)
        self._read: Ids = np.array([], np.int64)  # what the sequence holds
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said, the system's text first."""
        return [*self._system, *self._turns]

    def clear(self) -> None:
        """Forget all turns."""
        self._turns = []

    def ask(self, text: str, *, sampling: Sampling | None = None, max_new_tokens: int | None = None) -> "Turn":
        """Return the answer to a message, as an iterator that computes while it is read.

        The message and what came of the answer join the conversation when the iterator ends, is closed or interrupted;
        without a token of an answer neither does. A BitsimError comes at once where there is no room for the message.
        """
        question = {"role": "user", "content": text}
        limit = min(self._sequence.capacity, self._model.context)
        prompt = self._template.encode(self._tokenizer, [*self.messages, question], limit=limit)
        check_tokens(self._model, prompt)
        self._sequence.truncate(min(common_prefix(self._read, prompt), len(prompt) - 1))
        request = Request(prompt=prompt, max_new_tokens=max_new_tokens, sampling=sampling or Sampling())
        session = Session(self._model, self._tokenizer, speculation=self._speculation)
        session.add(request, self._sequence)
        return Turn(len(prompt), len(prompt) - self._sequence.length, self._pieces(session, question, prompt))

    def _pieces(self, session: Session, question: dict[str, str], prompt: Ids) -> Generator[Piece, None, None]:
        pieces: list[Piece] = []
        length = self._sequence.length
        try:
            while session.active:
                for piece in session.step():
                    pieces.append(piece)
                    length = self._sequence.length
                    yield piece
        finally:
            self._sequence.truncate(length)  # an interrupted step may have left it longer
            self._read = np.append(prompt, [piece.token for piece in pieces]).astype(np.int64)[:length]
            if pieces:
                answer = "".join(piece.text for piece in pieces)
                self._turns += [question, {"role": "assistant", "content": answer}]


class Turn:
    """An answer in a conversation, token by token.

    Attributes:
        prompt_tokens: of the whole conversation.
        new_prompt_tokens: of those, what the model has not read before.
    """

    def __init__(self, prompt_tokens: int, new_prompt_tokens: int, pieces: Generator[Piece, None, None]) -> None:
        self.prompt_tokens = prompt_tokens
        self.new_prompt_tokens = new_prompt_tokens
        self._pieces = pieces

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def close(self) -> None:
        """Compute no more: the answer is what was read of it."""
        self._pieces.close()
