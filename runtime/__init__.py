"""Runs language models with packed ternary weights on a CPU, with numpy and numba and without torch.

>>> from bitsim.runtime import load
>>> model = load()  # the small one that bitsim brings along                                     # doctest: +SKIP
>>> "".join(piece.text for piece in model.generate("It is a truth", max_new_tokens=40))       # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load as load
    from .model.model import Model as Model

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the kernels take half a second."""
    if name == "load":
        from .loading import load

        return load
    if name == "Model":
        from .model.model import Model

        return Model
    raise AttributeError(f"module 'bitsim.runtime' has no attribute '{name}'")
