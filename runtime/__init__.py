"""Packed ternary weights on a CPU, with numpy and numba and without torch. So far: their layouts (`packing`)."""
