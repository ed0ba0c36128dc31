"""Instructions of AVX-512 (F and BW) as intrinsics of compiled functions."""

from typing import Any

from .vector import I16X32, I32X16, U8X64, call, instruction


@instruction
def permute(typing: Any, table: Any, indexes: Any) -> Any:
    """permute(table, indexes): vpermw, 32 lookups in a table of 32 16-bit entries; the low 5 bits of a lane count."""
    if not table == indexes == I16X32:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx512.permvar.hi.512", I16X32.llvm, list(arguments))

    return I16X32(table, indexes), generate


@instruction
def dot_bytes(typing: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """dot_bytes(total, unsigned, signed): vpdpbusd, total + four products of bytes in each 32-bit lane (VNNI)."""
    if not (total == I32X16 and unsigned == signed == U8X64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", I32X16.llvm, list(arguments))

    return I32X16(total, unsigned, signed), generate
