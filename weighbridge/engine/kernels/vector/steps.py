"""A row times one, two or four vectors, and stored rows of a turned rectangle times their factors.

`seen` is 32 bytes that keep the largest codes, doubled, so without their signs.
"""

from llvmlite import ir
from numba import types

from weighbridge.encoding.kernels.vector.lanes import BYTE, HALF, LONG, REAL, WORD, Lanes, step

from ..jobs import F8_STEP

ADDRESS, NUMBER = types.int64, types.float32
AHEAD = 2048  # bytes that are asked for before they are wanted
BF16_STEP, F32_STEP, TURN_STEP = 64, 32, 64  # values of one step
TURN_ROWS = 8  # stored rows that it takes at once, if these are turned
GROUP = 4  # most vectors that share the decoding of a step
CHAINS = {1: 4, 2: 4, 4: 2}  # sums of a step and vector that are under way at once, so that none waits for the one before


def fetch(code, address, offset):
    """Ask for a cache line. It may lie past the end of the memory."""
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), WORD, WORD, WORD])
    function = code.builder.module.declare_intrinsic("llvm.prefetch.p0i8", (), kind)
    code.builder.call(function, [code.pointer(address, offset, BYTE), WORD(0), WORD(3), WORD(1)])


def f8_values(code, src):
    """32 codes as four vectors of 8 float32, value * 2**-120: those at 0, 4, 8 ...; at 1, 5, 9 ...; and so on.

    Only the upper half of such a float32 is not zero, so two codes that are neighbours share their steps.
    """
    pairs = code.load(src, HALF, 16)
    even, odd = ((half.signed_shift(4) & 0x87F0).bits_as(WORD) for half in (pairs << 8, pairs))
    return [part.bits_as(REAL) for part in (even << 16, odd << 16, even & 0xFFFF0000, odd & 0xFFFF0000)]


def f8_values_in_order(code, src):
    """The same with 8 neighbours in each vector."""
    return [((code.load(src, BYTE, 8, k).widen(WORD, signed=True) << 20) & 0x87F00000).bits_as(REAL) for k in range(0, 32, 8)]


def bf16_values(code, src):
    return [(code.load(src, HALF, 8, 2 * k).widen(WORD) << 16).bits_as(REAL) for k in range(0, 32, 8)]


def f32_values(code, src):
    return [code.load(src, REAL, 8, 4 * k) for k in range(0, 32, 8)]


def multiply_add(code, a, b, c):
    return Lanes(code.builder, code.call("llvm.fma.v8f32", a.value.type, a, b, c))


def repeat(code, count, start, body):
    """Lanes after `count` rounds of body(round, lanes), which stay in registers meanwhile. All are LLVM values, count is i64."""
    builder, before = code.builder, code.builder.block
    test, inside, after = (builder.append_basic_block(name) for name in ("test", "inside", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    number = builder.phi(LONG)
    kept = [builder.phi(lanes.value.type) for lanes in start]
    builder.cbranch(builder.icmp_signed("<", number, count), inside, after)
    builder.position_at_end(inside)
    made = body(number, [Lanes(builder, value) for value in kept])
    for phi, first, next_value in zip([number, *kept], [LONG(0), *(lanes.value for lanes in start)],
                                      [builder.add(number, LONG(1)), *(lanes.value for lanes in made)]):
        phi.add_incoming(first, before)
        phi.add_incoming(next_value, builder.block)
    builder.branch(test)
    builder.position_at_end(after)
    return [Lanes(builder, value) for value in kept]


def dots(code, values, itemsize, count, group, src, x, x_ld):
    """codes . x[t] in eight lanes, for `group` vectors that are x_ld float32 apart."""
    vectors = [code.builder.add(x, code.builder.mul(x_ld, LONG(4 * t))) for t in range(group)]
    chains = [[] for _ in range(group)]
    for k in range(0, count, 32):
        for lane, value in enumerate(values(code, code.builder.add(src, LONG(k * itemsize)))):
            for own, vector in zip(chains, vectors):
                element = code.load(vector, REAL, 8, 4 * (k + 8 * lane))
                full = len(own) == CHAINS[group]
                own.append(multiply_add(code, value, element, own.pop(0)) if full else value * element)
    for own in chains:
        while len(own) > 1:
            own.append(own.pop(0) + own.pop(0))
    return [own[0] for own in chains]


def store_totals(code, totals, sums):
    """Each of the totals, added over its lanes."""
    for t, lanes in enumerate(totals):
        for half in (4, 2, 1):
            lanes = lanes.pick(range(half)) + lanes.pick(range(half, 2 * half))
        code.store(sums, lanes, 4 * t)


def f8_row(values, group):
    """(src, steps, x, x_ld, factors, sums) -> largest code, doubled: its sign has gone."""

    @step(types.uint8, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def row(code, src, steps, x, x_ld, factors, sums):
        def body(number, kept):
            *totals, largest = kept
            at = code.builder.add(src, code.builder.mul(number, LONG(F8_STEP)))
            vector = code.builder.add(x, code.builder.mul(number, LONG(4 * F8_STEP)))
            factor = code.load(code.builder.add(factors, code.builder.mul(number, LONG(4))), REAL, 1).pick([0] * 8)
            for line in range(0, F8_STEP, 64):
                fetch(code, at, AHEAD + line)
            for offset in range(0, F8_STEP, 32):
                largest = largest.larger(code.load(at, BYTE, 32, offset) << 1)
            made = dots(code, values, 1, F8_STEP, group, at, vector, x_ld)
            return [*(multiply_add(code, own, factor, total) for own, total in zip(made, totals)), largest]

        zero = code.splat(REAL(0.0), 8)
        *totals, largest = repeat(code, steps, [zero] * group + [code.splat(BYTE(0), 32)], body)
        store_totals(code, totals, sums)
        return largest.reduce("umax")

    return row


def plain_row(values, itemsize, group):
    """(src, steps, x, x_ld, sums): 128 bytes at a time."""
    count = 128 // itemsize

    @step(types.void, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def row(code, src, steps, x, x_ld, sums):
        def body(number, totals):
            at = code.builder.add(src, code.builder.mul(number, LONG(128)))
            vector = code.builder.add(x, code.builder.mul(number, LONG(4 * count)))
            for line in (0, 64):
                fetch(code, at, AHEAD + line)
            made = dots(code, values, itemsize, count, group, at, vector, x_ld)
            return [own + total for own, total in zip(made, totals)]

        store_totals(code, repeat(code, steps, [code.splat(REAL(0.0), 8)] * group, body), sums)

    return row


f8_row_1, f8_row_2, f8_row_4 = (f8_row(f8_values, group) for group in (1, 2, 4))
f8_row_in_order = f8_row(f8_values_in_order, 1)
bf16_row_1, bf16_row_2, bf16_row_4 = (plain_row(bf16_values, 2, group) for group in (1, 2, 4))
f32_row_1, f32_row_2, f32_row_4 = (plain_row(f32_values, 4, group) for group in (1, 2, 4))


@step(types.void, ADDRESS)
def clear_seen(code, seen):
    code.store(seen, code.load(seen, BYTE, 32) & 0)


@step(types.uint8, ADDRESS)
def largest_seen(code, seen):
    return code.load(seen, BYTE, 32).reduce("umax")


@step(types.void, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
def turn_step(code, src, ld, factors, sums, seen):
    """64 sums, each 32 in the order of `f8_values`, += TURN_ROWS stored rows, each times its factor."""
    rows = [code.builder.add(src, code.builder.mul(ld, LONG(k))) for k in range(2 * TURN_ROWS)]
    for row in rows[TURN_ROWS:]:
        fetch(code, row, 0)
    for start in range(0, TURN_STEP, 32):
        parts = [code.load(sums, REAL, 8, 4 * (start + k)) for k in range(0, 32, 8)]
        largest = code.load(seen, BYTE, 32)
        for k, row in enumerate(rows[:TURN_ROWS]):
            largest = largest.larger(code.load(row, BYTE, 32, start) << 1)
            factor = code.load(factors, REAL, 8, 32 * k)
            values = f8_values(code, code.builder.add(row, LONG(start)))
            parts = [multiply_add(code, value, factor, part) for value, part in zip(values, parts)]
        code.store(seen, largest)
        for k, part in enumerate(parts):
            code.store(sums, part, 4 * start + 32 * k)


@step(types.void, ADDRESS, NUMBER)
def store_eight(code, address, number):
    code.store(address, code.splat(number, 8))
