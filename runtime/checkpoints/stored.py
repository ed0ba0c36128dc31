"""A tensor as it lies in a file, and its numbers as the rest of bitsim wants them: float32, or 16 bits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..packing.codec import Bytes
from .checkpoint import Dense, Float32

HALF_MAX = 65504.0  # the largest number of IEEE half precision
_PART = 2**20  # numbers converted at once, so that a large matrix is never whole in float32


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor in a file's memory; nothing is read before it is asked for.

    Attributes:
        where: file and name of the tensor, for messages.
        kind: number format as the file calls it: "F32", "BF16", "U8", "Q4_K", ...
        shape: rows and columns, or the length of a vector.
        data: its bytes, one dimension, in the file's mapped memory.
        decode: bytes (rows, bytes of a row) to float32 (rows, columns); None for what holds no floating point.
    """

    where: str
    kind: str
    shape: tuple[int, ...]
    data: Bytes
    decode: Callable[[Bytes], Float32] | None

    def expect(self, shape: tuple[int, ...]) -> "Stored":
        """Return self if it has this shape.

        Raises:
            BitsimError: it has another.
        """
        if self.shape != shape:
            raise BitsimError(f"{self.where}: expected shape {shape}, got {self.shape}")
        return self

    def values(self) -> Float32:
        """Return all numbers, in the shape of the tensor.

        Raises:
            BitsimError: it holds no floating point, or a number that is not finite.
        """
        rows = self.shape[0] if len(self.shape) == 2 else 1
        return self._rows(0, rows).reshape(self.shape)

    def dense(self) -> Dense:
        """Return a matrix as 16-bit numbers: bfloat16 and half as they are, others as half if all fit, or bfloat16.

        Raises:
            BitsimError: it holds no floating point, or a number that is not finite.
        """
        if self.kind in ("F16", "BF16"):
            return self._as_it_is()
        half = np.empty(self.shape, np.float16)
        for start, part in self._parts():
            if np.abs(part).max() > HALF_MAX:
                return self._brain()
            half[start : start + len(part)] = part
        return Dense(half.view(np.uint16))

    def _as_it_is(self) -> Dense:
        bits = np.require(self.data.view(np.uint16), requirements="A").reshape(self.shape)
        exponent = np.uint16(0x7F80 if self.kind == "BF16" else 0x7C00)
        for start in range(0, bits.size, _PART):
            if ((bits.reshape(-1)[start : start + _PART] & exponent) == exponent).any():
                raise BitsimError(f"{self.where}: expected finite numbers, got one that is not")
        return Dense(bits, brain=self.kind == "BF16")

    def _brain(self) -> Dense:
        bits = np.empty(self.shape, np.uint16)
        for start, part in self._parts():
            bits[start : start + len(part)] = brain_bits(part)
        return Dense(bits, brain=True)

    def _parts(self) -> Iterator[tuple[int, Float32]]:
        """Yield some rows at a time, each with the number of its first."""
        rows, columns = self.shape
        step = max(1, _PART // columns)
        for start in range(0, rows, step):
            yield start, self._rows(start, start + step)

    def _rows(self, start: int, stop: int) -> Float32:
        if self.decode is None:
            raise BitsimError(f"{self.where}: expected floating-point numbers, got {self.kind}")
        rows = self.shape[0] if len(self.shape) == 2 else 1
        values = self.decode(self.data.reshape(rows, -1)[start:stop])
        if not np.isfinite(values).all():
            raise BitsimError(f"{self.where}: expected finite numbers, got one that is not")
        return values


def brain_bits(values: Float32) -> npt.NDArray[np.uint16]:
    """Return float32 numbers as bfloat16, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_half(data: Bytes) -> Float32:
    """Decode half precision: (rows, bytes of a row) to (rows, columns)."""
    return data.view("<f2").astype(np.float32)


def from_brain(data: Bytes) -> Float32:
    """Decode bfloat16: (rows, bytes of a row) to (rows, columns)."""
    return (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def from_single(data: Bytes) -> Float32:
    """Decode float32: (rows, bytes of a row) to (rows, columns)."""
    return data.view("<f4").astype(np.float32)


def mapped(path: Path) -> Bytes:
    """Map a file into memory: its bytes, one dimension, read when touched.

    Raises:
        BitsimError: no file, an empty one, or one that cannot be read.
    """
    try:
        if not path.is_file():
            found = "something else" if path.exists() else "nothing"
            raise BitsimError(f"{path}: expected a file, found {found} there")
        if path.stat().st_size == 0:
            raise BitsimError(f"{path}: the file is empty")
        return np.asarray(np.memmap(path, np.uint8, mode="c"))  # writable for numba: another type else
    except OSError as error:
        raise BitsimError(f"{path}: {error.strerror or error}") from error
