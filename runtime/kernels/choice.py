"""Which kernels there are, and which one this CPU gets."""

import os

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import suggestion

from .. import cpu
from . import amx, avx2, avx512, avx512vbmi, maddubs, neon, portable, reference, sdot, vnni
from .kernel import Kernel

# The best first, and after them those that multiply, for comparison.
KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        avx512vbmi.KERNEL,
        avx512.KERNEL,
        avx2.KERNEL,
        neon.KERNEL,
        portable.KERNEL,
        reference.KERNEL,
        amx.KERNEL,
        vnni.KERNEL,
        maddubs.KERNEL,
        sdot.KERNEL,
    )
}
VARIABLE = "BITSIM_KERNEL"


def available() -> list[Kernel]:
    """Return the kernels that this CPU can run, the best first."""
    features = cpu.features()
    return [kernel for kernel in KERNELS.values() if kernel.runs_on(features)]


def best() -> Kernel:
    """Return the kernel that BITSIM_KERNEL names, or else the best of additions only that this CPU runs.

    Raises:
        BitsimError: BITSIM_KERNEL names no kernel, or one that this CPU lacks instructions for.
    """
    name = os.environ.get(VARIABLE)
    return kernel_named(name, VARIABLE) if name else next(kernel for kernel in available() if kernel.add_only)


def kernel_named(name: str, where: str) -> Kernel:
    """Return a kernel by its name.

    Raises:
        BitsimError: no kernel has this name, or the CPU lacks instructions for it; `where` says where it was named.
    """
    if name not in KERNELS:
        raise BitsimError(f"{where}: expected one of {', '.join(KERNELS)}, got '{name}'{suggestion(name, KERNELS)}")
    kernel = KERNELS[name]
    if not kernel.runs_on(cpu.features()):
        missing = ", ".join(sorted(kernel.needs - cpu.features()))
        raise BitsimError(
            f"{where}: '{name}' needs a CPU with {missing}; this one has: {', '.join(k.name for k in available())}"
        )
    return kernel
