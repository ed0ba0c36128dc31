"""Memory as kernels like it: beginning at a cache line, and in large pages where the system has them."""

import mmap
from typing import Any

import numpy as np

CACHE_LINE = 64
LARGE_PAGE = 2 << 20


def aligned(shape: tuple[int, ...], dtype: Any, large_pages: bool = True) -> Any:
    """Return an uninitialised array that begins at a cache line.

    Large ones are given large pages where Linux hands them out on request (transparent huge pages): reading memory
    through 4 KiB pages is up to a fifth slower. Without them, memory is taken page by page as it is first written.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size >= 2 * LARGE_PAGE:
        # Private: Linux gives no large pages to shared memory, which is what Python takes where nothing is said.
        memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if large_pages and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        raw, unit = np.frombuffer(memory, np.uint8), LARGE_PAGE
    else:
        raw, unit = np.empty(size + CACHE_LINE, np.uint8), CACHE_LINE
    start = -raw.ctypes.data % unit
    return raw[start : start + size].view(dtype).reshape(shape)
