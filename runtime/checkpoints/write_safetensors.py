"""Writes a safetensors file one tensor after the other, so that a model need not be whole in memory."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_ENTRY = 256  # bytes set aside in the header for each tensor: more than names and numbers of a model take
_ALIGNMENT = 64  # bytes; where the first tensor begins


class SafetensorsWriter:
    """Takes tensors in the order they are to lie in; the header is written last, into room set aside for it."""

    def __init__(self, file: BinaryIO, tensors: int, metadata: Mapping[str, str]) -> None:
        """Begin a file for at most this many tensors."""
        self._file = file
        self._header: dict[str, Any] = {"__metadata__": dict(metadata)}
        needed = 8 + len(json.dumps(self._header).encode()) + _ENTRY * tensors
        self._start = -(-needed // _ALIGNMENT) * _ALIGNMENT
        self._end = self._start
        file.seek(self._start)

    def add(self, name: str, kind: str, data: npt.NDArray[np.generic]) -> None:
        """Write a tensor; `kind` is its number format as safetensors calls it, such as BF16."""
        content = np.ascontiguousarray(data)
        begin, self._end = self._end, self._end + content.nbytes
        offsets = [begin - self._start, self._end - self._start]
        self._header[name] = {"dtype": kind, "shape": list(content.shape), "data_offsets": offsets}
        self._file.write(content.data)

    def finish(self) -> None:
        """Write the header."""
        text = json.dumps(self._header).encode()
        room = self._start - 8
        self._file.seek(0)
        self._file.write(room.to_bytes(8, "little") + text.ljust(room))
        self._file.seek(self._end)
