"""A conversation as one prompt, written by the model's chat template."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from ..heads.head import Ids
from ..model.config import TextRules
from .template_sandbox import SandboxedTemplate
from .tokenizer import Tokenizer, TooLong

Message = Mapping[str, Any]  # "role" and "content" at least

_LARGEST_SOURCE = 1_000_000  # characters of a template
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # no characters, says Unicode, but for a program's own use
_LITERAL = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


class ChatTemplate:
    """Writes conversations the way a model was trained on."""

    def __init__(self, rules: TextRules) -> None:
        """Compile the model's template; a BitsimError where there is none or it is damaged."""
        if rules.chat_template is None:
            raise BitsimError("the model has no chat template: it continues text and was not made to chat")
        if len(rules.chat_template) > _LARGEST_SOURCE:
            raise BitsimError(f"the chat template has more than {_LARGEST_SOURCE:,} characters")
        self._special = dict(rules.special)
        try:
            self._template = SandboxedTemplate(rules.chat_template)
        except Exception as error:  # of the parser, of Python's compiler, of too deep a nesting
            raise BitsimError(f"the chat template is damaged ({shown(error, 200)})") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any) -> str:
        """Return the conversation as text.

        Args:
            messages: with a "role" and a "content" each, the oldest first.
            add_generation_prompt: end with what an answer begins with.
            variables: more for the template, such as `tools`.

        Raises:
            BitsimError: for messages that are none, and with what the template has to say against them.
        """
        known = {"messages": _plain(_checked(messages)), "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render({**self._special, "tools": None, "documents": None, **variables, **known})
        except BitsimError:
            raise
        except Exception as error:  # a template can raise whatever Python can
            raise BitsimError(f"the chat template refuses this conversation ({shown(error, 200)})") from error

    def encode(
        self, tokenizer: Tokenizer, messages: Sequence[Message], *, limit: int | None = None, **variables: Any
    ) -> Ids:
        """Return the conversation as tokens; see `render`.

        What a message says stays text: where it spells a control token such as `<|im_end|>` it gets the tokens of those
        letters, and can't end its turn or begin another's.

        Args:
            tokenizer: of the same model.
            messages: the conversation.
            limit: most tokens, see `Tokenizer.encode`.
            variables: as for `render`.
        """
        marked = [_map_text(message, lambda text: _marked(text, tokenizer)) for message in _checked(messages)]
        parts = _LITERAL.split(self.render(marked, **variables))
        coded = [
            tokenizer.encode(_unmarked(part), control=place % 2 == 0, limit=limit)
            for place, part in enumerate(parts)  # every second one is a literal
        ]
        tokens = np.concatenate(coded)
        if limit is not None and len(tokens) > limit:
            raise TooLong(f"the conversation has {len(tokens):,} tokens, more than the {limit:,} there is room for")
        return tokens


def _checked(messages: Sequence[Message]) -> Sequence[Message]:
    for message in messages:
        if not _is_message(message):
            raise BitsimError(f"expected messages with a role and a content, got {shown(message)}")
    return messages


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and "content" in value


def _marked(text: str, tokenizer: Tokenizer) -> str:
    """Put marks round control tokens that are only text."""
    if not any(control in text for control in tokenizer.control):
        return _unmarked(text)
    longest_first = sorted(tokenizer.control, key=len, reverse=True)
    spelled = re.compile("|".join(map(re.escape, longest_first)))
    return spelled.sub(lambda match: f"{_OPEN}{match[0]}{_CLOSE}", _unmarked(text))


def _unmarked(text: str) -> str:
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def _plain(messages: Sequence[Message]) -> list[Any]:
    return [_map_text(message, str) for message in messages]


def _map_text(value: Any, change: Any) -> Any:
    """Copy plain data, its texts changed but for a message's role; other objects have methods to misuse: refused."""
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(name): part if name == "role" else _map_text(part, change) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_text(part, change) for part in value]
    raise BitsimError(f"expected text in a message, got {shown(type(value).__name__)}")
