"""Numba as bitsim uses it: compiled once per machine, into the user's cache folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from platformdirs import user_cache_dir

Function = TypeVar("Function", bound=Callable[..., Any])


def _use_cache_folder() -> None:
    """Keep compiled code in the user's cache folder, unless NUMBA_CACHE_DIR says where."""
    settings: Any = numba.config
    if not settings.CACHE_DIR:
        settings.CACHE_DIR = str(Path(user_cache_dir("bitsim")) / "numba")


_use_cache_folder()


def compiled(function: Function) -> Function:
    """Compile a function without the GIL and keep the machine code for the next process.

    Indexes are not checked: callers check shapes, types and contiguity before (`kernels.check`).
    """
    return cast(Function, numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """Compile a function into every function that calls it."""
    options = {"cache": True, "nogil": True, "boundscheck": False, "error_model": "numpy", "forceinline": True}
    return cast(Function, numba.njit(**cast(Any, options))(function))
