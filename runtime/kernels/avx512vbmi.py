"""AVX-512 with its byte instructions (VBMI): `avx512` with a quicker lookup for several tokens.

For one token making the indexes would cost what the lookup saves; see `trit48_lookup`.
"""

from ..simd.vector import U8X64
from . import avx512, trit48_several
from .kernel import Int16, Kernel, Packed, Sums, multiplies


@multiplies
def several(packed: Packed, prepared: Int16, columns: int, out: Sums, scratch: Int16, first: int, last: int) -> None:
    """Write the row blocks from `first` to before `last` of several tokens; see `Compiled`."""
    trit48_several.multiply(U8X64, packed, prepared, columns, out, scratch, (first, last))


KERNEL = Kernel(
    name="avx512vbmi",
    packing="trit48",
    needs=avx512.KERNEL.needs | {"avx512vbmi"},
    methods=(
        (1, avx512.ONE),
        (avx512.LEAST_SEVERAL, trit48_several.method(avx512.prepare, several)),
        (avx512.LEAST_WIDE, avx512.WIDE),
    ),
)
