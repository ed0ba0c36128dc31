"""Run by the emulated Python: says what this CPU is taken for, which kernels it gets, and whether the best is right."""

import json
import sys

import numpy as np
from llvmlite import binding as llvm

from bitsim.energy_tables import BitsimError
from bitsim.runtime import cpu
from bitsim.runtime.kernels import TernaryMatrix, available, best, kernel_named


def refusal(name: str) -> str:
    """Return why a kernel can't be had, or an empty string."""
    try:
        kernel_named(name, "test")
    except BitsimError as error:
        return str(error)
    return ""


answer = {
    "llvm": llvm.get_host_cpu_name(),
    "features": sorted(cpu.features()),
    "kernels": [kernel.name for kernel in available()],
    "best": best().name,
    "sdot_refused": refusal("sdot"),
}
if "multiply" in sys.argv:
    random = np.random.default_rng(0)
    weights = random.integers(-1, 2, (70, 100)).astype(np.int8)
    x = random.integers(-128, 128, (1, 100)).astype(np.int8)
    answer["right"] = bool((TernaryMatrix.pack(weights).multiply(x) == x.astype(int) @ weights.T.astype(int)).all())
sys.stdout.write(json.dumps(answer))
