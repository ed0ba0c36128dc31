"""Instructions of 64-bit ARM (NEON, and SDOT where a CPU has it) as intrinsics of compiled functions."""

from typing import Any

from llvmlite import ir
from numba.core import types

from .vector import I32X4, U8X16, Vector, call, instruction


@instruction
def look_up(typing: Any, table: Any, indexes: Any) -> Any:
    """look_up(table, indexes): tbl, bytes of a table of 16 or 32; 0 for an index past its end."""
    if not (_in_registers(table) and _in_registers(indexes) and table.lanes <= 32):
        return None
    count = table.lanes // U8X16.lanes

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        registers = _registers(builder, arguments[0], count)
        name = f"llvm.aarch64.neon.tbl{count}.v16i8"
        parts = [
            call(builder, name, U8X16.llvm, [*registers, part])
            for part in _registers(builder, arguments[1], indexes.lanes // U8X16.lanes)
        ]
        return _joined(builder, parts)

    return indexes(table, indexes), generate


@instruction
def narrow(typing: Any, value: Any) -> Any:
    """narrow(value): the lower half of each lane's bits; of value >> n it is one instruction (xtn, shrn)."""
    if not isinstance(value, Vector):
        return None
    half = Vector(value.bits // 2, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.trunc(arguments[0], half.llvm)

    return half(value), generate


@instruction
def dot_bytes(typing: Any, total: Any, left: Any, right: Any) -> Any:
    """dot_bytes(total, left, right): sdot, total + four products of signed bytes in each 32-bit lane.

    LLVM ends the process when this is compiled for a CPU without the instruction: see `cpu.features`.
    """
    if not (total == I32X4 and left == right == U8X16):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", I32X4.llvm, list(arguments))

    return I32X4(total, left, right), generate


@instruction
def lane_everywhere(typing: Any, value: Any, lane: Any) -> Any:
    """lane_everywhere(value, lane): one lane in all; a constant one costs `dot_bytes` nothing."""
    if not (isinstance(value, Vector) and isinstance(lane, types.Integer)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        unset, index = ir.Constant(value.llvm, ir.Undefined), ir.IntType(32)
        first = builder.insert_element(unset, builder.extract_element(*arguments), index(0))
        return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(index, value.lanes), [0] * value.lanes))

    return value(value, lane), generate


def _in_registers(vector: Any) -> bool:
    return isinstance(vector, Vector) and vector.bits == U8X16.bits and vector.lanes % U8X16.lanes == 0


def _registers(builder: Any, value: Any, count: int) -> list[Any]:
    """Return a vector of bytes as registers of 16."""
    return [_shuffled(builder, value, value, range(16 * part, 16 * part + 16)) for part in range(count)]


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Return registers of 16 bytes as one vector; their number is a power of two."""
    while len(parts) > 1:
        parts = [
            _shuffled(builder, left, right, range(2 * left.type.count))
            for left, right in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _shuffled(builder: Any, left: Any, right: Any, order: range) -> Any:
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))
