"""The machine code of the inner loops: the instructions meant, additions, and no multiplication."""

import platform
import re
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from bitsim.runtime.heads import quarter_avx512, quarter_avx512vbmi, quarter_bytes, quarter_portable
from bitsim.runtime.kernels import (
    KERNELS,
    available,
    avx2,
    avx512,
    four_russians,
    maddubs,
    portable,
    trit48_several,
    vnni,
)
from bitsim.runtime.simd.vector import I16X32, U8X64

LABEL = re.compile(r"^(\.L[\w.]+):")
JUMP = re.compile(r"^\s+(?:j[a-z]+|b(?:\.[a-z]+)?|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+(\.L[\w.]+)")
MULTIPLY = re.compile(r"^(?:v?p?mul(?!tishift)|imul|v?pmadd|vpdp|v?fn?m|[su]dot|[su]?ml|fml|sqdmul)")


def instructions(function: Any, signature: tuple[Any, ...]) -> list[str]:
    """Compile a function afresh (machine code from the cache can't be looked at) and return its assembly."""
    fresh = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function.py_func)
    fresh.compile(signature)
    lines: list[str] = next(iter(fresh.inspect_asm().values())).split("\n")
    return lines


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """Return the loops (from a label to the last jump back to it) that hold no other, as instruction names."""
    places = {match[1]: place for place, line in enumerate(lines) if (match := LABEL.match(line))}
    ends: dict[int, int] = {}
    for place, line in enumerate(lines):
        if (match := JUMP.match(line)) and places.get(match[1], place) < place:
            ends[places[match[1]]] = place
    loops = [
        (start, end)
        for start, end in ends.items()
        if not any(start <= inner < end and other <= end for inner, other in ends.items() if inner != start)
    ]
    return [
        [names[0] for line in lines[start:end] if (names := line.split()) and "." not in names[0][:1]]
        for start, end in loops
    ]


INDEX = types.intp
WORDS, INT16, INT32, BYTES = (numba.from_dtype(np.dtype(name))[::1] for name in ("u2", "i2", "i4", "u1"))
PAIR: Any = types.UniTuple(INDEX, 2)  # type: ignore[no-untyped-call]
WIDE, BYTEWISE = types.TypeRef(I16X32), types.TypeRef(U8X64)
SEVERAL = (WORDS, INDEX, INT16, INDEX, INT32, INDEX, INDEX)

CASES = [
    # kernel, function, its arguments, instructions that look up and that add, and how many there are at least
    ("avx512", avx512.one_token_four_blocks, (WORDS, INDEX, INT16, INT32, INDEX), {"vpermw": 12, "vpaddw": 12}),
    ("avx512", avx512.one_token_one_block, (WORDS, INDEX, INT16, INT32, INDEX), {"vpermw": 3, "vpaddw": 3}),
    ("avx512", trit48_several.two_tokens, (WIDE, *SEVERAL), {"vpermw": 12, "vpaddw": 12}),
    ("avx512", trit48_several.four_tokens, (WIDE, *SEVERAL), {"vpermw": 24, "vpaddw": 24}),
    ("avx512vbmi", trit48_several.two_tokens, (BYTEWISE, *SEVERAL), {"vpermb": 12, "vpaddw": 12}),
    ("avx512vbmi", trit48_several.four_tokens, (BYTEWISE, *SEVERAL), {"vpermb": 24, "vpaddw": 24}),
    (
        "avx512",
        four_russians.add_chunk,
        (WIDE, WORDS, INT16, INT16, INDEX, INDEX, types.boolean),
        {"vpaddw": 8},  # with the sum as an operand in memory; the ninth is a load
    ),
    ("avx2", avx2.one_token, (BYTES, INDEX, BYTES, INT16, INT32, PAIR), {"vpshufb": 16, "vpaddb": 14}),
    (
        "avx2",
        avx2.two_tokens_or_more,
        (BYTES, INDEX, BYTES, INDEX, INT16, INT32, PAIR),
        {"vpshufb": 16, "vpaddb": 14},
    ),
    ("portable", portable.eight_rows, (BYTES, INDEX, INDEX, INT16, INDEX, INT32, INDEX), {"addl": 8}),
    # The two-bit products of screened heads.
    ("avx512", quarter_avx512.four_blocks, (BYTES, INT16, INDEX, INDEX, INT32, INDEX), {"vpermw": 16, "vpaddw": 16}),
    ("avx512", quarter_avx512.one_block, (BYTES, INT16, INDEX, INDEX, INT32, INDEX), {"vpermw": 4, "vpaddw": 4}),
    (
        "avx512vbmi",
        quarter_avx512vbmi.four_sequences,
        (BYTES, INT16, INDEX, INDEX, INT32, INDEX, INDEX, INT16),
        {"vpermb": 32, "vpaddw": 32},
    ),
    ("avx2", quarter_bytes.one_block_shuffled, (BYTES, BYTES, INDEX, INDEX, INT32, INDEX), {"vpshufb": 8, "vpaddb": 4}),
    ("portable", quarter_portable.eight_rows, (BYTES, INDEX, INDEX, INT16, INDEX, INT32, INDEX), {"addl": 8}),
]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instructions of x86")
@pytest.mark.parametrize(("kernel", "function", "arguments", "expected"), CASES)
def test_inner_loops_look_up_and_add_and_never_multiply(
    kernel: str, function: Any, arguments: tuple[Any, ...], expected: dict[str, int]
) -> None:
    if KERNELS[kernel] not in available():
        pytest.skip(f"this CPU has no {kernel}")
    lookup = next(iter(expected))
    loops = [loop for loop in innermost_loops(instructions(function, arguments)) if loop.count(lookup) > 1]
    assert loops
    for loop in loops:
        assert all(loop.count(name) >= count for name, count in expected.items())
        assert not [instruction for instruction in loop if MULTIPLY.match(instruction)]


@pytest.mark.parametrize(
    ("kernel", "function", "arguments"),
    [
        ("vnni", vnni.eight_tokens, (BYTES, INDEX, INT32, INDEX, INT32, INDEX)),
        ("maddubs", maddubs.one_token, (BYTES, INDEX, INT32, INDEX, INT32, PAIR)),
    ],
)
def test_a_multiplication_would_be_found(kernel: str, function: Any, arguments: Any) -> None:
    if KERNELS[kernel] not in available():
        pytest.skip(f"this CPU has no {kernel}")
    loops = innermost_loops(instructions(function, arguments))
    assert any(MULTIPLY.match(instruction) for loop in loops for instruction in loop)
