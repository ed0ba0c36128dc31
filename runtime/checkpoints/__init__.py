"""Checkpoints: models in files, read and written."""

from pathlib import Path

from bitsim.energy_tables import BitsimError

from .checkpoint import LINEARS, NORMS, Checkpoint, Dense, Linear
from .gguf_checkpoint import open_gguf
from .gguf_file import MAGIC
from .hugging_face import open_hugging_face
from .quantize import quantized
from .stored import mapped
from .write_gguf import write_gguf
from .write_hugging_face import write_hugging_face


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model, whatever it lies in: what is there decides, not the name.

    Args:
        path: a Hugging Face folder with `config.json` and safetensors, or a GGUF file.

    Returns:
        The model, its files mapped into memory: a tensor is read when asked for.

    Raises:
        BitsimError: nothing is there, it is none of these, or it is damaged; file and field are named.
    """
    place = Path(path)
    if place.is_dir():
        return open_hugging_face(place)
    if mapped(place)[:4].tobytes() == MAGIC:
        return open_gguf(place)
    raise BitsimError(f"{place}: expected a Hugging Face folder or a GGUF file, and it does not begin with GGUF")


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
