"""Vector registers as numba values: types, and the operations that every instruction set has.

A `Vector` is a fixed number of integer lanes that lives in one register (or several, where the machine's are narrower).
Inside compiled functions `+ - & | ^ >> <<` work lane by lane, wrapping around; shifts to the right bring in zeros.
Lanes of floating point (more in `floats`) take `+ - * /`.

    words = load(I16X32, packed, offset)    # 32 lanes from an array, at an element offset of its own type
    total = total + widen(permute(table, words >> 5))

Instructions of one CPU family are in `avx512`, `avx2` and `neon`.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, register_model


class Vector(types.Type):
    """A register of `lanes` integers of `bits` bits each, or of as many float32."""

    def __init__(self, bits: int, lanes: int, floating: bool = False) -> None:
        self.bits, self.lanes, self.floating = bits, lanes, floating
        super().__init__(name=f"Vector({'f' if floating else 'i'}{bits} x {lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        """The type in LLVM's intermediate representation."""
        return ir.VectorType(ir.FloatType() if self.floating else ir.IntType(self.bits), self.lanes)

    @property
    def element(self) -> Any:
        """Numba's type of a lane."""
        return types.float32 if self.floating else types.Integer.from_bitwidth(self.bits)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


U8X16, U8X32, U8X64 = Vector(8, 16), Vector(8, 32), Vector(8, 64)
I16X8, I16X16, I16X32 = Vector(16, 8), Vector(16, 16), Vector(16, 32)
I32X4, I32X8, I32X16 = Vector(32, 4), Vector(32, 8), Vector(32, 16)
F32X16 = Vector(32, 16, floating=True)


def instruction(generator: Callable[..., Any]) -> Any:
    """Make a function that writes LLVM code callable from compiled functions (numba's `intrinsic`)."""
    return intrinsic(generator)


def call(builder: Any, name: str, result: ir.Type, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic by its name."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def address(context: Any, builder: Any, array_type: types.Array, array: Any, offset: Any, target: ir.Type) -> Any:
    """Return a pointer to element `offset` of an array, as a pointer to `target`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), target.as_pointer())


def is_flat(array: Any) -> bool:
    """Whether this is the type of a contiguous array: what loads and stores take."""
    return isinstance(array, types.Array) and array.layout == "C"


@instruction
def load(typing: Any, vector: Any, array: Any, offset: Any) -> Any:
    """load(VECTOR, array, offset): the lanes from element `offset` on; any alignment."""
    if not (isinstance(vector, types.TypeRef) and is_flat(array)):
        return None
    lanes = vector.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[1], arguments[1], arguments[2], lanes.llvm)
        return builder.load(pointer, align=1)

    return lanes(vector, array, types.intp), generate


@instruction
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """store(array, offset, value): write the lanes from element `offset` on; any alignment."""
    if not (isinstance(value, Vector) and is_flat(array)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[0], arguments[0], arguments[1], value.llvm)
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@instruction
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """prefetch(array, offset): ask for the cache line of element `offset`; may lie outside of the array."""
    if not is_flat(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[0], arguments[0], arguments[1], ir.IntType(8))
        read, keep, data = (ir.Constant(ir.IntType(32), value) for value in (0, 3, 1))
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@instruction
def splat(typing: Any, vector: Any, value: Any) -> Any:
    """splat(VECTOR, value): the same number in every lane."""
    if not (isinstance(vector, types.TypeRef) and isinstance(value, types.Number)):
        return None
    lanes = vector.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = context.cast(builder, arguments[1], signature.args[1], lanes.element)
        return _splat(builder, lanes, scalar)

    return lanes(vector, value), generate


@instruction
def broadcast(typing: Any, vector: Any, array: Any, offset: Any) -> Any:
    """broadcast(VECTOR, array, offset): the lane-sized number that begins at element `offset`, in every lane."""
    if not (isinstance(vector, types.TypeRef) and is_flat(array)):
        return None
    lanes = vector.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lane = lanes.llvm.element
        pointer = address(context, builder, signature.args[1], arguments[1], arguments[2], lane)
        return _splat(builder, lanes, builder.load(pointer, align=1))

    return lanes(vector, array, types.intp), generate


def _splat(builder: Any, lanes: Vector, scalar: Any) -> Any:
    index = ir.IntType(32)
    one = builder.insert_element(ir.Constant(lanes.llvm, ir.Undefined), scalar, index(0))
    everywhere = ir.Constant(ir.VectorType(index, lanes.lanes), [0] * lanes.lanes)
    return builder.shuffle_vector(one, ir.Constant(lanes.llvm, ir.Undefined), everywhere)


@instruction
def lanes(typing: Any, vector: Any) -> Any:
    """lanes(VECTOR): how many there are, a constant."""
    if not isinstance(vector, types.TypeRef):
        return None
    count = vector.instance_type.lanes
    return types.intp(vector), lambda context, builder, signature, arguments: ir.Constant(ir.IntType(64), count)


@instruction
def add_into(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """add_into(array, offset, value): add the lanes to those in memory."""
    if not (isinstance(value, Vector) and is_flat(array)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[0], arguments[0], arguments[1], value.llvm)
        builder.store(builder.add(builder.load(pointer, align=1), arguments[2]), pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@instruction
def larger(typing: Any, left: Any, right: Any) -> Any:
    """larger(left, right): the larger of two signed numbers in each lane."""
    if not (isinstance(left, Vector) and left == right):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, f"llvm.smax.v{left.lanes}i{left.bits}", left.llvm, list(arguments))

    return left(left, right), generate


@instruction
def shift_in(typing: Any, value: Any, source: Any, bits: Any) -> Any:
    """shift_in(value, source, bits): shifted left by `bits`, filled up with the uppermost bits of source."""
    if not (isinstance(value, Vector) and value == source and isinstance(bits, types.Integer)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[2], signature.args[2], types.Integer.from_bitwidth(value.bits))
        operands = [arguments[0], arguments[1], _splat(builder, value, number)]
        return call(builder, f"llvm.fshl.v{value.lanes}i{value.bits}", value.llvm, operands)

    return value(value, source, bits), generate


@instruction
def interleave_low(typing: Any, left: Any, right: Any) -> Any:
    """interleave_low(left, right): left[0], right[0], left[1], ... of the lower half of the lanes."""
    return _interleaved(left, right, 0)


@instruction
def interleave_high(typing: Any, left: Any, right: Any) -> Any:
    """interleave_high(left, right): the same of the upper half."""
    return _interleaved(left, right, 1)


def _interleaved(left: Any, right: Any, half: int) -> Any:
    if not (isinstance(left, Vector) and left == right):
        return None
    count = left.lanes
    start = half * count // 2
    order = [start + lane // 2 + (lane % 2) * count for lane in range(count)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), count), order)
        return builder.shuffle_vector(arguments[0], arguments[1], mask)

    return left(left, right), generate


@instruction
def widen(typing: Any, value: Any) -> Any:
    """widen(value): signed lanes of twice the bits."""
    return _widened(value, "sext")


@instruction
def widen_unsigned(typing: Any, value: Any) -> Any:
    """widen_unsigned(value): lanes of twice the bits, taken as unsigned."""
    return _widened(value, "zext")


def _widened(value: Any, instruction: str) -> Any:
    if not isinstance(value, Vector):
        return None
    wide = Vector(value.bits * 2, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(arguments[0], wide.llvm)

    return wide(value), generate


@instruction
def reinterpret(typing: Any, vector: Any, value: Any) -> Any:
    """reinterpret(VECTOR, value): the same bits as other lanes."""
    if not (isinstance(vector, types.TypeRef) and isinstance(value, Vector)):
        return None
    lanes = vector.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[1], lanes.llvm)

    return lanes(vector, value), generate


def _operation(operator_: Callable[..., Any], integer: str | None, floating: str | None) -> None:
    """Teach numba an operator between two registers alike, or between a register and a number."""

    def instruction_of(vector: Vector) -> str | None:
        return floating if vector.floating else integer

    @infer_global(operator_)
    class Operation(AbstractTemplate):
        def generic(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            left, right = arguments
            if isinstance(left, Vector) and instruction_of(left) is not None:
                number = types.Number if left.floating else types.Integer
                if left == right or isinstance(right, number):
                    return left(left, right)
            return None

    @lower_builtin(operator_, Vector, Vector)
    def lanes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, str(instruction_of(signature.args[0])))(*arguments)

    @lower_builtin(operator_, Vector, types.Number)
    def scalar(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = signature.args
        number = context.cast(builder, arguments[1], right, left.element)
        return getattr(builder, str(instruction_of(left)))(arguments[0], _splat(builder, left, number))


for _operator, _integer, _floating in (
    (operator.add, "add", "fadd"),
    (operator.sub, "sub", "fsub"),
    (operator.mul, None, "fmul"),
    (operator.truediv, None, "fdiv"),
    (operator.and_, "and_", None),
    (operator.or_, "or_", None),
    (operator.xor, "xor", None),
    (operator.lshift, "shl", None),
    (operator.rshift, "lshr", None),
):
    _operation(_operator, _integer, _floating)
