"""Tokenizer and chat template: whether they are there, and whether they are this model's."""

import re
from collections.abc import Iterator

from bitsim.energy_tables import BitsimError

from ..checkpoints.text_rules import checked_tokenizer
from ..generation.tokenizer import Tokenizer
from ..model.config import TextRules
from .contents import Contents
from .finding import ERROR, NOTE, WARNING, Finding

LARGEST_VOCABULARY = 1 << 40
LEAST_SHARE, LEAST_ROWS = 0.9, 512  # of the vocabulary's rows that have a token; padding rounds up to some hundreds
_CHAT_NAME = re.compile(r"instruct|chat|(?<![a-z])it(?![a-z])|(?<![a-z])dpo|(?<![a-z])sft", re.IGNORECASE)
_CHAT_TOKENS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "<|assistant|>", "[INST]")
_TEMPLATE_FROM = (
    "copy chat_template.jinja, or chat_template of tokenizer_config.json, from the original; "
    "a GGUF file is to be converted again from it"
)


def check_text(contents: Contents) -> Iterator[Finding]:
    """Look at tokenizer, chat template and the tokens that end an answer."""
    refusal, rules = contents.refusals.get("text"), contents.text
    if refusal is not None:
        what = "the tokenizer is damaged, or of another vocabulary than the embedding"
        yield Finding(ERROR, "tokenizer", what, refusal, "put the tokenizer's files of this very model in their place")
    if rules is None or contents.config is None:
        return
    if rules.tokenizer is None:
        what = "there is no tokenizer: the model can neither read nor write text"
        yield Finding(WARNING, "tokenizer", what, *_searched(contents))
        return
    yield from _size(contents, rules, contents.config.spec.vocab)
    yield from _template(contents, rules)
    if not rules.eos:
        yield Finding(
            WARNING,
            "end-of-text",
            "no token ends an answer: every answer goes on to the limit",
            "no eos_token_id, and no token of that meaning",
            "state eos_token_id (generation_config.json, or tokenizer.ggml.eos_token_id)",
        )


def _size(contents: Contents, rules: TextRules, vocab: int) -> Iterator[Finding]:
    try:
        tokens = _tokens(contents, rules)
    except BitsimError as error:
        yield Finding(ERROR, "tokenizer", "the tokenizer is damaged", str(error), "copy it from the original")
        return
    if tokens < LEAST_SHARE * vocab and vocab - tokens >= LEAST_ROWS:
        yield Finding(
            WARNING,
            "tokenizer",
            "the tokenizer has far fewer tokens than the embedding has rows: it looks like that of another model",
            f"{tokens:,} tokens, {vocab:,} rows",
            "put the tokenizer's files of this very model in their place",
        )


def _tokens(contents: Contents, rules: TextRules) -> int:
    assert rules.tokenizer is not None
    tokenizer = checked_tokenizer(rules.tokenizer, LARGEST_VOCABULARY, str(contents.place))
    return tokenizer.get_vocab_size(with_added_tokens=True)


def _template(contents: Contents, rules: TextRules) -> Iterator[Finding]:
    if rules.chat_template is not None:
        return
    name = _chat_name(contents)
    control = Tokenizer(rules).control
    tokens = [token for token in _CHAT_TOKENS if token in control]
    if name is not None:
        what = "the chat template is missing: a model tuned to answer gets its questions in a form it does not know"
        evidence = f"the name says that it was tuned to answer ('{name[:80]}')"
        yield Finding(WARNING, "chat-template", what, evidence, _TEMPLATE_FROM)
    elif tokens:
        what = "there is no chat template; a base model needs none"
        evidence = f"the tokenizer has tokens of a chat: {', '.join(tokens)}"
        yield Finding(NOTE, "chat-template", what, evidence, f"if it is a chat model, {_TEMPLATE_FROM}")


def _chat_name(contents: Contents) -> str | None:
    """Return a name of the model that says it was tuned for conversation."""
    keys = ("general.name", "general.basename", "general.finetune", "_name_or_path")
    names = [str(contents.metadata[key]) for key in keys if isinstance(contents.metadata.get(key), str)]
    return next((name for name in [*names, contents.place.resolve().name] if _CHAT_NAME.search(name)), None)


def _searched(contents: Contents) -> tuple[str, str]:
    """Return where a tokenizer would be, and what to do."""
    if contents.form == "hf":
        return "no tokenizer.json", "copy tokenizer.json from the original"
    where = "no tokenizer.ggml.tokens" if contents.form == "gguf" else "none in the file"
    return where, "convert the original again, from a folder that has its tokenizer.json"
