"""Sixteen values at once, for the loops over groups of 16 and 32: too short for the compiler to turn into vectors by itself.

LLVM's vectors are not tied to a CPU: where its registers are shorter, one becomes several. Only `choose` is x86's own: a group of 4-bit codes has but
sixteen values, so they are reckoned once, and a shuffle of bytes looks them up.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from weighbridge.encoding import kernels
from weighbridge.encoding.kernels.memory import BYTE, HALF, REAL, WORD, inner, load_u8, store_u16

LANES = 16
BYTES, HALVES = ir.VectorType(BYTE, LANES), ir.VectorType(HALF, LANES)
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


def _words(value: int) -> ir.Constant:
    return ir.Constant(WORDS, [value] * LANES)


@intrinsic
def halves_of(typingctx, values, zero, scale, dst):
    """bfloat16 of (value - zero) * scale for 16 float32 at `values`: their 16 low bytes at `dst`, then their 16 high ones."""

    def codegen(context, builder, signature, args):
        floats = ir.VectorType(REAL, LANES)
        value = builder.load(_pointer(builder, floats, args[0]), align=1)
        value = builder.fmul(builder.fsub(value, _same(builder, REAL, args[1])), _same(builder, REAL, args[2]))
        bits = builder.bitcast(value, WORDS)
        up = builder.lshr(bits, _words(16))
        nearest = builder.lshr(builder.add(bits, builder.add(builder.and_(up, _words(1)), _words(0x7FFF))), _words(16))
        nan = builder.or_(builder.and_(up, _words(0x8000)), _words(0x7FC0))
        half = builder.trunc(builder.select(builder.fcmp_unordered("uno", value, value), nan, nearest), HALVES)
        builder.store(builder.trunc(half, BYTES), _pointer(builder, BYTES, args[3]), align=1)
        high = builder.trunc(builder.lshr(half, ir.Constant(HALVES, [8] * LANES)), BYTES)
        builder.store(high, _pointer(builder, BYTES, builder.add(args[3], ir.Constant(ir.IntType(64), LANES))), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.float32, types.int64), codegen


@intrinsic
def _choose_x86(typingctx, codes, table, dst):
    def codegen(context, builder, signature, args):
        shuffle = cgutils.get_or_insert_function(builder.module, ir.FunctionType(BYTES, [BYTES, BYTES]), "llvm.x86.ssse3.pshuf.b.128")
        code = builder.load(_pointer(builder, BYTES, args[0]), align=1)
        tables = (builder.load(_pointer(builder, BYTES, builder.add(args[1], ir.Constant(ir.IntType(64), at))), align=1) for at in (0, LANES))
        low, high = (builder.call(shuffle, [table, code]) for table in tables)
        turns = ir.Constant(ir.VectorType(WORD, 2 * LANES), [k // 2 + LANES * (k % 2) for k in range(2 * LANES)])
        both = builder.shuffle_vector(low, high, turns)
        builder.store(both, _pointer(builder, both.type, args[2]), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@inner
def _choose(codes, table, dst):
    for j in range(16):
        code = load_u8(codes, j)
        store_u16(dst, j, load_u8(table, code) | (load_u8(table + 16, code) << 8))


# (codes, table, dst): 16-bit values for 16 codes below 16, out of the table that `halves_of` makes.
choose = _choose_x86 if kernels.family() == "vector" else _choose
