"""From a path to a model that runs."""

from collections.abc import Callable
from pathlib import Path

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

from . import cpu
from .box import NAME, model_path
from .checkpoints import open_checkpoint
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.safetensors_file import read_safetensors
from .heads.exact import ExactHead
from .heads.head import Head
from .heads.int8 import Int8Head
from .heads.screen import Screen
from .heads.screen_build import build_screen
from .heads.screened import ScreenedHead
from .kernels import best
from .model.assembly import Assembled, assemble, repacked
from .model.model import Model
from .model.packed_file import Arrays, is_packed, read_packed
from .threads import Team

HEADS = ("exact", "screened", "int8")

Progress = Callable[[int, int], None]


def load(
    path: str | Path = NAME,
    *,
    threads: int | None = None,
    head: str | None = None,
    kv: str = "f16",
    progress: Progress | None = None,
) -> Model:
    """Load a model: a Hugging Face folder, a GGUF file, or a file that `bitsim convert` wrote (the quickest).

    Args:
        path: the folder or file; by default the model in the box, see `bitsim.runtime.box`.
        threads: how many; all cores by default.
        head: "exact"; "screened" (the same tokens, fewer bytes; built here if the file has no screen, which takes a
            minute for a large vocabulary); "int8" (approximate). By default screened where the file has a screen.
        kv: numbers of the key/value cache: "f16", or "int8" for half the memory.
        progress: called as progress(done, all) while layers are packed.

    Raises:
        BitsimError: the model is damaged or of a kind that is not covered, or an option is unknown.
    """
    if head is not None and head not in HEADS:
        raise BitsimError(f"head: expected one of {', '.join(HEADS)}, got '{head}'{suggestion(head, HEADS)}")
    if threads is not None and not 1 <= threads <= 1024:
        raise BitsimError(f"threads: expected 1 to 1,024, got {threads}")
    kernel = best()
    assembled, screen = _assembled(model_path(path), kernel.packing, progress)
    team = Team(threads or cpu.usable_cores())
    return Model(assembled, kernel, _head(assembled, screen, head, team), team, kv)


def run_checkpoint(
    checkpoint: Checkpoint, *, threads: int | None = None, head: str = "exact", kv: str = "f16"
) -> Model:
    """Run a checkpoint that is open already; see `load`.

    Raises:
        BitsimError: see `load`.
    """
    kernel = best()
    assembled, team = assemble(checkpoint, kernel.packing), Team(threads or cpu.usable_cores())
    return Model(assembled, kernel, _head(assembled, {}, head, team), team, kv)


def _assembled(path: Path, packing: str, progress: Progress | None) -> tuple[Assembled, Arrays]:
    if path.is_file() and path.suffix == ".safetensors" and is_packed(read_safetensors(path)[1]):
        model, screen = read_packed(path)
        return (model if model.packing == packing else repacked(model, packing)), screen
    return assemble(open_checkpoint(path), packing, progress), {}


def _head(model: Assembled, screen: Arrays, kind: str | None, team: Team) -> Head:
    weights, columns = model.head or model.embedding, model.config.spec.hidden
    weights = type(weights)(weights.bits[:, :columns], weights.brain)
    if kind == "int8":
        return Int8Head(weights, team)
    if kind == "exact" or (kind is None and not screen):
        return ExactHead(weights, team)
    made = Screen.from_arrays(screen, *weights.bits.shape) if screen else build_screen(weights)
    return ScreenedHead(weights, made, team)
