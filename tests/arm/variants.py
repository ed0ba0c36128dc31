"""Loops that were tried for ARM and not taken, kept to compare their machine code with the kernels'."""

from typing import Any

from bitsim.runtime.compile import compiled, inlined
from bitsim.runtime.simd.neon import look_up, narrow
from bitsim.runtime.simd.vector import I16X32, U8X16, U8X32, load, splat, store, widen, widen_unsigned


@inlined
def nine(words: Any, tables: Any, table: Any, low: Any, high: Any) -> Any:
    """Add the sums of nine weights in a 16-bit word, three an index, from tables of 32 bytes."""
    index = narrow(words) & 31
    low = low + look_up(load(U8X32, tables, table), index)
    high = high + look_up(load(U8X32, tables, table + 32), index)
    index = narrow(words >> 5) & 31
    low = low + look_up(load(U8X32, tables, table + 64), index)
    high = high + look_up(load(U8X32, tables, table + 96), index)
    index = narrow(words >> 10)
    low = low + look_up(load(U8X32, tables, table + 128), index)
    return low, high + look_up(load(U8X32, tables, table + 160), index)


@compiled
def two_registers(packed: Any, groups: Any, tables: Any, out: Any) -> None:
    """Three weights an index, nine in a 16-bit word; 18 weights a turn."""
    lows = highs = splat(I16X32, 0)
    group = 0
    while group < groups:
        zero = splat(U8X32, 0)
        low, high = nine(load(I16X32, packed, 32 * group), tables, 192 * group, zero, zero)
        group += 1
        if group < groups:
            low, high = nine(load(I16X32, packed, 32 * group), tables, 192 * group, low, high)
            group += 1
        lows = lows + widen_unsigned(low)
        highs = highs + widen(high)
    store(out, 0, lows)
    store(out, 32, highs)


@inlined
def add_byte(packed: Any, byte: Any, tables: Any, low: Any, high: Any) -> Any:
    """Add the sums of a byte of a row, in the layout nibble9."""
    codes, table = load(U8X32, packed, 32 * byte), 64 * byte
    index, other = codes & 15, codes >> 4
    low = low + look_up(load(U8X16, tables, table), index) + look_up(load(U8X16, tables, table + 32), other)
    high = high + look_up(load(U8X16, tables, table + 16), index)
    return low, high + look_up(load(U8X16, tables, table + 48), other)


@compiled
def without_branch(packed: Any, taken: Any, tables: Any, out: Any) -> None:
    """The kernel's own way, 18 weights a turn, without a branch between the bytes."""
    lows = highs = splat(I16X32, 0)
    for byte in range(0, taken, 4):
        low = high = splat(U8X32, 0)
        low, high = add_byte(packed, byte, tables, low, high)
        low, high = add_byte(packed, byte + 1, tables, low, high)
        low, high = add_byte(packed, byte + 2, tables, low, high)
        low, high = add_byte(packed, byte + 3, tables, low, high)
        lows = lows + widen_unsigned(low)
        highs = highs + widen(high)
    store(out, 0, lows)
    store(out, 32, highs)


@compiled
def two_weights(packed: Any, groups: Any, tables: Any, out: Any) -> None:
    """Two weights an index, four in a byte; 16 weights a turn."""
    lows = highs = splat(I16X32, 0)
    group = 0
    while group < groups:
        low = high = splat(U8X32, 0)
        low, high = add_byte(packed, group, tables, low, high)
        low, high = add_byte(packed, group + 1, tables, low, high)
        group += 2
        if group < groups:
            low, high = add_byte(packed, group, tables, low, high)
            low, high = add_byte(packed, group + 1, tables, low, high)
            group += 2
        lows = lows + widen_unsigned(low)
        highs = highs + widen(high)
    store(out, 0, lows)
    store(out, 32, highs)
