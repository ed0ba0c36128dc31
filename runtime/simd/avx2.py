"""Instructions of AVX2 as intrinsics of compiled functions."""

from typing import Any

from llvmlite import ir
from numba.core import types

from .vector import I16X16, I32X8, U8X16, U8X32, address, call, instruction, is_flat


@instruction
def shuffle(typing: Any, table: Any, indexes: Any) -> Any:
    """shuffle(table, indexes): vpshufb, 16 lookups in each half of a table; the low 4 bits count if bit 7 is 0."""
    if not table == indexes == U8X32:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx2.pshuf.b", U8X32.llvm, list(arguments))

    return U8X32(table, indexes), generate


@instruction
def load_twice(typing: Any, array: Any, offset: Any) -> Any:
    """load_twice(array, offset): vbroadcasti128, the 16 bytes from element `offset` on in both halves."""
    if not is_flat(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[0], arguments[0], arguments[1], U8X16.llvm)
        half = builder.load(pointer, align=1)
        twice = ir.Constant(ir.VectorType(ir.IntType(32), 32), list(range(16)) * 2)
        return builder.shuffle_vector(half, ir.Constant(U8X16.llvm, ir.Undefined), twice)

    return U8X32(array, types.intp), generate


@instruction
def low_bytes(typing: Any, first: Any, second: Any) -> Any:
    """low_bytes(first, second): the low bytes of 16 lanes each, one after the other."""
    if not first == second == I16X16:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        order = ir.Constant(ir.VectorType(ir.IntType(32), 32), list(range(32)))
        return builder.trunc(builder.shuffle_vector(*arguments, order), U8X32.llvm)

    return U8X32(first, second), generate


@instruction
def sign(typing: Any, value: Any, signs: Any) -> Any:
    """sign(value, signs): vpsignw, 16 lanes negated, zeroed or left as they are for signs -1, 0, 1."""
    if not value == signs == I16X16:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx2.psign.w", I16X16.llvm, list(arguments))

    return I16X16(value, signs), generate


@instruction
def multiply_bytes(typing: Any, unsigned: Any, signed: Any) -> Any:
    """multiply_bytes(unsigned, signed): vpmaddubsw, sums of two products in 16-bit lanes, saturating."""
    if not unsigned == signed == U8X32:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx2.pmadd.ub.sw", I16X16.llvm, list(arguments))

    return I16X16(unsigned, signed), generate


@instruction
def multiply_words(typing: Any, left: Any, right: Any) -> Any:
    """multiply_words(left, right): vpmaddwd, sums of two products in 32-bit lanes."""
    if not left == right == I16X16:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.x86.avx2.pmadd.wd", I32X8.llvm, list(arguments))

    return I32X8(left, right), generate
