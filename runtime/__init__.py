"""Not written yet: here packed ternary models will run on a CPU, with numpy and numba and without torch."""
