"""How byte-level vocabularies cut text before merging, by llama.cpp's names (`tokenizer.ggml.pre`).

The expressions are those of the models' own tokenizer.json files; llama.cpp's src/llama-vocab.cpp says which name has
which.
"""

from typing import Any

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_QWEN2 = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(expression: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(True)]}

# The first name of each is the one that is written.
_NAMES: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("gpt-2", "default", ""), _byte_level(use_regex=True)),
    (("smollm", "starcoder", "refact"), _DIGITS),
    (("llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe"), _split(_LLAMA3)),
    (("qwen2", "deepseek-r1-qwen"), _split(_QWEN2)),
)
PRE_TOKENIZERS = {name: entry for names, entry in _NAMES for name in names}
IGNORE_MERGES = (
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
)  # a whole piece that is a token is never cut; and bos leads
COMPOSED = ("qwen2", "deepseek-r1-qwen")  # text is brought to Unicode's composed form first


def name_of(pre_tokenizer: object) -> str | None:
    """Return llama.cpp's name of a tokenizer.json's pre-tokenizer; None if it has none that we know."""
    plain = _without_flags(pre_tokenizer)
    return next((names[0] for names, entry in _NAMES if _without_flags(entry) == plain), None)


def _without_flags(entry: object) -> object:
    """Return a pre-tokenizer without the settings that change no token."""
    if isinstance(entry, dict):
        kept = {key: _without_flags(value) for key, value in entry.items() if key not in ("trim_offsets", "invert")}
        inner = kept.get("pretokenizers")
        return inner[0] if isinstance(inner, list) and len(inner) == 1 else kept
    return [_without_flags(item) for item in entry] if isinstance(entry, list) else entry
