"""A row times one, two or four vectors, and stored rows of a turned rectangle times their factors.

`seen` is 32 bytes that keep the largest codes, doubled, so without their signs.
"""

from llvmlite import ir
from numba import types

from weighbridge.encoding.kernels.vector.lanes import BYTE, HALF, LONG, REAL, WORD, Lanes, step

from ..jobs import F8_STEP

ADDRESS, NUMBER = types.int64, types.float32
AHEAD = 2048  # bytes that are asked for before they are wanted
PLAIN_STEP, TURN_STEP = 32, 64  # values of one step
TURN_ROWS = 8  # stored rows that it takes at once, if these are turned
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


def store_totals(code, totals, sums):
    """Each of the totals, added over its lanes."""
    for t, lanes in enumerate(totals):
        for half in (4, 2, 1):
            lanes = lanes.pick(range(half)) + lanes.pick(range(half, 2 * half))
        code.store(sums, lanes, 4 * t)


def load_one(code, address, index):
    """A float32 in eight lanes."""
    return code.load(code.builder.add(address, code.builder.mul(index, LONG(4))), REAL, 1).pick([0] * 8)


def widen_largest(code, src, count, largest):
    for offset in range(0, count, 32):
        largest = largest.larger(code.load(src, BYTE, 32, offset) << 1)
    return largest


def f8_row(values):
    """One vector: F8_STEP codes make a sum of their own, to which the factor comes last."""

    @step(types.uint8, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def row(code, src, steps, x, factors, sums):
        def body(number, kept):
            total, largest = kept
            at = code.builder.add(src, code.builder.mul(number, LONG(F8_STEP)))
            vector = code.builder.add(x, code.builder.mul(number, LONG(4 * F8_STEP)))
            for line in range(0, F8_STEP, 64):
                fetch(code, at, AHEAD + line)
            chains = []
            for k in range(0, F8_STEP, 32):
                for lane, value in enumerate(values(code, code.builder.add(at, LONG(k)))):
                    element = code.load(vector, REAL, 8, 4 * (k + 8 * lane))
                    chains.append(value * element if k == 0 else multiply_add(code, value, element, chains.pop(0)))
            own = (chains[0] + chains[1]) + (chains[2] + chains[3])
            return [multiply_add(code, own, load_one(code, factors, number), total), widen_largest(code, at, F8_STEP, largest)]

        total, largest = repeat(code, steps, [code.splat(REAL(0.0), 8), code.splat(BYTE(0), 32)], body)
        store_totals(code, [total], sums)
        return largest.reduce("umax")

    return row


def starts(code, x, x_ld, group, number, count):
    """Addresses of element number * count of `group` vectors that are x_ld float32 apart."""
    at = code.builder.add(x, code.builder.mul(number, LONG(4 * count)))
    return [code.builder.add(at, code.builder.mul(x_ld, LONG(4 * t))) for t in range(group)]


def group_of_sums(code, values, vectors, sums, chains):
    """sums += values . x of each vector, which has `chains` sums in `sums`: none waits for the one before."""
    sums = list(sums)
    for lane, value in enumerate(values):
        for t, vector in enumerate(vectors):
            place = t * chains + lane % chains
            sums[place] = multiply_add(code, value, code.load(vector, REAL, 8, 32 * lane), sums[place])
    return sums


def joined(sums, group):
    """One sum for each vector."""
    chains = len(sums) // group
    for t in range(group):
        own = list(sums[t * chains : (t + 1) * chains])
        while len(own) > 1:
            own.append(own.pop(0) + own.pop(0))
        yield own[0]


def f8_rows(group):
    """(src, steps, x, x_ld, factors, sums) -> largest code. A few vectors: the factor goes to the values, which all of them share."""
    chains, half = CHAINS[group], F8_STEP // 2

    @step(types.uint8, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def row(code, src, steps, x, x_ld, factors, sums):
        def body(number, kept):
            *own, largest = kept
            at = code.builder.add(src, code.builder.mul(number, LONG(half)))
            vectors = starts(code, x, x_ld, group, number, half)
            factor = load_one(code, factors, code.builder.lshr(number, LONG(1)))
            fetch(code, at, AHEAD)
            for k in (0, 32):
                values = [value * factor for value in f8_values(code, code.builder.add(at, LONG(k)))]
                own = group_of_sums(code, values, [code.builder.add(vector, LONG(4 * k)) for vector in vectors], own, chains)
            return [*own, widen_largest(code, at, half, largest)]

        zero = code.splat(REAL(0.0), 8)
        *own, largest = repeat(code, code.builder.shl(steps, LONG(1)), [zero] * (group * chains) + [code.splat(BYTE(0), 32)], body)
        store_totals(code, joined(own, group), sums)
        return largest.reduce("umax")

    return row


def plain_rows(values, itemsize, group):
    """(src, steps, x, x_ld, sums): PLAIN_STEP values at a time."""
    chains = CHAINS[group]

    @step(types.void, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def row(code, src, steps, x, x_ld, sums):
        def body(number, own):
            at = code.builder.add(src, code.builder.mul(number, LONG(PLAIN_STEP * itemsize)))
            vectors = starts(code, x, x_ld, group, number, PLAIN_STEP)
            for line in range(0, PLAIN_STEP * itemsize, 64):
                fetch(code, at, AHEAD + line)
            return group_of_sums(code, values(code, at), vectors, own, chains)

        own = repeat(code, steps, [code.splat(REAL(0.0), 8)] * (group * chains), body)
        store_totals(code, joined(own, group), sums)

    return row


f8_row_1, f8_row_in_order = f8_row(f8_values), f8_row(f8_values_in_order)
f8_row_2, f8_row_4 = f8_rows(2), f8_rows(4)
bf16_row_1, bf16_row_2, bf16_row_4 = (plain_rows(bf16_values, 2, group) for group in (1, 2, 4))
f32_row_1, f32_row_2, f32_row_4 = (plain_rows(f32_values, 4, group) for group in (1, 2, 4))


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
