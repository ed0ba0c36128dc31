"""Numba as bitsim uses it: compiled once per machine, into the user's cache folder."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event as numba_events
from platformdirs import user_cache_dir

_events: Any = numba_events
Function = TypeVar("Function", bound=Callable[..., Any])


def _use_cache_folder() -> None:
    """Keep compiled code in the user's cache folder, unless NUMBA_CACHE_DIR says where."""
    settings: Any = numba.config
    if not settings.CACHE_DIR:
        settings.CACHE_DIR = str(Path(user_cache_dir("bitsim")) / "numba" / _state_of_sources())


_NOTHING_COMPILED = ("checkpoints", "generation", "serving")  # folders whose files can't change compiled code


def _state_of_sources() -> str:
    """Return a name that changes with any other file here: numba itself looks at the calling function's file alone."""
    here = Path(__file__).parent
    names = [path.relative_to(here) for path in here.rglob("*.py")]
    files = sorted((str(name), (here / name).stat()) for name in names if name.parts[0] not in _NOTHING_COMPILED)
    state = "".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in files)
    return hashlib.sha256(state.encode()).hexdigest()[:16]


_use_cache_folder()


# Kept for the next process, without the GIL; indexes are not checked: callers check shapes, types, contiguity before.
OPTIONS = {"cache": True, "nogil": True, "boundscheck": False, "error_model": "numpy"}


# For functions that compiled code alone calls: what turns Python's arguments into theirs takes longer to compile than
# they do themselves.
_INNER = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: Function) -> Function:
    """Compile a function that Python calls, without the GIL, and keep the machine code for the next process."""
    return cast(Function, numba.njit(**cast(Any, OPTIONS))(function))


def inner(function: Function) -> Function:
    """Compile a function that only compiled functions call."""
    return cast(Function, numba.njit(**cast(Any, _INNER))(function))


def inlined(function: Function) -> Function:
    """Compile a function into every function that calls it; only compiled functions do."""
    return cast(Function, numba.njit(**cast(Any, _INNER), forceinline=True)(function))


class _Watch(_events.Listener):  # type: ignore[misc]
    """Calls back at the start of every compilation that the cache does not spare us."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice

    def on_start(self, event: Any) -> None:
        self._notice(event.data["dispatcher"].py_func.__name__)

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def watching_compilation(notice: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `notice` with a function's name when its compilation begins."""
    watch = _Watch(notice)
    _events.register("numba:compile", watch)
    try:
        yield
    finally:
        _events.unregister("numba:compile", watch)
