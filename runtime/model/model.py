"""A model that runs: weights, threads, and steps of sequences."""

import threading
from collections.abc import Iterator
from collections.abc import Sequence as Several
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..generation.generate import generate
from ..generation.sampling import Sampling
from ..generation.session import Piece
from ..heads.head import Head, Ids
from ..kernels.dense import padded
from ..kernels.kernel import Compiled, Kernel
from ..threads import Team
from . import buffers, rotary
from . import step as steps
from .assembly import Assembled
from .attention import attend_bytes, attend_halves
from .config import ModelConfig, TextRules
from .kv_cache import Sequence, padded_head

Float32 = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.integer[Any]]

MULTIPLY = steps.multiply_entry()
UNBOUNDED = 1 << 40  # positions of a window where there is none
DEFAULT_CONTEXT = 4096  # of a sequence, where nothing is asked for and the model takes as much


class Model:
    """A language model on this machine's CPU.

    `head` answers for logits; `config` and `text` say what the model is and how text becomes tokens. Calls from several
    Python threads take turns.
    """

    def __init__(self, assembled: Assembled, kernel: Kernel, head: Head, team: Team, kv: str = "f16") -> None:
        """Take arrays packed for the kernel.

        Raises:
            BitsimError: the kernel is the reference, which no model can run with, or reads another packing.
        """
        if not all(isinstance(method, Compiled) for _, method in kernel.methods):
            raise BitsimError(f"kernel: '{kernel.name}' multiplies single matrices only, no model runs with it")
        if kernel.packing != assembled.packing:
            raise BitsimError(
                f"kernel: '{kernel.name}' reads {kernel.packing}, the model is packed as {assembled.packing}"
            )
        self.config: ModelConfig = assembled.config
        self.text: TextRules = assembled.text
        self.head, self.kernel, self.kv, self.threads = head, kernel, kv, team.threads
        self._assembled, self._team = assembled, team
        self._shape = shape_of(assembled.config)
        self._buffers: dict[int, steps.Buffers] = {}
        self._positions = 0
        self._bytes_read = 0
        self._turn = threading.Lock()
        self._make_room(1)
        self.weight_bytes = assembled.matrices.nbytes + assembled.floats.nbytes
        self._cache_bytes = Sequence(self.config, 1, kv).bytes_per_token

    @property
    def context(self) -> int:
        """The most positions of a sequence: what the model was made for, or a default where it does not say."""
        return self.config.spec.max_context or DEFAULT_CONTEXT

    @property
    def bytes_read(self) -> int:
        """Bytes of weights, cache and head that steps have asked memory for so far."""
        return self._bytes_read + self.head.bytes_read

    def sequence(self, capacity: int | None = None) -> Sequence:
        """Return an empty sequence for up to `capacity` tokens, by default 4,096 or fewer.

        Raises:
            BitsimError: a capacity below 1 or above the model's context.
        """
        wanted = min(self.context, DEFAULT_CONTEXT) if capacity is None else capacity
        if wanted > self.context:
            raise BitsimError(f"context: expected at most {self.context:,} tokens, the model's context, got {wanted:,}")
        return Sequence(self.config, wanted, self.kv)

    def step(self, parts: Several[tuple[Sequence, Tokens]], last: Several[int] | None = None) -> Float32:
        """Append tokens to sequences; all share each pass over the weights.

        Args:
            parts: sequences and what each goes on with.
            last: of how many of each part's last tokens the states are wanted; 1 of each without.

        Returns: float32 (states wanted, hidden), after the last norm, in the order of the tokens.

        Raises:
            BitsimError: no tokens, a token that the vocabulary has not, a sequence that is full, named twice, or of
                another model.
        """
        with self._turn:
            rows = self._rows(parts)
            ends = np.cumsum([len(tokens) for _, tokens in parts])
            counts = [1] * len(parts) if last is None else last
            wanted = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, counts, strict=True)])
            rows[wanted, steps.WANTED] = np.arange(len(wanted))
            return self._run(parts, rows, len(wanted))

    def hidden_states(self, sequence: Sequence, tokens: Tokens) -> Float32:
        """Append tokens to a sequence and return the states of all of them: float32 (tokens, hidden).

        Raises:
            BitsimError: see `step`.
        """
        parts = [(sequence, tokens)]
        with self._turn:
            rows = self._rows(parts)
            rows[:, steps.WANTED] = np.arange(len(rows))
            return self._run(parts, rows, len(rows))

    def generate(
        self, prompt: str | Ids, *, max_new_tokens: int | None = 256, stop: Several[str] = (), **sampling: Any
    ) -> Iterator[Piece]:
        """Return an iterator over an answer, token by token, with the text as soon as it is certain.

        Args:
            prompt: text as it is (no chat format), or tokens.
            max_new_tokens: the answer's length at most; None for as long as the context lasts.
            stop: texts that end the answer and are not part of it.
            sampling: the fields of `generation.sampling.Sampling`, such as temperature=0.8, top_k=40, seed=1; greedy
                without any.

        Raises:
            BitsimError: at once, for a prompt that is too long, or settings that have no meaning.
        """
        return generate(self, prompt, max_new_tokens=max_new_tokens, sampling=Sampling(**sampling), stop=stop)

    def close(self) -> None:
        """End the threads."""
        self._team.close()

    def _rows(self, parts: Several[tuple[Sequence, Tokens]]) -> steps.Int64:
        """Check what is asked for and lay it out for a step, no result wanted yet."""
        if not parts:
            raise BitsimError("step: expected a sequence or more, got none")
        if len({id(sequence) for sequence, _ in parts}) < len(parts):
            raise BitsimError("step: expected each sequence once")
        if any(sequence.config is not self.config for sequence, _ in parts):
            raise BitsimError("step: expected sequences that this model made")
        rows = np.empty((sum(len(tokens) for _, tokens in parts), 7), np.int64)
        rows[:, steps.WANTED] = steps.NONE
        start = 0
        for sequence, tokens in parts:
            count = len(tokens)
            if count == 0:
                raise BitsimError("step: expected a token or more for each sequence, got none")
            if sequence.length + count > sequence.capacity:
                room = f"the sequence has room for {sequence.capacity:,}"
                raise BitsimError(f"context: {sequence.length + count:,} tokens do not fit, {room}")
            here = rows[start : start + count]
            here[:, steps.TOKEN] = tokens
            here[:, steps.POSITION] = np.arange(sequence.length, sequence.length + count)
            here[:, steps.KEYS :] = sequence.row
            start += count
        self._check_tokens(rows[:, steps.TOKEN])
        self._make_room(max(sequence.capacity for sequence, _ in parts))
        return rows

    def _check_tokens(self, tokens: steps.Int64) -> None:
        vocabulary = self.config.spec.vocab
        if tokens.min() < 0 or tokens.max() >= vocabulary:
            wrong = tokens[(tokens < 0) | (tokens >= vocabulary)][0]
            raise BitsimError(f"tokens: expected 0 to {vocabulary - 1:,}, got {wrong:,}")

    def _run(self, parts: Several[tuple[Sequence, Tokens]], rows: steps.Int64, wanted: int) -> Float32:
        """Do the steps, as many tokens at once as buffers hold, and let the sequences know."""
        result = np.empty((wanted, self._shape.hidden), np.float32)
        for start in range(0, len(rows), buffers.MOST):
            here = rows[start : start + buffers.MOST].copy()
            places = here[:, steps.WANTED]
            mine = np.flatnonzero(places >= 0)
            targets = places[mine].copy()
            places[mine] = np.arange(len(mine))
            state = self._once(here)
            result[targets] = state[: len(mine)]
        for sequence, tokens in parts:
            sequence.length += len(tokens)
        return result

    def _once(self, rows: steps.Int64) -> Float32:
        memory, method = self._buffers_for(len(rows)), self.kernel.method(len(rows))
        assert isinstance(method, Compiled)
        entries = steps.Entries(
            prepare=method.prepare.address,
            product=method.product.address,
            together=method.together,
            multiply=MULTIPLY.address,
            attend_halves=attend_halves.address,
            attend_bytes=attend_bytes.address,
        )
        self._bytes_read += self.weight_bytes + int(rows[:, steps.POSITION].sum() + len(rows)) * self._cache_bytes
        self._team.run(steps.step, entries, self._shape, self._weights, memory, rows)
        return memory.result.reshape(-1, self._shape.hidden_wide)[:, : self._shape.hidden]

    def _buffers_for(self, tokens: int) -> steps.Buffers:
        size = buffers.size_for(tokens)
        if size not in self._buffers:
            self._buffers[size] = buffers.make(
                self._assembled, self._shape, self.kernel, size, self._positions, self.threads
            )
        return self._buffers[size]

    def _make_room(self, positions: int) -> None:
        """Prepare for sequences of so many positions: the rotation of each, and memory for scores."""
        if positions <= self._positions:
            return
        self._positions = -(-positions // 1024) * 1024
        self._buffers.clear()
        made, config = self._assembled, self.config
        self._weights = steps.Weights(
            bytes=made.matrices,
            words=made.matrices.view(np.uint16),
            floats=made.floats,
            products=made.products,
            norms=made.norms,
            output_norm=made.output_norm,
            embedding=made.embedding.bits.reshape(-1),
            embedding_brain=made.embedding.brain,
            rotation=rotary.tables(config.rope, config.spec.head_dim, self._positions).reshape(-1),
        )


def shape_of(config: ModelConfig) -> steps.Shape:
    """Return what all layers of a step share."""
    spec = config.spec
    return steps.Shape(
        layers=spec.layers,
        hidden=spec.hidden,
        hidden_wide=padded(spec.hidden),
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head=spec.head_dim,
        head_wide=padded_head(spec.head_dim),
        ffn=spec.ffn,
        ffn_wide=padded(spec.ffn),
        squared=int(spec.activation == "relu2"),
        window=config.sliding_window or UNBOUNDED,
        eps=config.norm_eps,
    )
