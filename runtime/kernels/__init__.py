"""Exact products of int8 activations and packed ternary weights, with additions only, for each kind of CPU."""

from .choice import KERNELS, available, best, kernel_named
from .kernel import Kernel
from .matrix import TernaryMatrix

__all__ = ["KERNELS", "Kernel", "TernaryMatrix", "available", "best", "kernel_named"]
