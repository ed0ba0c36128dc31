"""Run by the emulated Python: compiles the inner loops for this CPU and writes their assembly, one file each."""

import json
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

from bitsim.runtime import cpu
from bitsim.runtime.kernels import four_russians, neon, sdot
from bitsim.runtime.simd.vector import I16X16

from . import variants

INDEX = types.intp
WORDS, INT16, INT32, BYTES, SIGNED = (numba.from_dtype(np.dtype(name))[::1] for name in ("u2", "i2", "i4", "u1", "i1"))
WIDE = types.TypeRef(I16X16)

LOOPS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "neon": (neon.one_token, (BYTES, INDEX, BYTES, INDEX, INT32, INDEX)),
    "two_registers": (variants.two_registers, (WORDS, INDEX, BYTES, INT16)),
    "without_branch": (variants.without_branch, (BYTES, INDEX, BYTES, INT16)),
    "two_weights": (variants.two_weights, (BYTES, INDEX, BYTES, INT16)),
    "write_patterns": (neon.write_patterns, (BYTES, INDEX, INDEX, INDEX, BYTES)),
    "add_chunk": (four_russians.add_chunk, (WIDE, WORDS, INT16, INT16, INDEX, INDEX, types.boolean)),
}
if "dotprod" in cpu.features():
    LOOPS["sdot"] = (sdot.one_token, (BYTES, INDEX, SIGNED, INDEX, INT32, INDEX))
    LOOPS["sdot_four_tokens"] = (sdot.four_tokens, (BYTES, INDEX, SIGNED, INDEX, INT32, INDEX))

folder = Path(sys.argv[1])
for name, (function, arguments) in LOOPS.items():
    fresh = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function.py_func)
    fresh.compile(arguments)
    (folder / f"{name}.s").write_text(next(iter(fresh.inspect_asm().values())))
sys.stdout.write(json.dumps(sorted(LOOPS)))
