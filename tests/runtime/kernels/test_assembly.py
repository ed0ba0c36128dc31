"""The machine code of the inner loops: the instructions meant, additions, and no multiplication."""

import re
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from bitsim.runtime.kernels import KERNELS, available, avx512, four_russians, vnni
from bitsim.runtime.simd.vector import I16X32

LABEL = re.compile(r"^(\.L[\w.]+):")
JUMP = re.compile(r"^\s+(?:j[a-z]+|b(?:\.[a-z]+)?|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+(\.L[\w.]+)")
MULTIPLY = re.compile(r"^(?:v?p?mul|imul|v?pmadd|vpdp|v?fn?m|[su]dot|[su]?ml|fml|sqdmul)")


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
WIDE = types.TypeRef(I16X32)

CASES = [
    # kernel, function, its arguments, lookups in the loop at least, the instruction that looks up, the one that adds
    ("avx512", avx512.one_token_four_blocks, (WORDS, INDEX, INT16, INDEX, INT32, INDEX), 12, "vpermw", "vpaddw"),
    ("avx512", avx512.one_token_one_block, (WORDS, INDEX, INT16, INDEX, INT32, INDEX), 3, "vpermw", "vpaddw"),
    ("avx512", avx512.two_tokens_two_blocks, (WORDS, INDEX, INT16, INDEX, INT32, INDEX, INDEX), 12, "vpermw", "vpaddw"),
    (
        "avx512",
        four_russians.add_chunk,
        (WIDE, WORDS, INT16, INT16, INDEX, INDEX, types.boolean),
        8,  # the ninth is a load
        "vpaddw",
        "vpaddw",
    ),
]


@pytest.mark.parametrize(("kernel", "function", "arguments", "lookups", "lookup", "add"), CASES)
def test_inner_loops_look_up_and_add_and_never_multiply(
    kernel: str, function: Any, arguments: tuple[Any, ...], lookups: int, lookup: str, add: str
) -> None:
    if KERNELS[kernel] not in available():
        pytest.skip(f"this CPU has no {kernel}")
    loops = [loop for loop in innermost_loops(instructions(function, arguments)) if lookup in loop]
    assert loops
    for loop in loops:
        assert loop.count(lookup) >= lookups
        assert loop.count(add) >= loop.count(lookup)
        assert not [instruction for instruction in loop if MULTIPLY.match(instruction)]


def test_a_multiplication_would_be_found() -> None:
    if KERNELS["vnni"] not in available():
        pytest.skip("this CPU has no vnni")
    arguments = (BYTES, INDEX, INT32, INDEX, INT32, INDEX)
    loops = innermost_loops(instructions(vnni.eight_tokens, arguments))
    assert any(MULTIPLY.match(instruction) for loop in loops for instruction in loop)
