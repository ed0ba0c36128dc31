"""A model packed for one kind of kernel, in one safetensors file: read into memory and run, nothing to be computed.

The file holds the arrays of `assembly.Assembled`, the tokenizer, and the screen of the head where there is one. Its
`__metadata__` has the format's version, the configuration, and a checksum of every tensor.
"""

import dataclasses
import json
import mmap
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.simulator.model_spec import ModelSpec

from .. import cpu
from ..checkpoints.checkpoint import Dense
from ..checkpoints.safetensors_file import read_safetensors
from ..checkpoints.stored import Stored
from ..checkpoints.write_safetensors import SafetensorsWriter
from ..memory import aligned
from ..packing import CODECS
from ..whole import whole_file
from .assembly import Assembled
from .check_tables import check_tables
from .config import ModelConfig, Rope, TextRules

FORMAT, VERSION = "bitsim", "1"
SCREEN = "screen."  # what the names of the screen's arrays begin with
LAZY = ("embedding", "head")  # left in the file: a token takes a few rows of them
_KINDS = {"U8": np.uint8, "U16": np.uint16, "I64": np.int64, "F32": np.float32, "U32": np.uint32, "I8": np.int8}
_PIECE = 1 << 22  # bytes copied and summed up at once, while they are in the cache

Arrays = dict[str, npt.NDArray[Any]]


def write_packed(model: Assembled, screen: Mapping[str, npt.NDArray[Any]] | None, path: Path) -> None:
    """Write a model to a file; it has its name once it is complete.

    Args:
        model: what to write.
        screen: the arrays of the head's screen, or None.
        path: the file; one that is there is replaced.

    Raises:
        BitsimError: it can't be written.
    """
    arrays: Arrays = {
        "matrices": model.matrices,
        "floats": model.floats,
        "products": model.products,
        "norms": model.norms,
        "embedding": model.embedding.bits,
    }
    if model.head is not None:
        arrays["head"] = model.head.bits
    if model.text.tokenizer is not None:
        arrays["tokenizer"] = np.frombuffer(model.text.tokenizer, np.uint8)
    arrays |= {SCREEN + name: array for name, array in (screen or {}).items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "packing": model.packing,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "text": json.dumps({**dataclasses.asdict(model.text), "tokenizer": None}),
        "output_norm": str(model.output_norm),
        "brain": json.dumps([model.embedding.brain, model.head is not None and model.head.brain]),
        "crc32": json.dumps({name: checksum(array) for name, array in arrays.items()}),
    }
    kinds = {np.dtype(dtype): kind for kind, dtype in _KINDS.items()}
    with whole_file(path) as part, part.open("wb") as file:
        writer = SafetensorsWriter(file, len(arrays), metadata)
        for name, array in arrays.items():
            writer.add(name, kinds[array.dtype], array)
        writer.finish()


def checksum(array: npt.NDArray[Any]) -> int:
    """Return the CRC-32 of the CRC-32s (little-endian) of an array's pieces of 4 MiB, which several threads make."""
    data: npt.NDArray[np.uint8] = array.reshape(-1).view(np.uint8)
    return _of_pieces(len(data), lambda start: zlib.crc32(data[start : start + _PIECE].data))


def _of_pieces(size: int, checksum_at: Callable[[int], int]) -> int:
    starts = range(0, size, _PIECE)
    if len(starts) < 2:  # a pool takes longer than most arrays
        sums = [checksum_at(start) for start in starts]
    else:
        with ThreadPoolExecutor(cpu.usable_cores()) as pool:
            sums = list(pool.map(checksum_at, starts))
    return zlib.crc32(b"".join(each.to_bytes(4, "little") for each in sums))


def _copied(source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], start: int) -> int:
    """Copy a piece and return its checksum, while it is in the cache."""
    piece = target[start : start + _PIECE]
    piece[:] = source[start : start + _PIECE]
    _let_go(source)
    return zlib.crc32(piece.data)


def is_packed(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata is one of ours."""
    return metadata.get("format") == FORMAT


def read_packed(path: Path) -> tuple[Assembled, Arrays]:
    """Read a model and the arrays of its head's screen (none where there is no screen).

    Matrices come into memory of their own, in large pages; embedding and head stay in the file, mapped.

    Raises:
        BitsimError: not such a file, of another version, damaged; file and field are named.
    """
    tensors, metadata = read_safetensors(path)
    if not is_packed(metadata):
        raise BitsimError(
            f"{path}: __metadata__: expected format '{FORMAT}', got '{shown(metadata.get('format'), 40)}'"
        )
    if metadata.get("version") != VERSION:
        got = shown(metadata.get("version"), 40)
        raise BitsimError(f"{path}: version: expected {VERSION}, got '{got}': convert the model again")
    fields = _Fields(path, metadata)
    sums = fields.json("crc32", dict)
    arrays = {name: _array(tensor, sums.get(name), name in LAZY) for name, tensor in tensors.items()}
    config = fields.config()
    brains = fields.json("brain", list)
    if len(brains) != 2:
        raise BitsimError(f"{path}: brain: expected two flags, got {len(brains)}")
    packing = metadata.get("packing", "")
    if packing not in CODECS:
        raise BitsimError(f"{path}: packing: expected one of {', '.join(CODECS)}, got '{shown(packing, 40)}'")
    tokenizer = arrays.get("tokenizer")
    model = Assembled(
        config=config,
        text=dataclasses.replace(fields.text(), tokenizer=None if tokenizer is None else tokenizer.tobytes()),
        packing=packing,
        matrices=_typed(path, arrays, "matrices", np.uint8, 1),
        floats=_typed(path, arrays, "floats", np.float32, 1),
        products=_typed(path, arrays, "products", np.int64, 3),
        norms=_typed(path, arrays, "norms", np.int64, 2),
        output_norm=fields.integer("output_norm"),
        embedding=Dense(_typed(path, arrays, "embedding", np.uint16, 2), bool(brains[0])),
        head=Dense(_typed(path, arrays, "head", np.uint16, 2), bool(brains[1])) if "head" in arrays else None,
    )
    check_tables(model, str(path))
    return model, {name.removeprefix(SCREEN): arrays[name] for name in arrays if name.startswith(SCREEN)}


def _array(tensor: Stored, expected: object, lazy: bool) -> npt.NDArray[Any]:
    """Return a tensor's numbers: as they lie in the file, or copied and compared with their sum."""
    if tensor.kind not in _KINDS:
        raise BitsimError(f"{tensor.where}: dtype: expected one of {', '.join(_KINDS)}, got {tensor.kind}")
    dtype = np.dtype(_KINDS[tensor.kind])
    if lazy and tensor.data.ctypes.data % dtype.itemsize == 0:
        return tensor.data.view(dtype).reshape(tensor.shape)
    copy: npt.NDArray[np.uint8] = aligned(tensor.data.shape, np.uint8)
    found = _of_pieces(len(copy), lambda start: _copied(tensor.data, copy, start))
    if found != expected and not lazy:
        raise BitsimError(f"{tensor.where}: damaged: its bytes do not have the checksum that was written with them")
    return copy.view(dtype).reshape(tensor.shape)


def _let_go(data: npt.NDArray[np.uint8]) -> None:
    """Take a file's pages out of this process's memory, where they would count twice; the system keeps them."""
    base: Any = data
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None) if isinstance(base, np.ndarray) else None
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _typed(path: Path, arrays: Arrays, name: str, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    """Return an array that must be there."""
    if name not in arrays:
        raise BitsimError(f"{path}: '{name}' is missing")
    array = arrays[name]
    if array.dtype != dtype or array.ndim != dimensions:
        expected = f"{np.dtype(dtype).name} of {dimensions} dimensions"
        raise BitsimError(f"{path}: {name}: expected {expected}, got {array.dtype} of {array.ndim}")
    return array


class _Fields:
    """The texts of the metadata, read as what they are."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path, self._metadata = path, metadata

    def json(self, name: str, kind: type) -> Any:
        try:
            value = json.loads(self._metadata.get(name, ""))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, kind):
            raise BitsimError(f"{self._path}: {name}: expected a JSON {kind.__name__}")
        return value

    def integer(self, name: str) -> int:
        text = self._metadata.get(name, "")
        if not text.isdecimal() or len(text) > 18:
            raise BitsimError(f"{self._path}: {name}: expected a whole number, got '{shown(text, 40)}'")
        return int(text)

    def config(self) -> ModelConfig:
        values = self.json("config", dict)
        try:
            spec = values["spec"]
            if any(isinstance(value, float) for value in spec.values()):
                raise TypeError("spec: expected whole numbers, got others")
            return ModelConfig(
                spec=ModelSpec(**{**spec, "sources": tuple(spec.get("sources", ()))}),
                norm_eps=values["norm_eps"],
                rope=Rope(**values["rope"]),
                sliding_window=values["sliding_window"],
            )
        except (TypeError, KeyError, ValueError, AttributeError, BitsimError) as error:
            raise BitsimError(f"{self._path}: config: {shown(error, 200)}") from error

    def text(self) -> TextRules:
        values = self.json("text", dict)
        bos, eos, special = (values.get(name) for name in ("bos", "eos", "special"))
        sound = (
            set(values) == {field.name for field in dataclasses.fields(TextRules)}
            and (bos is None or type(bos) is int)
            and isinstance(eos, list)
            and all(type(token) is int for token in eos)
            and isinstance(values["chat_template"], str | None)
            and isinstance(values["add_bos"], bool)
            and isinstance(special, dict)
            and all(isinstance(text, str) for text in special.values())
        )
        if not sound:
            raise BitsimError(f"{self._path}: text: expected what `bitsim convert` writes, got '{shown(values)}'")
        return TextRules(**{**values, "eos": tuple(eos), "tokenizer": None})
