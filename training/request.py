"""What a user asks of a run, and the means it is carried out with."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

from .quantize import SCHEMES

TOKENS_PER_PARAMETER = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks of one run; two runs with equal requests come to equal losses on a CPU.

    Attributes:
        scheme: one of `quantize.SCHEMES`.
        size: parameters of a model built fresh, such as "25M"; or
        start: a checkpoint to go on from: a Hugging Face folder or a GGUF file.
        data: a folder of `bitsim corpus`, a file or folder of parquet, JSONL or text, or a dataset on the hub.
        tokens: to train on; None for `tokens_per_parameter` times the parameters without those of the norms, in which
            twins differ.
        tokens_per_parameter: 20 is about what a compute-optimal run takes (2203.15556, table 3).
        context: tokens of a sequence.
        vocab: tokens of the tokenizer that is trained (with `start`, the checkpoint's own is taken).
        norms: "sub", "inside", "none"; None for the scheme's usual (see `model.scheme_norms`).
        limit: bytes of text to take of a large source.
        teacher: a Hugging Face folder to distil from, with the same tokenizer.
    """

    scheme: str
    size: str | None = None
    start: str | None = None
    data: str
    tokens: float | None = None
    tokens_per_parameter: float = TOKENS_PER_PARAMETER
    context: int = 512
    vocab: int = 4096
    norms: str | None = None
    recipe: str = "study"
    learning_rate: float | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    batch_tokens: int | None = None
    strength_steps: int | None = None
    seed: int = 0
    precision: str = "auto"
    limit: int | None = None
    teacher: str | None = None
    teacher_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            known = ", ".join(SCHEMES)
            raise BitsimError(f"scheme: expected one of {known}, got '{self.scheme}'{suggestion(self.scheme, SCHEMES)}")
        if (self.size is None) == (self.start is None):
            raise BitsimError("expected a size or a checkpoint to start from, and not both")
        if not 0 < self.tokens_per_parameter <= 1e6:  # false for NaN
            got = self.tokens_per_parameter
            raise BitsimError(f"tokens per parameter: expected more than 0 and at most 1,000,000, got {got:g}")
        if not 8 <= self.context <= 2**20:
            raise BitsimError(f"context: expected 8 to {2**20:,} tokens, got {self.context}")

    @property
    def name(self) -> str:
        """What the run's folder is called: for people, and different for different requests."""
        tokens = None if self.tokens is None else float(self.tokens)  # 1000 is what 1e3 is
        text = json.dumps(asdict(self) | {"tokens": tokens}, sort_keys=True)
        what = self.size or Path(str(self.start)).stem
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", what)[:40]
        return f"{plain}-{self.scheme}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How a run is carried out, which its losses do not hang on.

    Attributes:
        output: folder of runs, in which the run gets its own.
        micro_batch: sequences that a device takes at once.
        report_to: "wandb", "trackio", "tensorboard" or "none".
        fsdp: with several processes, share weights and optimiser among them.
        resume: go on with a run that was interrupted.
        patience: seconds to wait for another process that trains the same run, which may be about to die.
    """

    output: Path
    micro_batch: int | None = None
    report_to: str = "none"
    gradient_checkpointing: bool = False
    fsdp: bool = False
    evaluate_every: int | None = None
    save_every: int | None = None
    resume: bool = False
    patience: float = 0.0
