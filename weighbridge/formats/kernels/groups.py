"""Sixteen values at once, for the loops over groups of 16 and 32: too short for the compiler to turn into vectors by itself.

LLVM's vectors are not tied to a CPU: where its registers are shorter, one becomes several.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from weighbridge.encoding.kernels.memory import HALF, REAL, WORD

LANES = 16
WORDS = ir.VectorType(WORD, LANES)


def _pointer(builder, element, address):
    return builder.inttoptr(address, element.as_pointer())


def _same(builder, element, value):
    """A vector with `value` in all lanes."""
    vector = ir.VectorType(element, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(WORDS, [0] * LANES))


@intrinsic
def store_same(typingctx, address, value):
    """Store a float32 sixteen times."""

    def codegen(context, builder, signature, args):
        vector = _same(builder, REAL, args[1])
        builder.store(vector, _pointer(builder, vector.type, args[0]), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


def _range(element, up: int, name: str):
    @intrinsic
    def reduce(typingctx, address):
        def codegen(context, builder, signature, args):
            loaded = builder.load(_pointer(builder, ir.VectorType(element, LANES), args[0]), align=1)
            bits = builder.shl(builder.zext(loaded, WORDS), ir.Constant(WORDS, [up] * LANES)) if up else loaded
            sign = builder.ashr(bits, ir.Constant(WORDS, [31] * LANES))
            keys = builder.xor(bits, builder.and_(sign, ir.Constant(WORDS, [0x7FFFFFFF] * LANES)))
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(WORD, [WORDS]), f"llvm.vector.reduce.{name}.v{LANES}i32")
            return builder.call(function, [keys])

        return types.int32(types.int64), codegen

    return reduce


# The least and the greatest key (`encode.key_of`) of sixteen values at an address.
least_bf16, most_bf16 = _range(HALF, 16, "smin"), _range(HALF, 16, "smax")
least_f32, most_f32 = _range(WORD, 0, "smin"), _range(WORD, 0, "smax")
