"""Vectors as values: a kernel's inner step is written with operators, and becomes LLVM instructions.

    @step(types.void, types.int64, types.int64)
    def double_codes(code, src, dst):
        code.store(dst, code.load(src, BYTE, 32) << 1)

makes `double_codes(src, dst)` callable in a numba loop. The first argument writes the code; the rest
are LLVM values. Addresses are int64, and need no alignment unless a store is nontemporal.
"""

import inspect

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..memory import BYTE, DOUBLE, HALF, REAL, WORD

LONG = ir.IntType(64)

# Bytes of a result from which on it is streamed past the caches. A smaller one is a buffer that somebody
# reads soon after: out of the cache this is faster, and ordinary stores leave it there.
STREAM_FROM = 16 << 20
__all__ = ["BYTE", "HALF", "LONG", "REAL", "STREAM_FROM", "WORD", "Code", "Lanes", "fence", "step"]


def step(result, *arguments):
    """Turn a function (Code, *LLVM values) -> Lanes, LLVM value or None into a numba intrinsic."""

    def decorate(write):
        def typing(typingctx, *args):
            def codegen(context, builder, signature, values):
                made = write(Code(builder), *values)
                return context.get_dummy_value() if made is None else getattr(made, "value", made)

            return result(*arguments), codegen

        typing.__name__, typing.__doc__ = write.__name__, write.__doc__
        typing.__signature__ = inspect.signature(write)  # numba needs a name for each argument
        return intrinsic(typing)

    return decorate


class Lanes:
    """A vector of integers or floats. A number on the other side of an operator stands for all lanes."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def element(self):
        return self.value.type.element

    @property
    def count(self):
        return self.value.type.count

    @property
    def is_real(self):
        return self.element in (REAL, DOUBLE)

    def new(self, value):
        return Lanes(self.builder, value)

    def constant(self, number):
        number = float(number) if self.is_real else int(number) & (2**self.element.width - 1)
        return ir.Constant(self.value.type, [number] * self.count)

    def _apply(self, instruction, other):
        other = other.value if isinstance(other, Lanes) else self.constant(other)
        return self.new(instruction(self.value, other))

    def _arithmetic(self, name, other):
        return self._apply(getattr(self.builder, "f" * self.is_real + name), other)

    def __add__(self, other):
        return self._arithmetic("add", other)

    def __sub__(self, other):
        return self._arithmetic("sub", other)

    def __mul__(self, other):
        return self._arithmetic("mul", other)

    def __truediv__(self, other):
        return self._apply(self.builder.fdiv, other)

    def __and__(self, other):
        return self._apply(self.builder.and_, other)

    def __or__(self, other):
        return self._apply(self.builder.or_, other)

    def __lshift__(self, bits):
        return self._apply(self.builder.shl, bits)

    def __rshift__(self, bits):
        """The sign does not move in; see `signed_shift`."""
        return self._apply(self.builder.lshr, bits)

    def signed_shift(self, bits):
        return self._apply(self.builder.ashr, bits)

    def _compare(self, sign, other):
        if self.is_real:
            return self._apply(lambda a, b: self.builder.fcmp_ordered(sign, a, b), other)
        return self._apply(lambda a, b: self.builder.icmp_unsigned(sign, a, b), other)

    def equals(self, other):
        return self._compare("==", other)

    def below(self, other):
        """Integers are unsigned. With a NaN nothing is below."""
        return self._compare("<", other)

    def above(self, other):
        return self._compare(">", other)

    def at_most(self, other):
        return self._compare("<=", other)

    def choose(self, yes, no):
        """Where this comparison holds `yes`, else `no`; one of them may be a number."""
        yes = yes if isinstance(yes, Lanes) else no.new(no.constant(yes))
        no = no if isinstance(no, Lanes) else yes.new(yes.constant(no))
        return self.new(self.builder.select(self.value, yes.value, no.value))

    def larger(self, other):
        other = other if isinstance(other, Lanes) else self.new(self.constant(other))
        return other.below(self).choose(self, other)

    def smaller(self, other):
        other = other if isinstance(other, Lanes) else self.new(self.constant(other))
        return self.below(other).choose(self, other)

    def widen(self, element, signed=False):
        to = ir.VectorType(element, self.count)
        return self.new((self.builder.sext if signed else self.builder.zext)(self.value, to))

    def extend(self):
        """float32 to float64."""
        return self.new(self.builder.fpext(self.value, ir.VectorType(DOUBLE, self.count)))

    def narrow(self, element):
        return self.new(self.builder.trunc(self.value, ir.VectorType(element, self.count)))

    def bits_as(self, element):
        """The same bits as lanes of another type."""
        count = self.count * _width(self.element) // _width(element)
        return self.new(self.builder.bitcast(self.value, ir.VectorType(element, count)))

    def pick(self, indices, other=None):
        """Lanes by constant index; those from `count` on are of `other`."""
        mask = ir.Constant(ir.VectorType(WORD, len(indices)), list(indices))
        other = self.value if other is None else other.value
        return self.new(self.builder.shuffle_vector(self.value, other, mask))

    def join(self, other):
        return self.pick(range(2 * self.count), other)

    def interleave(self, other, half):
        """AVX2's unpack: from each 16 bytes of both, alternate the lanes of the low (0) or high (1) half."""
        per, count = 128 // _width(self.element), self.count
        picked = []
        for start in range(0, count, per):
            for k in range(start + half * per // 2, start + (half + 1) * per // 2):
                picked += [k, count + k]
        return self.pick(picked, other)

    def reduce(self, operation):
        """One scalar of all lanes, by LLVM's name of the operation."""
        name = f"llvm.vector.reduce.{operation}.v{self.count}i{self.element.width}"
        return Code(self.builder).call(name, self.element, self)

    def any(self):
        """i1: whether this comparison holds in some lane."""
        mask = self.mask()
        return self.builder.icmp_unsigned("!=", mask, mask.type(0))

    def all(self):
        mask = self.mask()
        return self.builder.icmp_unsigned("==", mask, mask.type(-1))

    def total(self):
        """i32: the number of lanes in which this comparison holds."""
        mask = self.mask()
        return self.builder.zext(self.builder.ctpop(mask), WORD)

    def mask(self):
        """One bit per lane of this comparison, as one integer."""
        return self.builder.bitcast(self.value, ir.IntType(self.count))


def _width(element):
    return {REAL: 32, DOUBLE: 64}.get(element) or element.width


class Code:
    """Writes loads, stores and calls at the place of the step."""

    def __init__(self, builder):
        self.builder = builder

    def pointer(self, address, offset, kind):
        base = self.builder.inttoptr(address, BYTE.as_pointer())
        return self.builder.bitcast(self.builder.gep(base, [LONG(offset)]), kind.as_pointer())

    def load(self, address, element, count, offset=0):
        """`count` elements at the address plus `offset` bytes."""
        pointer = self.pointer(address, offset, ir.VectorType(element, count))
        return Lanes(self.builder, self.builder.load(pointer, align=1))

    def store(self, address, lanes, offset=0):
        self.builder.store(lanes.value, self.pointer(address, offset, lanes.value.type), align=1)

    def stream(self, address, lanes, offset=0):
        """A store that does not fetch the line that it fills. The address is a multiple of the vector's size."""
        store = self.builder.store(lanes.value, self.pointer(address, offset, lanes.value.type))
        store.align = lanes.count * _width(lanes.element) // 8
        store.set_metadata("nontemporal", self.builder.module.add_metadata([WORD(1)]))

    def splat(self, scalar, count):
        vector = ir.VectorType(scalar.type, count)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, WORD(0))
        zeros = ir.Constant(ir.VectorType(WORD, count), [0] * count)
        return Lanes(self.builder, self.builder.shuffle_vector(first, first, zeros))

    def call(self, name, result, *arguments):
        """An LLVM intrinsic by name, on Lanes or LLVM values."""
        values = [getattr(argument, "value", argument) for argument in arguments]
        kind = ir.FunctionType(result, [value.type for value in values])
        return self.builder.call(self.builder.module.declare_intrinsic(name, (), kind), values)

    def lookup(self, table, index):
        """Per byte table[index], the table being 16 bytes twice; an index with its high bit set gives 0."""
        return Lanes(self.builder, self.call("llvm.x86.avx2.pshuf.b", table.value.type, table, index))

    def total(self, lanes):
        """i64: the sum of byte lanes."""
        kind = ir.VectorType(LONG, lanes.count // 8)
        return Lanes(self.builder, self.call("llvm.x86.avx2.psad.bw", kind, lanes, lanes & 0)).reduce("add")


@step(types.void)
def fence(code):
    """What was streamed is seen by the other threads from here on."""
    code.call("llvm.x86.sse.sfence", ir.VoidType())
