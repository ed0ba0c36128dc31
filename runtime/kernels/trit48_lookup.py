"""The lookup of `trit48_several`: 32 entries of 16 bits out of 32, with the indexes where the words hold them.

vpermw looks only at the low five bits of its indexes, so words shifted right are indexes. But on Intel's cores it takes
two of the two instructions a cycle that 512 bits allow, and vpermb, 64 lookups of bytes (VBMI: Intel's since Ice Lake,
AMD's since Zen 4), takes one. So where it exists an entry is looked up as its two bytes, at 2i and 2i + 1:
vpmultishiftqb takes 2i out of the words twice, and one vpternlog clears what is beside it and sets the upper byte's
last bit.
"""

from typing import Any

from llvmlite import ir

from ..simd.vector import I16X32, U8X64, call, instruction

INDEX_BITS = 5
_WORDS = range(4)  # in the 64 bits that vpmultishiftqb takes bytes from
_FIRST_BITS = sum((16 * word - 1) % 64 * 0x0101 << 16 * word for word in _WORDS)  # where 2i of slot 0 begins, per byte
_NEXT_SLOT = sum(INDEX_BITS * 0x0101 << 16 * word for word in _WORDS)  # the upper two bits of a byte don't count
_TWICE_INDEX, _UPPER_BYTE = 0x3E3E, 0x0100


@instruction
def look_up(typing: Any, table: Any, words: Any, slot: Any) -> Any:
    """Return the entries, int16, that slot 0, 1 or 2 of 32 words points at.

    With vpermw if the table was loaded as I16X32, with vpermb if as U8X64.
    """
    if not (words == I16X32 and table in (I16X32, U8X64)):
        return None
    found = _by_words if table == I16X32 else _by_bytes

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.trunc if signature.args[2].bitwidth > 16 else builder.zext
        return found(builder, arguments[0], arguments[1], number(arguments[2], ir.IntType(16)))

    return I16X32(table, words, slot), generate


def _by_words(builder: Any, table: Any, words: Any, slot: Any) -> Any:
    shifts = _everywhere(builder, builder.mul(slot, slot.type(INDEX_BITS)), I16X32.llvm)
    return call(builder, "llvm.x86.avx512.permvar.hi.512", I16X32.llvm, [table, builder.lshr(words, shifts)])


def _by_bytes(builder: Any, table: Any, words: Any, slot: Any) -> Any:
    quad = ir.IntType(64)
    first = builder.add(builder.mul(builder.zext(slot, quad), quad(_NEXT_SLOT)), quad(_FIRST_BITS))
    control = builder.bitcast(_everywhere(builder, first, ir.VectorType(quad, 8)), U8X64.llvm)
    operands = [control, builder.bitcast(words, U8X64.llvm)]
    taken = call(builder, "llvm.x86.avx512.pmultishift.qb.512", U8X64.llvm, operands)
    twice = builder.and_(builder.bitcast(taken, I16X32.llvm), ir.Constant(I16X32.llvm, [_TWICE_INDEX] * 32))
    indexes = builder.or_(twice, ir.Constant(I16X32.llvm, [_UPPER_BYTE] * 32))
    entries = call(builder, "llvm.x86.avx512.permvar.qi.512", U8X64.llvm, [table, builder.bitcast(indexes, U8X64.llvm)])
    return builder.bitcast(entries, I16X32.llvm)


def _everywhere(builder: Any, number: Any, vector: Any) -> Any:
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, lanes)
