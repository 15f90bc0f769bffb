"""Two float32 regions, and two runs of bytes, beside each other.

`compare_f32` adds to out, float64 [6]; the caller starts it at 0, 0, 0, 0, 0, -1:
    0  sum of a**2           over the elements that are finite on both sides
    1  sum of (a - b)**2     over the same
    2  largest |a - b| / |a| over the same, where a != 0
    3  elements that are equal, by value or by bits
    4  violations: |a - b| > max(rel * |a|, absolute * grid), or infinity or NaN on one side only
    5  index i * C + j of the first violation, -1 if there is none
Without a grid (address 0) the bound is rel * |a|. Everything is reckoned in float64. The sums have a
fixed order, eight lanes that are added at the end, so they do not depend on the machine.
"""

import numpy as np

from ..memory import bits_of_f32, inner, kernel, load_f32, load_f64, load_u8, store_f64

SIGNATURE = (
    "void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, float64, float64, int64)"
)
LANES = 8
CHUNK = 4096  # bytes that same_bytes looks at before it asks whether one differs


@inner
def compare_element(a, b, rel, bound, worst):
    """(equal, violation, a**2, (a - b)**2, worst) of one pair."""
    equal = a == b or bits_of_f32(a) == bits_of_f32(b)
    if not (np.isfinite(a) and np.isfinite(b)):
        return equal, not (equal or (np.isnan(a) and np.isnan(b))), 0.0, 0.0, worst
    size, difference = abs(np.float64(a)), abs(np.float64(a) - np.float64(b))
    if difference > worst * size and size > 0:
        worst = difference / size
    return equal, difference > max(rel * size, bound), size * size, difference * difference, worst


@inner
def compare_run(a, b, n, rel, bound, index, lanes, out):
    """A run of one row within one block; `index` is that of its first element."""
    for j in range(n):
        worst = load_f64(out, 2)
        equal, violation, square, error, worst = compare_element(load_f32(a, j), load_f32(b, j), rel, bound, worst)
        lanes[0, j % LANES] += square
        lanes[1, j % LANES] += error
        store_f64(out, 2, worst)
        store_f64(out, 3, load_f64(out, 3) + equal)
        if violation:
            store_f64(out, 4, load_f64(out, 4) + 1)
            if load_f64(out, 5) < 0:
                store_f64(out, 5, np.float64(index + j))


@inner
def add_lanes(lanes, out):
    half = LANES // 2
    while half > 0:
        for k in range(half):
            lanes[0, k] += lanes[0, k + half]
            lanes[1, k] += lanes[1, k + half]
        half //= 2
    store_f64(out, 0, load_f64(out, 0) + lanes[0, 0])
    store_f64(out, 1, load_f64(out, 1) + lanes[1, 0])


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
            compare_run(a + 4 * (i * a_ld + j), b + 4 * (i * b_ld + j), n, rel, bound, i * C + j, lanes, out)
            j += n
    add_lanes(lanes, out)


@inner
def bytes_differ(a, b, n):
    difference = np.uint8(0)
    for i in range(n):
        difference |= load_u8(a, i) ^ load_u8(b, i)
    return difference != 0


@kernel("int64(int64, int64, int64)")
def same_bytes(a, b, n):
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        if bytes_differ(a + start, b + start, size):
            for i in range(size):
                if load_u8(a + start, i) != load_u8(b + start, i):
                    return start + i
    return -1
