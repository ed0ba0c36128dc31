"""Which ways to multiply by two-bit codes there are, and which one this CPU gets."""

from .. import cpu
from . import quarter_avx512, quarter_avx512vbmi, quarter_bytes, quarter_portable
from .quarter_kernel import QuarterKernel

# The best first.
QUARTER_KERNELS = (
    quarter_avx512vbmi.KERNEL,
    quarter_avx512.KERNEL,
    quarter_bytes.AVX2,
    quarter_bytes.NEON,
    quarter_portable.KERNEL,
)


def available() -> list[QuarterKernel]:
    """Return those that this CPU can run, the best first."""
    return [kernel for kernel in QUARTER_KERNELS if kernel.needs <= cpu.features()]
