"""Text to tokens and back, by a model's own tokenizer; and back while the tokens are still coming."""

import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tokenizers

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..heads.head import Ids
from ..model.config import TextRules

_PIECE = 100_000  # characters: long texts are counted in such pieces, a fraction of a second each
_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # a token that stands for one byte
_switch = threading.Lock()  # held while a tokenizer is told whether to see control tokens, and used so


class TooLong(BitsimError):  # noqa: N818
    """A text has more tokens than there is room for."""


class Tokenizer:
    """Encodes and decodes as a model's rules say."""

    def __init__(self, rules: TextRules) -> None:
        """Read the tokenizer; a BitsimError where there is none or it is damaged."""
        if rules.tokenizer is None:
            raise BitsimError("the model comes without a tokenizer, so it can't read or write text")
        self.rules = rules
        self._inner = _read(rules.tokenizer)
        added = self._inner.get_added_tokens_decoder()
        self.control = {token.content: number for number, token in added.items() if token.special and token.content}

    def encode(self, text: str, *, bos: bool = False, control: bool = True, limit: int | None = None) -> Ids:
        """Return the tokens of a text.

        Args:
            text: any text.
            bos: put the token that begins a text in front, where the model's rules say so and it is not there already.
            control: read `<|end|>` and the like as the control tokens that they name; False for text of a stranger.
            limit: most tokens; a BitsimError says so for more, before a huge text fills the memory.
        """
        _check_unicode(text)
        if limit is not None and len(text) > _PIECE:
            self._refuse_huge(text, limit)
        coded = self._encode(text, control)
        if bos and self.rules.add_bos and self.rules.bos is not None and coded[:1] != [self.rules.bos]:
            coded.insert(0, self.rules.bos)
        tokens = np.array(coded, np.int64)
        if limit is not None and len(tokens) > limit:
            raise TooLong(f"the text has {len(tokens):,} tokens, more than the {limit:,} there is room for")
        return tokens

    def decode(self, tokens: Sequence[int] | Ids) -> str:
        """Return the text of some tokens, control tokens left out."""
        return str(self._guarded(self._inner.decode, [int(token) for token in tokens]))

    def token(self, text: str) -> int | None:
        """Return the number of the control token with this text, or None."""
        return self.control.get(text)

    def text_of(self, token: int) -> str | None:
        """Return how the vocabulary writes a token, or None where it has none of that number."""
        return self._inner.id_to_token(token)

    def decoder(self) -> "Decoder":
        """Return what decodes one answer while it comes."""
        return Decoder(self)

    def _encode(self, text: str, control: bool) -> list[int]:
        with _switch:
            self._inner.encode_special_tokens = not control
            return list(self._guarded(self._inner.encode, text, add_special_tokens=False).ids)

    def _refuse_huge(self, text: str, limit: int) -> None:
        """Count in pieces until there are surely too many: a cut changes a few tokens, not every second one."""
        count = 0
        for start in range(0, len(text), _PIECE):
            count += len(self._encode(text[start : start + _PIECE], control=True))
            if count > 2 * limit + 1000:
                raise TooLong(f"the text has far more tokens than the {limit:,} there is room for")

    def _guarded(self, call: Any, *args: Any, **keywords: Any) -> Any:
        return guarded("the model's tokenizer fails", call, *args, **keywords)


class Decoder:
    """Gives the text of tokens as they come, never half a character; all pieces together are what `decode` gives.

    A token's text depends on its neighbours: several may make one character, and some decoders take a space away at
    the start. So each piece is what the last tokens say together with the new one, less what they said without it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._start = 0  # of the tokens that the last piece of text came from
        self._told = 0  # tokens whose text has been given

    def feed(self, token: int) -> str:
        """Take the next token; return the text that is certain now, often none."""
        written = self._tokenizer.text_of(token)
        if written is None or written in self._tokenizer.control:  # no text, and what is around it stays neighbours
            return ""
        self._tokens.append(token)
        if _BYTE.fullmatch(written):  # those after it decide what it means
            return ""
        text = self._news()
        if not text or text.endswith(_HALF_CHARACTER):
            return ""
        self._start, self._told = self._told, len(self._tokens)
        return text

    def finish(self) -> str:
        """Return the text still held back: no more tokens come."""
        return self._news()

    def _news(self) -> str:
        decode = self._tokenizer.decode
        before = decode(self._tokens[self._start : self._told])
        return decode(self._tokens[self._start :])[len(before) :]


def guarded(complaint: str, call: Any, *args: Any, **keywords: Any) -> Any:
    """Call into the tokenizers package; whatever it raises, its panics too, becomes a BitsimError."""
    try:
        return call(*args, **keywords)
    except BaseException as error:
        # A Rust panic is no Exception, and its class can't be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise BitsimError(f"{complaint} ({shown(error, 200)})") from error
        raise


@lru_cache(maxsize=2)
def _read(content: bytes) -> tokenizers.Tokenizer:
    inner: tokenizers.Tokenizer = guarded("the model's tokenizer is damaged", tokenizers.Tokenizer.from_buffer, content)
    inner.no_truncation()
    inner.no_padding()
    return inner


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BitsimError("expected text in UTF-8, got bytes that are none") from error
