"""What compiled code may use, and which kernel follows from it: never an instruction that the CPU lacks."""

import os
import platform
import subprocess
import sys

import pytest

from bitsim.energy_tables import BitsimError
from bitsim.runtime import cpu
from bitsim.runtime.kernels import KERNELS, available, best, kernel_named

X86 = platform.machine() in ("x86_64", "AMD64")
HASWELL = "+avx,+avx2,+fma,+bmi,+bmi2,+sse3,+sse4.1,+sse4.2,+ssse3,+popcnt,+lzcnt,+f16c,+movbe,+cx16"
PROGRAM = """
import numpy as np
from bitsim.runtime.kernels import TernaryMatrix, best
random = np.random.default_rng(0)
weights = random.integers(-1, 2, (70, 100)).astype(np.int8)
for tokens in (1, 3, 33):
    x = random.integers(-128, 128, (tokens, 100)).astype(np.int8)
    assert np.array_equal(TernaryMatrix.pack(weights).multiply(x), x.astype(int) @ weights.T.astype(int))
print(best().name)
"""


@pytest.mark.skipif(not X86, reason="names of x86 CPUs")
@pytest.mark.parametrize(
    ("name", "features", "kernel"),
    [("haswell", HASWELL, "avx2"), ("x86-64", "", "portable"), ("nehalem", None, "portable")],
)
def test_kernel_of_a_lesser_cpu(name: str, features: str | None, kernel: str) -> None:
    settings = {"NUMBA_CPU_NAME": name} | ({} if features is None else {"NUMBA_CPU_FEATURES": features})
    if kernel == "avx2" and "avx2" not in cpu.features():
        pytest.skip("this CPU has no AVX2")
    environment = {key: value for key, value in os.environ.items() if key != "BITSIM_KERNEL"} | settings
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == kernel


def test_best_adds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITSIM_KERNEL", raising=False)
    assert best().add_only
    assert best() is next(kernel for kernel in available() if kernel.add_only)


def test_portable_and_reference_run_anywhere() -> None:
    for name in ("portable", "reference"):
        assert KERNELS[name].runs_on(frozenset())


def test_a_kernel_that_the_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "features", frozenset)
    for name in ("avx512", "avx2", "neon", "vnni", "sdot"):
        with pytest.raises(BitsimError, match=f"BITSIM_KERNEL: '{name}' needs a CPU with"):
            kernel_named(name, "BITSIM_KERNEL")
    assert [kernel.name for kernel in available()] == ["portable", "reference"]


def test_caches_and_cores_have_sizes() -> None:
    assert cpu.usable_cores() >= 1
    assert cpu.last_level_cache_bytes() >= 64 << 10
    assert cpu.name()
