"""A language model of a few numbers: what `bitsim.runtime.generation` asks of a model, without any weights to speak of.

Its hidden state is a recurrence over the tokens, computed one token after the other, so that nothing depends on what
else is in a step. It counts what it is asked.
"""

import json
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from bitsim.energy_tables import BitsimError
from bitsim.runtime.heads.head import Candidates, Float32, Ids
from bitsim.runtime.model.config import ModelConfig, Rope, TextRules
from bitsim.simulator import ModelSpec

CONTROL = ("<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level_tokenizer(merges: tuple[str, ...] = ("th", "he", "in", "Ġt", "Ġth", "Ġthe")) -> tokenizers.Tokenizer:
    """A byte-level BPE: 256 bytes, some merges, control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: number for number, text in enumerate([*alphabet, *merges])}
    pairs = [(merge[:-1], merge[-1]) for merge in merges]
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(CONTROL))
    return made


def byte_fallback_tokenizer() -> tokenizers.Tokenizer:
    """A tokenizer as SentencePiece's become: words begin with a bar, unknown characters are bytes."""
    words = ["▁", "▁the", "▁cat", "s", "a", "b", "c", "h", "e", "l", "o", "t"]
    vocab = {text: number for number, text in enumerate(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words])}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    content = json.loads(made.to_str())
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    made.add_special_tokens(list(CONTROL))
    return made


def text_rules(made: tokenizers.Tokenizer, **changes: Any) -> TextRules:
    """Rules as a chat model has them."""
    begin, end, _, turn = (made.token_to_id(text) for text in CONTROL)
    rules = {
        "tokenizer": made.to_str().encode(),
        "chat_template": CHATML,
        "bos": begin,
        "eos": (end, turn),
        "special": {"bos_token": "<|begin|>", "eos_token": "<|end|>"},
    }
    return TextRules(**(rules | changes))


class FakeHead:
    """All logits, then whatever is asked of them; remembers the questions."""

    def __init__(self, matrix: Float32) -> None:
        self.vocab = len(matrix)
        self.bytes_read = 0
        self.matrix = matrix
        self.asked: list[tuple[str, float, int]] = []  # question, count or margin, rows

    def _logits(self, hidden: Float32) -> Float32:
        self.bytes_read += self.matrix.nbytes
        rows = [(self.matrix.astype(np.float64) @ row.astype(np.float64)).astype(np.float32) for row in hidden]
        return np.array(rows, np.float32).reshape(len(hidden), self.vocab)

    def logits(self, hidden: Float32) -> Float32:
        self.asked.append(("logits", 0, len(hidden)))
        return self._logits(hidden)

    def top(self, hidden: Float32, count: int) -> list[Candidates]:
        assert 1 <= count <= self.vocab
        self.asked.append(("top", count, len(hidden)))
        return [_kept(row, np.arange(self.vocab) < count) for row in self._logits(hidden)]

    def within(self, hidden: Float32, margin: float) -> list[Candidates]:
        self.asked.append(("within", margin, len(hidden)))
        return [_kept(row, np.sort(row)[::-1] >= row.max() - margin) for row in self._logits(hidden)]


def _kept(logits: Float32, places: np.ndarray[Any, np.dtype[np.bool_]]) -> Candidates:
    order = np.argsort(-logits, kind="stable")[places]
    return Candidates(order, logits[order])


class FakeSequence:
    """The states after each token."""

    def __init__(self, capacity: int, hidden: int) -> None:
        self.capacity = -(-capacity // 16) * 16  # more than was asked for, as a model may give
        self.states = [np.zeros(hidden)]

    @property
    def length(self) -> int:
        return len(self.states) - 1

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        del self.states[length + 1 :]

    def copy_from(self, other: "FakeSequence", length: int) -> None:
        assert 0 <= length <= min(other.length, self.capacity)
        self.states = other.states[: length + 1]


class FakeModel:
    """A model of `hidden` numbers that says some nonsense, always the same after the same tokens."""

    def __init__(
        self,
        text: TextRules,
        vocab: int,
        *,
        hidden: int = 16,
        context: int = 256,
        scale: float = 4.0,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        spec = ModelSpec(
            name="fake", architecture="llama", layers=1, hidden=hidden, heads=1, kv_heads=1, head_dim=hidden, ffn=1,
            vocab=vocab, max_context=context,
        )  # fmt: skip
        self.config = ModelConfig(spec=spec, norm_eps=1e-5, rope=Rope(theta=1e4))
        self.text = text
        self.context = context
        self.head = FakeHead((random.normal(size=(vocab, hidden)) * scale).astype(np.float32))
        self._embedding = random.normal(size=(vocab, hidden))
        self._memory = random.normal(size=(hidden, hidden)) / np.sqrt(hidden)
        self.steps: list[list[int]] = []  # of each step, how many tokens each part had

    def sequence(self, capacity: int | None = None) -> FakeSequence:
        if capacity is not None and not 1 <= capacity <= self.context:
            raise BitsimError(f"context: expected at most {self.context:,} tokens, got {capacity:,}")
        return FakeSequence(capacity or self.context, self.config.spec.hidden)

    def step(self, parts: list[tuple[FakeSequence, Ids]], last: list[int] | None = None) -> Float32:
        self.steps.append([len(tokens) for _, tokens in parts])
        counts = [1] * len(parts) if last is None else last
        states = [self.hidden_states(sequence, tokens) for sequence, tokens in parts]
        return np.concatenate([state[len(state) - count :] for state, count in zip(states, counts, strict=True)])

    def hidden_states(self, sequence: FakeSequence, tokens: Ids) -> Float32:
        assert len(tokens)
        assert sequence.length + len(tokens) <= sequence.capacity
        start = len(sequence.states)
        for token in tokens:
            state = np.tanh(self._memory @ sequence.states[-1] + self._embedding[token])
            sequence.states.append(state)
        return np.array(sequence.states[start:], np.float32)


def fake_model(**changes: Any) -> FakeModel:
    """A chat model with a byte-level tokenizer."""
    made = byte_level_tokenizer()
    options = {name: changes.pop(name) for name in ("context", "scale", "seed") if name in changes}
    return FakeModel(text_rules(made, **changes), made.get_vocab_size(), **options)
