"""Writing a model where a command was told to: what is checked before, how far it is, and what was written."""

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .options import Command

TERNARY_GGUF = ("tq1_0", "tq2_0", "i2_s")
KINDS = ("packed", "hf", *TERNARY_GGUF)
_ENDINGS = {"packed": ".safetensors", "hf": ""} | dict.fromkeys(TERNARY_GGUF, ".gguf")
_DEFAULTS = {".safetensors": "packed", ".gguf": "tq2_0"}

Tell = Callable[[str], None]


def writing_options(command: Command) -> Command:
    """Add the arguments SOURCE and TARGET, and --to."""
    command = click.option(
        "--to",
        type=click.Choice(KINDS),
        help="packed: what bitsim loads the quickest; hf: a Hugging Face folder; tq1_0, tq2_0: GGUF for llama.cpp, of "
        "1.69 and 2.06 bits a ternary weight; i2_s: GGUF for bitnet.cpp. Default: packed for a name ending in "
        ".safetensors, tq2_0 for .gguf, else hf.",
    )(command)
    return click.argument("source")(click.argument("target")(command))


def kind_of(target: str, to: str | None) -> str:
    """Return the kind that was asked for, or that the target's name stands for; a usage error where they differ."""
    ending = Path(target).suffix.lower()
    kind = to or _DEFAULTS.get(ending, "hf")
    wanted = _ENDINGS[kind]
    if ending != wanted and (wanted or ending in _DEFAULTS):
        what = f"a name that ends in {wanted}" if wanted else f"a folder's name, not one that ends in {ending}"
        raise click.UsageError(f"TARGET: expected {what} for {kind}, got '{target[:200]}'")
    return kind


def check_places(source: str, target: str, kind: str) -> None:
    """Check, before any work is done, that the target can be written and that nothing of the source would be lost.

    Raises:
        BitsimError: it can't be, or would be.
    """
    from bitsim.energy_tables import BitsimError

    try:
        complaint = _complaint(Path(source), Path(target), kind)
    except OSError as error:  # a name that is too long
        complaint = error.strerror or str(error)
    if complaint:
        raise BitsimError(f"{target[:200]}: {complaint}")


def _complaint(source: Path, target: Path, kind: str) -> str | None:
    """Return what is wrong with the target, if anything."""
    if "\0" in str(target):
        return "expected a name for a file, got one with a zero byte"
    folder = target.parent
    if target.exists():
        complaint = _of_what_is_there(source, target, kind)
    elif not folder.is_dir():
        complaint = f"the folder '{folder}' is not there"
    else:
        complaint = None
    if complaint is None and not os.access(folder, os.W_OK | os.X_OK):
        complaint = f"no permission to write in '{folder}'"
    return complaint


def _of_what_is_there(source: Path, target: Path, kind: str) -> str | None:
    """Return why what bears the target's name must not be replaced, if anything."""
    if source.exists() and target.samefile(source):
        return "is the source itself: choose another name"
    if kind == "hf":
        free = target.is_dir() and not any(target.iterdir())
        return None if free else "expected a name that is free, or an empty folder"
    if not target.is_file():
        return f"expected a name for a file, got {'a folder' if target.is_dir() else 'what is no file'}"
    if source.is_dir() and target.parent.samefile(source):
        return "is a file of the source: choose another name"
    return None


def is_ternary(checkpoint: Any) -> bool:
    """Whether any matrix of the first layer or of the middle one is ternary: some models leave a few as they were."""
    from bitsim.runtime.checkpoints import LINEARS
    from bitsim.runtime.packing import Ternary

    layers = dict.fromkeys((0, checkpoint.config.spec.layers // 2))
    return any(isinstance(checkpoint.linear(layer, name).weights, Ternary) for layer in layers for name in LINEARS)


def consequences(checkpoint: Any, kind: str) -> list[str]:
    """Return what a user of the file should know."""
    spec, window, found = checkpoint.config.spec, checkpoint.config.sliding_window, []
    bitnet_cpp = kind == "i2_s" and spec.sub_norms
    if kind in TERNARY_GGUF and spec.activation == "relu2" and not bitnet_cpp:
        instead = "; bitnet.cpp runs --to i2_s" if spec.sub_norms else ""
        found.append(
            "llama.cpp computes SiLU where this model has squared ReLU, so what it answers will be nonsense; "
            f"bitsim reads the file as it is meant{instead}"
        )
    if kind in TERNARY_GGUF and window:
        found.append(f"llama.cpp does not keep to this model's window of {window:,} tokens: longer texts differ there")
    if kind == "packed" and _has_groups(checkpoint):
        found.append("no kernel has scales for groups: the packed file keeps these matrices as 16-bit numbers")
    return found


def _has_groups(checkpoint: Any) -> bool:
    from bitsim.runtime.packing import Ternary

    weights = checkpoint.linear(0, "q").weights
    return isinstance(weights, Ternary) and weights.scales.shape[1] > 1


def check_room(checkpoint: Any, target: str, ternary: bool) -> None:
    """Check that the disk has room for the least that a file of the model takes.

    Raises:
        BitsimError: it has not.
    """
    from bitsim.energy_tables import BitsimError

    spec = checkpoint.config.spec
    bits = math.log2(3) if ternary else 16
    least, free = int(spec.parameters_linear * bits / 8 + 2 * spec.parameters_embedding), _free(target)
    if least > free:
        raise BitsimError(f"{target[:200]}: no room: expected at least {least:,} bytes on the disk, got {free:,}")


def _free(target: str) -> int:
    return shutil.disk_usage(Path(target).parent).free


def write(checkpoint: Any, target: str, kind: str, tell: Tell) -> dict[str, Any]:
    """Write a model and return how large it has become; `tell` hears how far it is.

    Raises:
        BitsimError: the model can't be written so, or the target can't be written; nothing is left behind.
    """
    from bitsim.energy_tables import BitsimError

    start, path = time.perf_counter(), Path(target)
    try:
        _written(checkpoint, path, kind, tell)
        size = _bytes_of(path)
    except OSError as error:
        raise BitsimError(f"{target[:200]}: {error.strerror or error}") from error
    parameters = checkpoint.config.spec.parameters
    return {
        "target": target,
        "to": kind,
        "bytes": size,
        "parameters": parameters,
        "bits_per_weight": 8 * size / parameters,
        "seconds": time.perf_counter() - start,
    }


def _written(checkpoint: Any, path: Path, kind: str, tell: Tell) -> None:
    from bitsim.runtime.checkpoints import write_gguf, write_hugging_face

    if kind == "packed":
        from bitsim.runtime.conversion import convert_to_packed

        convert_to_packed(checkpoint, path, lambda what, share: tell(f"{what}, {share:.0%}" if share else what))
    elif kind == "hf":
        write_hugging_face(Followed(checkpoint, tell), path)
    else:
        write_gguf(Followed(checkpoint, tell), path, kind)


def _bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def summary(written: dict[str, Any]) -> str:
    """Return the line that ends the command."""
    return (
        f"{written['target']}: {written['to']}, {written['bytes']:,} bytes, "
        f"{written['bits_per_weight']:.2f} bits per weight with all that is in it"
    )


class Followed:
    """A `Checkpoint` that tells which layer is asked for."""

    def __init__(self, base: Any, tell: Tell) -> None:
        """Take a checkpoint and who is told."""
        self.config, self.text = base.config, base.text
        self._base, self._tell = base, tell

    def embedding(self) -> Any:
        """Return the token embedding."""
        self._tell("embedding")
        return self._base.embedding()

    def head(self) -> Any:
        """Return the output head or None."""
        return self._base.head()

    def output_norm(self) -> Any:
        """Return the weights of the last norm."""
        return self._base.output_norm()

    def norm(self, layer: int, name: str) -> Any:
        """Return the weights of a norm or None."""
        return self._base.norm(layer, name)

    def linear(self, layer: int, name: str) -> Any:
        """Return a matrix of a layer."""
        self._tell(f"layer {layer + 1} of {self.config.spec.layers}")
        return self._base.linear(layer, name)
