"""The inner steps: some codes times one or four vectors, and one sum of eight lanes for each.

`totals` are 8 float32 per vector; `seen` is 32 bytes that keep the largest codes, doubled, so without their signs.
"""

from llvmlite import ir
from numba import types

from weighbridge.encoding.kernels.vector.lanes import BYTE, HALF, LONG, REAL, WORD, Lanes, step

ADDRESS, NUMBER = types.int64, types.float32
AHEAD = 2048  # bytes that are asked for before they are wanted
F8_STEP, BF16_STEP, F32_STEP, TURN_STEP = 128, 64, 32, 32  # values of one step
GROUP = 4  # vectors that share the decoding of a step
CHAINS = 8  # sums that are under way at once, so that none waits for the one before


def fetch(code, address, offset):
    """Ask for a cache line. It may lie past the end of the memory."""
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), WORD, WORD, WORD])
    function = code.builder.module.declare_intrinsic("llvm.prefetch.p0i8", (), kind)
    code.builder.call(function, [code.pointer(address, offset, BYTE), WORD(0), WORD(3), WORD(1)])


def f8_values(code, src, offset):
    """8 codes as float32, value * 2**-120."""
    return ((code.load(src, BYTE, 8, offset).widen(WORD, signed=True) << 20) & 0x87F00000).bits_as(REAL)


def bf16_values(code, src, offset):
    return (code.load(src, HALF, 8, 2 * offset).widen(WORD) << 16).bits_as(REAL)


def f32_values(code, src, offset):
    return code.load(src, REAL, 8, 4 * offset)


def multiply_add(code, a, b, c):
    return Lanes(code.builder, code.call("llvm.fma.v8f32", a.value.type, a, b, c))


def keep_largest(code, src, count, seen):
    largest = code.load(seen, BYTE, 32)
    for offset in range(0, count, 32):
        largest = largest.larger(code.load(src, BYTE, 32, offset) << 1)
    code.store(seen, largest)


def write_dot(code, values, count, group, src, x, x_ld, factor, totals):
    """totals[t] += factor * (codes . x[t]), for `group` vectors that are x_ld float32 apart."""
    vectors = [code.builder.add(x, code.builder.mul(x_ld, LONG(4 * t))) for t in range(group)]
    chains = [[] for _ in range(group)]
    for k in range(0, count, 8):
        value = values(code, src, k)
        for own, vector in zip(chains, vectors):
            element = code.load(vector, REAL, 8, 4 * k)
            if len(own) < CHAINS // group:
                own.append(value * element)
            else:
                own.append(multiply_add(code, value, element, own.pop(0)))
    for t, own in enumerate(chains):
        while len(own) > 1:
            own.append(own.pop(0) + own.pop(0))
        total = code.load(totals, REAL, 8, 32 * t)
        code.store(totals, multiply_add(code, own[0], code.splat(factor, 8), total), 32 * t)


def f8_dot(group):
    @step(types.void, ADDRESS, ADDRESS, ADDRESS, NUMBER, ADDRESS, ADDRESS)
    def dot(code, src, x, x_ld, factor, totals, seen):
        for line in range(0, F8_STEP, 64):
            fetch(code, src, AHEAD + line)
        keep_largest(code, src, F8_STEP, seen)
        write_dot(code, f8_values, F8_STEP, group, src, x, x_ld, factor, totals)

    return dot


def plain_dot(values, count, group):
    @step(types.void, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def dot(code, src, x, x_ld, totals):
        for line in (0, 64):
            fetch(code, src, AHEAD + line)
        write_dot(code, values, count, group, src, x, x_ld, REAL(1.0), totals)

    return dot


f8_dot_1, f8_dot_4 = f8_dot(1), f8_dot(GROUP)
bf16_dot_1, bf16_dot_4 = (plain_dot(bf16_values, BF16_STEP, group) for group in (1, GROUP))
f32_dot_1, f32_dot_4 = (plain_dot(f32_values, F32_STEP, group) for group in (1, GROUP))


@step(types.void, ADDRESS)
def clear(code, totals):
    """Sums of GROUP vectors."""
    zero = code.splat(REAL(0.0), 8)
    for t in range(GROUP):
        code.store(totals, zero, 32 * t)


@step(types.void, ADDRESS)
def clear_seen(code, seen):
    code.store(seen, code.load(seen, BYTE, 32) & 0)


@step(types.uint8, ADDRESS)
def largest_seen(code, seen):
    return code.load(seen, BYTE, 32).reduce("umax")


@step(types.float32, ADDRESS)
def total_of(code, totals):
    """The eight lanes as one sum."""
    lanes = code.load(totals, REAL, 8)
    for half in (4, 2, 1):
        lanes = lanes.pick(range(half)) + lanes.pick(range(half, 2 * half))
    return code.builder.extract_element(lanes.value, WORD(0))


@step(types.void, ADDRESS, ADDRESS, NUMBER, NUMBER, NUMBER, NUMBER, ADDRESS, ADDRESS)
def turn_step(code, src, ld, first, second, third, fourth, sums, seen):
    """32 sums of a turned rectangle += four stored rows, each times its factor."""
    factors = [code.splat(factor, 8) for factor in (first, second, third, fourth)]
    rows = [code.builder.add(src, code.builder.mul(ld, LONG(k))) for k in range(len(factors))]
    parts = [code.load(sums, REAL, 8, 4 * k) for k in range(0, TURN_STEP, 8)]
    for row, factor in zip(rows, factors):
        keep_largest(code, row, TURN_STEP, seen)
        parts = [multiply_add(code, f8_values(code, row, 8 * k), factor, part) for k, part in enumerate(parts)]
    for k, part in enumerate(parts):
        code.store(sums, part, 32 * k)
