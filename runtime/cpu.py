"""What this CPU is, and what compiled code may use of it."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding as llvm
from numba.core.codegen import get_host_cpu_features

_HWCAP = 16  # getauxval's key
_HWCAP_ASIMDDP = 1 << 20  # Linux, arch/arm64/include/uapi/asm/hwcap.h: the SDOT instruction
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # Linux, arch/x86/include/uapi/asm/prctl.h
_DOT_PRODUCT = """
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
define i32 @dot(<16 x i8> %a, <16 x i8> %b) {
    %x = sext <16 x i8> %a to <16 x i32>
    %y = sext <16 x i8> %b to <16 x i32>
    %products = mul <16 x i32> %x, %y
    %sum = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %products)
    ret i32 %sum
}
"""


@cache
def features() -> frozenset[str]:
    """Return the features that compiled code may use, as LLVM names them: "avx2", "avx512bw", "neon", "dotprod".

    Numba can be told to compile for another CPU than this one (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES); then only what
    NUMBA_CPU_FEATURES lists counts, since an instruction that the target lacks ends the process. ARM's "dotprod" is in
    no list of LLVM's: it counts if both this CPU and the target have it.
    """
    settings: Any = numba.config
    named = settings.CPU_NAME is not None
    text = settings.CPU_FEATURES
    if text is None:
        text = "" if named else get_host_cpu_features()
    found = {feature[1:] for feature in text.split(",") if feature.startswith("+")}
    if "amx-tile" in found and not may_use_tiles():
        found = {feature for feature in found if not feature.startswith("amx")}
    if platform.machine() in ("aarch64", "arm64"):
        found |= {"neon"}  # every 64-bit ARM has it
        target = settings.CPU_NAME if named else llvm.get_host_cpu_name()
        found -= {"dotprod"}
        if has_dot_product() and compiles_dot_product(target, text):
            found |= {"dotprod"}
    return frozenset(found)


def converts_half() -> bool:
    """Whether compiled code may use instructions for IEEE half precision; without, LLVM calls functions not there."""
    return "f16c" in features() or "neon" in features()


def may_use_tiles() -> bool:
    """Ask Linux to let this process use the tile registers of AMX, which it does not do by itself; whether it may."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)) == 0


def has_dot_product() -> bool:
    """Whether an ARM CPU says that it has SDOT."""
    try:
        system = ctypes.CDLL(None)
        if platform.system() == "Darwin":
            value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
            key = b"hw.optional.arm.FEAT_DotProd"
            found = system.sysctlbyname(key, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
            return found and bool(value.value)
        return bool(system.getauxval(_HWCAP) & _HWCAP_ASIMDDP)
    except (AttributeError, OSError):
        return False


def compiles_dot_product(target: str, features: str) -> bool:
    """Whether LLVM compiles a dot product to SDOT for a CPU by its name (and "+feature,-feature").

    To compile the instruction itself for a CPU without it ends the process; this way LLVM is free to do without.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=target, features=features)
    return "sdot" in machine.emit_assembly(llvm.parse_assembly(_DOT_PRODUCT))


def name() -> str:
    """Return the CPU's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model"):
        for line in lines:
            if line.startswith(key) and ":" in line:
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def last_level_cache_bytes() -> int:
    """Return the size of the largest cache, or 32 MiB where the system does not say."""
    sizes = [_cache_bytes(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max(sizes, default=0) or 32 << 20


def _cache_bytes(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * unit if digits.isdigit() else 0
