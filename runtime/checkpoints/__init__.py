"""Checkpoints: models in files, read and written."""

from pathlib import Path

from bitsim.energy_tables import BitsimError

from ..box import model_path
from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Linear
from .gguf_checkpoint import open_gguf
from .gguf_file import MAGIC
from .hugging_face import open_hugging_face
from .quantize import quantized
from .safetensors_file import read_safetensors
from .stored import mapped
from .write_gguf import write_gguf
from .write_hugging_face import write_hugging_face


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model, whatever it lies in: what is there decides, not the name.

    Args:
        path: a Hugging Face folder with `config.json` and safetensors, a GGUF file, a file of
            `bitsim convert`, or "box".

    Returns:
        The model, its files mapped into memory: a tensor is read when asked for.

    Raises:
        BitsimError: nothing is there, it is none of these, or it is damaged; file and field are named.
    """
    place = model_path(path)
    if place.is_dir():
        return open_hugging_face(place)
    start = mapped(place)[:9].tobytes()
    if start.startswith(MAGIC):
        return open_gguf(place)
    if start.endswith(b"{"):  # after eight bytes that say how long the JSON is
        return _open_safetensors(place)
    expected = "a Hugging Face folder, a GGUF file or a packed file"
    raise BitsimError(f"{place}: expected {expected}, and it does not begin with GGUF or a safetensors header")


def _open_safetensors(file: Path) -> Checkpoint:
    from ..model.packed_checkpoint import open_packed  # noqa: PLC0415 it imports this package
    from ..model.packed_file import is_packed  # noqa: PLC0415 the same

    if is_packed(read_safetensors(file)[1]):
        return open_packed(file)
    raise BitsimError(f"{file}: weights without their config.json: expected the folder that both are in")


__all__ = [
    "LINEARS",
    "NORMS",
    "Checkpoint",
    "Dense",
    "Linear",
    "open_checkpoint",
    "quantized",
    "write_gguf",
    "write_hugging_face",
]
