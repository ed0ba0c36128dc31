"""From a model in any file to the packed file that loads the quickest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import cpu
from .checkpoints.checkpoint import Checkpoint
from .heads.exact import ExactHead
from .heads.screen_build import build_screen
from .kernels import best
from .model.assembly import assemble
from .model.model import Model
from .model.packed_file import write_packed
from .threads import Team

SEQUENCES, TOKENS = 16, 64  # what the model says by itself, to see which directions its hidden states take
LEAST_VOCABULARY = 4096  # below, a screened head would save nothing worth having

Report = Callable[[str, float], None]  # what is being done, share done


def convert_to_packed(checkpoint: Checkpoint, path: Path, report: Report = lambda what, share: None) -> None:
    """Write a checkpoint as a packed file for this CPU's kernel, with a screen for its head.

    Raises:
        BitsimError: a tensor is missing or damaged, or the file can't be written; nothing is left behind.
    """
    packing = best().packing
    assembled = assemble(checkpoint, packing, lambda done, layers: report("packing layers", done / layers))
    screen = None
    if checkpoint.config.spec.vocab >= LEAST_VOCABULARY:
        weights = checkpoint.head() or checkpoint.embedding()
        with Team(cpu.usable_cores()) as team:
            hidden = _own_states(Model(assembled, best(), ExactHead(weights, team), team))
        report("screening the head", 0.0)
        made = build_screen(weights, hidden, progress=lambda share: report("screening the head", share))
        screen = made.arrays()
    report("writing", 0.0)
    write_packed(assembled, screen, path)


def _own_states(model: Model) -> npt.NDArray[np.float32]:
    """Return hidden states of tokens that the model draws itself: (SEQUENCES x up to TOKENS, hidden)."""
    random, vocabulary = np.random.default_rng(0), model.config.spec.vocab
    tokens = min(TOKENS, model.context)
    sequences = [model.sequence(tokens) for _ in range(SEQUENCES)]
    first = model.text.bos
    drawn = random.integers(0, vocabulary, SEQUENCES) if first is None else np.full(SEQUENCES, first)
    states = []
    for _ in range(tokens):
        states.append(model.step([(sequence, drawn[i : i + 1]) for i, sequence in enumerate(sequences)]))
        noise = random.gumbel(size=(SEQUENCES, vocabulary)).astype(np.float32)
        drawn = np.argmax(model.head.logits(states[-1]) + noise, axis=1)
    return np.concatenate(states)
