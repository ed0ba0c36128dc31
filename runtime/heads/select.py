"""The k-th largest of some numbers, for compiled functions."""

from typing import Any

from ..compile import inner
from .head import Float32


@inner
def kth_largest(values: Float32, count: int, k: int) -> Any:
    """Return the k-th largest (k from 1 to count) of the first `count` numbers, which change places.

    C. A. R. Hoare, "Algorithm 65: find", Communications of the ACM 4, 1961. No number may be NaN.
    """
    place, low, high = k - 1, 0, count - 1
    while low < high:
        pivot, left, right = values[(low + high) // 2], low, high
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if place <= right:
            high = right
        elif place >= left:
            low = left
        else:
            break
    return values[place]
