"""What a screened head keeps besides the weights: a copy of two bits a weight, and what bounds its error."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..kernels.dense import padded
from ..kernels.matrix import checked
from . import quarter_codes

Array = npt.NDArray[np.generic]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Screen:
    """A copy w' = T (w - mean row) of a head's rows in two bits, where T is the inverse of the rotation's transpose.

    A logit is h.w = centre.w + (h - centre).mean_row + h'.w' with h' = rotation (h - centre), and w' is nearly
    scale x levels: see `screen_build`. V rows are filled up to V' (a multiple of 64), d columns to d' (of 16).
    """

    rotation: npt.NDArray[np.uint16]  # (d, d'): half precision
    centre: Float32  # (d): about the mean hidden state
    mean_row: Float32  # (d)
    codes: npt.NDArray[np.uint8]  # flat, see `quarter_codes`
    scales: Float32  # (V'): of a row's levels -3, -1, 1, 3; 0 past the last row
    offsets: Float32  # (V'): centre.w; -infinity past the last row
    errors: npt.NDArray[np.uint32]  # (V'): two bfloat16, rounded up: |residual| / sqrt(d - 2), and below it |w|
    dither: Float32  # (d): uniform from 0 to 1, added before h' is rounded down to int8
    longest: Float32  # (1): the largest |levels| of a row

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, to be kept in a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], rows: int, columns: int) -> "Screen":
        """Take the arrays of a head of so many rows and columns, as `arrays` gave them.

        Raises:
            BitsimError: one is missing, or has another type or shape.
        """
        for name, (dtype, shape) in expected(rows, columns).items():
            if name not in arrays:
                raise BitsimError(f"screen of the head: '{name}' is missing")
            checked(f"screen of the head, {name}", arrays[name], dtype, shape)
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})  # type: ignore[arg-type]


def expected(rows: int, columns: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Return the type and the shape of each array of the screen of a head."""
    filled = quarter_codes.row_blocks(rows) * quarter_codes.ROWS
    return {
        "rotation": (np.uint16, (columns, padded(columns))),
        "centre": (np.float32, (columns,)),
        "mean_row": (np.float32, (columns,)),
        "codes": (np.uint8, (quarter_codes.packed_bytes(rows, columns),)),
        "scales": (np.float32, (filled,)),
        "offsets": (np.float32, (filled,)),
        "errors": (np.uint32, (filled,)),
        "dither": (np.float32, (columns,)),
        "longest": (np.float32, (1,)),
    }
