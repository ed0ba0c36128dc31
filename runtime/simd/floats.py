"""Registers of float32: conversions from and to 16 bits, multiply-adds, sums over lanes, exponentials."""

from typing import Any

from llvmlite import ir
from numba.core import types

from .. import cpu
from ..compile import inlined
from .vector import F32X16, I16X16, I32X16, Vector, call, instruction, reinterpret, splat, widen_unsigned

Register = Any


def _suffix(vector: Vector) -> str:
    return f"v{vector.lanes}f32"


@instruction
def multiply_add(typing: Any, left: Any, right: Any, total: Any) -> Any:
    """multiply_add(left, right, total): left x right + total, rounded once where the CPU does so."""
    if not (isinstance(left, Vector) and left.floating and left == right == total):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"llvm.fmuladd.{_suffix(left)}", left.llvm, list(arguments))

    return left(left, right, total), generate


@instruction
def larger_float(typing: Any, left: Any, right: Any) -> Any:
    """larger_float(left, right): the larger number in each lane."""
    return _of_two(left, right, "llvm.maxnum")


@instruction
def smaller_float(typing: Any, left: Any, right: Any) -> Any:
    """smaller_float(left, right): the smaller number in each lane."""
    return _of_two(left, right, "llvm.minnum")


def _of_two(left: Any, right: Any, name: str) -> Any:
    if not (isinstance(left, Vector) and left.floating and left == right):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"{name}.{_suffix(left)}", left.llvm, list(arguments))

    return left(left, right), generate


@instruction
def absolute(typing: Any, value: Any) -> Any:
    """absolute(value): without its sign."""
    return _of_one(value, "llvm.fabs")


@instruction
def rounded(typing: Any, value: Any) -> Any:
    """rounded(value): to the nearest whole number, halves to the even one."""
    return _of_one(value, "llvm.rint")


def _of_one(value: Any, name: str) -> Any:
    if not (isinstance(value, Vector) and value.floating):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"{name}.{_suffix(value)}", value.llvm, list(arguments))

    return value(value), generate


@instruction
def sum_of_lanes(typing: Any, value: Any) -> Any:
    """sum_of_lanes(value): a float32; pairs are added, then pairs of pairs."""
    if not (isinstance(value, Vector) and value.floating):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = ir.IntType(32)
        total, count = arguments[0], value.lanes
        while count > 1:
            count //= 2
            low, high = (ir.Constant(ir.VectorType(index, count), list(range(at, at + count))) for at in (0, count))
            nothing = ir.Constant(total.type, ir.Undefined)
            halves = [builder.shuffle_vector(total, nothing, order) for order in (low, high)]
            total = builder.fadd(*halves)
        return builder.extract_element(total, index(0))

    return types.float32(value), generate


@instruction
def largest_lane(typing: Any, value: Any) -> Any:
    """largest_lane(value): a float32."""
    if not (isinstance(value, Vector) and value.floating):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"llvm.vector.reduce.fmax.{_suffix(value)}", ir.FloatType(), list(arguments))

    return types.float32(value), generate


@instruction
def to_floats(typing: Any, value: Any) -> Any:
    """to_floats(value): signed 32-bit lanes as float32."""
    if not (isinstance(value, Vector) and not value.floating and value.bits == 32):
        return None
    floats = Vector(32, value.lanes, floating=True)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], floats.llvm)

    return floats(value), generate


@instruction
def to_integers(typing: Any, value: Any) -> Any:
    """to_integers(value): whole numbers as signed 32-bit lanes."""
    if not (isinstance(value, Vector) and value.floating):
        return None
    integers = Vector(32, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fptosi(arguments[0], integers.llvm)

    return integers(value), generate


@instruction
def to_bytes(typing: Any, value: Any) -> Any:
    """to_bytes(value): the lowest 8 bits of 32-bit lanes."""
    if not (isinstance(value, Vector) and not value.floating and value.bits == 32):
        return None
    narrow = Vector(8, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.trunc(arguments[0], narrow.llvm)

    return narrow(value), generate


@instruction
def _half_to_floats(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = ir.VectorType(ir.HalfType(), value.lanes)
        return builder.fpext(builder.bitcast(arguments[0], half), F32X16.llvm)

    return F32X16(value), generate


@instruction
def _floats_to_half(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = ir.VectorType(ir.HalfType(), value.lanes)
        return builder.bitcast(builder.fptrunc(arguments[0], half), I16X16.llvm)

    return I16X16(value), generate


@instruction
def to_words(typing: Any, value: Any) -> Any:
    """to_words(value): the lowest 16 bits of 32-bit lanes."""
    if not (isinstance(value, Vector) and not value.floating and value.bits == 32):
        return None
    narrow = Vector(16, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.trunc(arguments[0], narrow.llvm)

    return narrow(value), generate


# x86 before 2012 and some small cores have no instruction for half precision, and LLVM would call a function that is
# not there. By the exponent's bias: half's 15, float's 127.
NATIVE_HALF = cpu.converts_half()
UP, DOWN = 2.0**112, 2.0**-112


@inlined
def from_half(value: Register) -> Register:
    """Return IEEE half precision, in 16-bit lanes, as float32; infinities become 65,536 where done by arithmetic."""
    if NATIVE_HALF:
        return _half_to_floats(value)
    wide = widen_unsigned(value)
    magnitude = reinterpret(F32X16, (wide & 0x7FFF) << 13) * UP
    return reinterpret(F32X16, reinterpret(I32X16, magnitude) | ((wide & 0x8000) << 16))


@inlined
def to_half(value: Register) -> Register:
    """Return float32 below 65,520 in size as IEEE half precision in 16-bit lanes, halves to even.

    Without an instruction for it, numbers below 2^-14 are rounded twice.
    """
    if NATIVE_HALF:
        return _floats_to_half(value)
    bits = reinterpret(I32X16, value)
    small = reinterpret(I32X16, reinterpret(F32X16, bits & 0x7FFFFFFF) * DOWN)
    nearest = (small + ((small >> 13) & 1) + 0xFFF) >> 13
    return to_words(nearest | ((bits >> 16) & 0x8000))


@inlined
def from_brain(value: Register) -> Register:
    """Return bfloat16, in 16-bit lanes, as float32."""
    return reinterpret(F32X16, widen_unsigned(value) << 16)


LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln 2; the first has few bits, n x it is exact
LARGEST_EXPONENT = 88.0


@inlined
def exponential(x: Register) -> Register:
    """Return e^x within 2 units in the last place, for -87 to 88; beyond, that of the nearer bound.

    x = n ln 2 + r; e^r by the polynomial of Cephes' expf (S. L. Moshier), 2^n by its bits.
    """
    x = smaller_float(larger_float(x, splat(F32X16, -87.0)), splat(F32X16, LARGEST_EXPONENT))
    n = rounded(x * LOG2_E)
    r = multiply_add(n, splat(F32X16, -LN2_HIGH), x)
    r = multiply_add(n, splat(F32X16, -LN2_LOW), r)
    p = multiply_add(splat(F32X16, 1.9875691500e-4), r, splat(F32X16, 1.3981999507e-3))
    p = multiply_add(p, r, splat(F32X16, 8.3334519073e-3))
    p = multiply_add(p, r, splat(F32X16, 4.1665795894e-2))
    p = multiply_add(p, r, splat(F32X16, 1.6666665459e-1))
    p = multiply_add(p, r, splat(F32X16, 5.0000001201e-1))
    p = multiply_add(p, r * r, r + splat(F32X16, 1.0))
    return p * reinterpret(F32X16, (to_integers(n) + 127) << 23)
