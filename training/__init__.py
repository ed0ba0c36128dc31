"""Trains twins in full precision and ternary, and writes what the runtime runs; the only user of torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitlinear import BitLinear, transform
    from .model import build_model, training_spec
    from .request import Means, Request
    from .run import train

_HOMES = {
    "BitLinear": "bitlinear",
    "Means": "request",
    "Request": "request",
    "build_model": "model",
    "train": "run",
    "training_spec": "model",
    "transform": "bitlinear",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["BitLinear", "Means", "Request", "build_model", "train", "training_spec", "transform"]
