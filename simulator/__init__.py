"""Closed-form cost of a language model: energy, time, traffic and memory from its shape, a scheme and a machine."""

from .engine import ENGINES, Engine, resolve_engine
from .estimate import estimate
from .model_config import spec_from_config
from .model_spec import ModelSpec
from .resolve import resolve_model, resolve_size_or_model
from .result import Estimate
from .schemes import PACKINGS, SCHEMES, Scheme, get_scheme
from .sizes import spec_for_size, spec_for_vocabulary
from .workload import Workload, make_workload

__all__ = [
    "ENGINES",
    "PACKINGS",
    "SCHEMES",
    "Engine",
    "Estimate",
    "ModelSpec",
    "Scheme",
    "Workload",
    "estimate",
    "get_scheme",
    "make_workload",
    "resolve_engine",
    "resolve_model",
    "resolve_size_or_model",
    "spec_for_size",
    "spec_for_vocabulary",
    "spec_from_config",
]
