"""The definition of right: weights unpacked by the codec and multiplied by numpy in int64."""

from typing import Any

import numpy as np

from ..packing import CODECS
from .kernel import ROWS_PER_BLOCK, Activations, Kernel, Sums


def product(packed: Any, x: Activations, out: Sums, scratch: Any, first: int, last: int) -> None:
    """Write x @ weights.T for the row blocks from `first` to before `last`; see `Kernel`."""
    rows = out.shape[1]
    weights = CODECS["trit9"].unpack(packed.view(np.uint8), rows, x.shape[1]).weights
    part = slice(first * ROWS_PER_BLOCK, min(last * ROWS_PER_BLOCK, rows))
    out[:, part] = x.astype(np.int64) @ weights[part].T.astype(np.int64)


KERNEL = Kernel("reference", "trit9", np.uint16, frozenset(), lambda rows, columns, tokens: 0, product)
