"""Two float32 regions beside each other, 32 elements at a time; see portable/compare.py for what is reckoned.

A step adds up its elements if all of them are finite, within their bounds and no worse than the worst
so far. If one is not, the step does nothing, and the portable loop looks at each. Sums are the same:
both add element j of a run to lane j % 8, in the order of j.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..memory import DOUBLE, inner, kernel, load_f32, load_f64, store_f64
from ..portable.compare import LANES, SIGNATURE, add_lanes, compare_run, same_bytes  # noqa: F401
from .lanes import REAL, WORD, step

STEP = 32
ADDRESS, F64 = types.int64, types.float64
FINITE = float(np.finfo(np.float64).max)


def magnitude(lanes):
    return (lanes.bits_as(ir.IntType(64)) & 0x7FFFFFFFFFFFFFFF).bits_as(DOUBLE)


def good(difference, size, rel, bound, worst):
    """i1 lanes; false for what is not finite, because then a difference is infinite or NaN."""
    within = difference.at_most((size * rel).larger(bound)) & difference.at_most(size * worst)
    return within & difference.at_most(FINITE)


@step(types.int32, ADDRESS, ADDRESS, F64, F64, F64, ADDRESS)
def compare_step(code, a, b, rel, bound, worst, lanes):
    """How many of 32 pairs are equal, or -1 and nothing done."""
    rel, bound, worst = (code.splat(scalar, LANES) for scalar in (rel, bound, worst))
    squares, errors = old = [code.load(lanes, DOUBLE, LANES, offset) for offset in (0, 8 * LANES)]
    all_good, equal = None, WORD(0)
    for k in range(0, STEP, LANES):
        left, right = (code.load(address, REAL, LANES, 4 * k) for address in (a, b))
        equal = code.builder.add(equal, left.equals(right).total())
        size, difference = magnitude(left.extend()), magnitude(left.extend() - right.extend())
        fine = good(difference, size, rel, bound, worst)
        all_good = fine if all_good is None else all_good & fine
        squares, errors = squares + size * size, errors + difference * difference
    done = all_good.all()
    for offset, new, before in ((0, squares, old[0]), (8 * LANES, errors, old[1])):
        code.store(lanes, new.new(code.builder.select(done, new.value, before.value)), offset)
    return code.builder.select(done, equal, WORD(-1))


@inner
def compare_steps(a, b, n, rel, bound, index, lanes, out):
    equal, worst, whole = 0, load_f64(out, 2), n - n % STEP
    for j in range(0, whole, STEP):
        found = compare_step(a + 4 * j, b + 4 * j, rel, bound, worst, lanes.ctypes.data)
        if found < 0:
            compare_run(a + 4 * j, b + 4 * j, STEP, rel, bound, index + j, lanes, out)
            worst = load_f64(out, 2)
        else:
            equal += found
    compare_run(a + 4 * whole, b + 4 * whole, n - whole, rel, bound, index + whole, lanes, out)
    store_f64(out, 3, load_f64(out, 3) + equal)


@kernel(SIGNATURE)
def compare_f32(a, a_ld, b, b_ld, R, C, grid, grid_ld, r0, c0, bR, bC, rel, absolute, out):
    lanes = np.zeros((2, LANES))
    for i in range(R):
        j = 0
        while j < C:
            n, bound = C - j, 0.0
            if grid != 0:
                block = (c0 + j) // bC
                n = min(C, (block + 1) * bC - c0) - j
                bound = absolute * load_f32(grid, (r0 + i) // bR * grid_ld + block)
            compare_steps(a + 4 * (i * a_ld + j), b + 4 * (i * b_ld + j), n, rel, bound, i * C + j, lanes, out)
            j += n
    add_lanes(lanes, out)
