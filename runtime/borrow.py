"""Arrays that nobody counts.

Numba counts how often an array is held, with an atomic addition for each time, and threads that hold the same arrays
wait for each other's counts. Within one call from Python nothing can go away, so nothing need be counted.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from .simd.vector import instruction


@instruction
def borrowed(typing: Any, value: Any) -> Any:
    """borrowed(value): the same array, or tuple with arrays in it, uncounted; to be used while the caller holds it."""
    if not isinstance(value, (types.Array, types.BaseTuple)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _uncounted(context, builder, value, arguments[0])

    return value(value), generate


def _uncounted(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        parts: Any = kind
        for place, each in enumerate(parts):
            part = _uncounted(context, builder, each, builder.extract_value(value, place))
            value = builder.insert_value(value, part, place)
    return value
