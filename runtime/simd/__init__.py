"""Vector registers and instructions as numba values: `vector` for every CPU, the others for one family each."""
