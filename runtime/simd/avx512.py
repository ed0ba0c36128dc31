"""Instructions of AVX-512 (F and BW) as intrinsics of compiled functions."""

from typing import Any

from llvmlite import ir

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
def permute_bytes(typing: Any, table: Any, indexes: Any) -> Any:
    """permute_bytes(table, indexes): vpermb, 64 lookups in a table of 64 bytes; a byte's low 6 bits count (VBMI)."""
    if not table == indexes == U8X64:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx512.permvar.qi.512", U8X64.llvm, list(arguments))

    return U8X64(table, indexes), generate


@instruction
def take_bytes(typing: Any, source: Any, first_bits: Any) -> Any:
    """take_bytes(source, first_bits): vpmultishiftqb, for each byte 8 of its 64 bits, from the given one on (VBMI)."""
    if not source == first_bits == I16X32:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands = [builder.bitcast(argument, U8X64.llvm) for argument in reversed(arguments)]
        taken = call(builder, "llvm.x86.avx512.pmultishift.qb.512", U8X64.llvm, operands)
        return builder.bitcast(taken, I16X32.llvm)

    return I16X32(source, first_bits), generate


@instruction
def dot_bytes(typing: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """dot_bytes(total, unsigned, signed): vpdpbusd, total + four products of bytes in each 32-bit lane (VNNI)."""
    if not (total == I32X16 and unsigned == signed == U8X64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", I32X16.llvm, list(arguments))

    return I32X16(total, unsigned, signed), generate


@instruction
def interleave_words_low(typing: Any, left: Any, right: Any) -> Any:
    """interleave_words_low(left, right): vpunpcklwd, left[0], right[0], left[1], ... of each quarter's lower half."""
    return _interleaved_words(left, right, 0)


@instruction
def interleave_words_high(typing: Any, left: Any, right: Any) -> Any:
    """interleave_words_high(left, right): vpunpckhwd, the same of each quarter's upper half."""
    return _interleaved_words(left, right, 4)


def _interleaved_words(left: Any, right: Any, start: int) -> Any:
    if not left == right == I16X32:
        return None
    order = [quarter + start + step // 2 + step % 2 * 32 for quarter in range(0, 32, 8) for step in range(8)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 32), order)
        return builder.shuffle_vector(arguments[0], arguments[1], mask)

    return I16X32(left, right), generate
