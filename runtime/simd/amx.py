"""Intel's tile registers (AMX) as intrinsics of compiled functions: products of 16 tokens and 16 rows at once.

A tile is up to 16 rows of 64 bytes. Tiles are numbers 0 to 7, known when compiling; a thread sets their shapes before
it uses them and lets them go afterwards, or the system would save 8 kB more for it at every switch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .vector import address, call, instruction, is_flat

TILES = 8
SHAPES = 64  # bytes of their shapes
_BYTE = ir.IntType(8)


def tile_instruction(generator: Callable[..., Any]) -> Any:
    """Make an instruction that is told the tiles' numbers when compiling."""
    return intrinsic(prefer_literal=True)(generator)


def shapes(rows: list[int], widths: list[int]) -> npt.NDArray[np.uint8]:
    """Return what `configure` takes: the tiles' rows, and their widths in bytes."""
    made = np.zeros(SHAPES, np.uint8)
    made[0] = 1
    made[16 : 16 + 2 * TILES].view(np.uint16)[: len(widths)] = widths
    made[48 : 48 + len(rows)] = rows
    return made


@instruction
def configure(typing: Any, shapes: Any, offset: Any) -> Any:
    """configure(shapes, offset): set the shapes of all tiles to those from element `offset` on."""
    if not is_flat(shapes):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[0], arguments[0], arguments[1], _BYTE)
        call(builder, "llvm.x86.ldtilecfg", ir.VoidType(), [pointer])
        return context.get_dummy_value()

    return types.void(shapes, types.intp), generate


@instruction
def release(typing: Any) -> Any:
    """release(): let all tiles go."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, "llvm.x86.tilerelease", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), generate


@tile_instruction
def zero(typing: Any, tile: Any) -> Any:
    """zero(TILE): fill a tile with zeros."""
    if not isinstance(tile, types.IntegerLiteral):
        return None
    number = tile.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, "llvm.x86.tilezero", ir.VoidType(), [_BYTE(number)])
        return context.get_dummy_value()

    return types.void(tile), generate


@tile_instruction
def load_tile(typing: Any, tile: Any, array: Any, offset: Any, stride: Any) -> Any:
    """load_tile(TILE, array, offset, stride): read a tile's rows, `stride` bytes apart, from element `offset` on."""
    return _moved("llvm.x86.tileloadd64", tile, array, offset, stride)


@tile_instruction
def store_tile(typing: Any, tile: Any, array: Any, offset: Any, stride: Any) -> Any:
    """store_tile(TILE, array, offset, stride): write a tile's rows."""
    return _moved("llvm.x86.tilestored64", tile, array, offset, stride)


def _moved(name: str, tile: Any, array: Any, offset: Any, stride: Any) -> Any:
    if not (isinstance(tile, types.IntegerLiteral) and is_flat(array)):
        return None
    number = tile.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = address(context, builder, signature.args[1], arguments[1], arguments[2], _BYTE)
        call(builder, name, ir.VoidType(), [_BYTE(number), pointer, arguments[3]])
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), generate


@tile_instruction
def dot_tiles(typing: Any, total: Any, left: Any, right: Any) -> Any:
    """dot_tiles(TOTAL, LEFT, RIGHT): tdpbssd, total[m, n] += sum of left[m, 4 k + i] right[k, 4 n + i], of bytes."""
    if not all(isinstance(tile, types.IntegerLiteral) for tile in (total, left, right)):
        return None
    numbers = [tile.literal_value for tile in (total, left, right)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, "llvm.x86.tdpbssd", ir.VoidType(), [_BYTE(number) for number in numbers])
        return context.get_dummy_value()

    return types.void(total, left, right), generate
