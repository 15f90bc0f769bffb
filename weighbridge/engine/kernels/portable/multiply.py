"""Stored codes times vectors: the loops that every CPU runs.

The fields of a code at their places in a float32 are value * 2**-120, and a vector comes times 2**60: the sum of one
block needs its scale times 2**60. A row (or a strip, if turned) in which a code is no plain number, or a scale is
unusual, is done again by `careful_row`.
"""

import numpy as np
from numba import njit

from weighbridge.encoding.kernels.memory import f32_of_bits, inner, kernel, load_f32, load_u8, load_u16, store_f32

from ..jobs import (
    BC,
    BF16,
    BR,
    C0,
    CODES,
    F8,
    JOBS,
    KIND,
    LD,
    POWERS,
    R0,
    SCALE,
    SCALE_COL,
    SCALE_ROW,
    STEP,
    TURNED,
    X_LD,
    Y_LD,
    C,
    R,
    T,
    X,
    Y,
    careful_row,
    claim,
    field,
    seek,
    usual,
)
from .prepare import TWO_60

SIGNATURE = "void(int64, int64, int64, int64, int64, int64)"
# The order within a sum is the compiler's to choose; it is the same for all rows and all threads.
summing = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "contract"})


@summing
def dot_f8(src, n, x):
    total = np.float32(0)
    for j in range(n):
        code = np.uint32(load_u8(src, j))
        bits = np.uint32(((code & np.uint32(0x80)) << 24) | ((code & np.uint32(0x7F)) << 20))
        total += f32_of_bits(bits) * load_f32(x, j)
    return total


@summing
def dot_bf16(src, n, x):
    total = np.float32(0)
    for j in range(n):
        total += f32_of_bits(np.uint32(np.uint32(load_u16(src, j)) << 16)) * load_f32(x, j)
    return total


@summing
def dot_f32(src, n, x):
    total = np.float32(0)
    for j in range(n):
        total += load_f32(src, j) * load_f32(x, j)
    return total


@inner
def largest(src, n):
    """Twice the largest code without its sign."""
    top = np.uint8(0)
    for j in range(n):
        top = max(top, np.uint8(load_u8(src, j) << 1))
    return top


@summing
def spread_f8(src, n, factor, sums):
    for i in range(n):
        code = np.uint32(load_u8(src, i))
        bits = np.uint32(((code & np.uint32(0x80)) << 24) | ((code & np.uint32(0x7F)) << 20))
        store_f32(sums, i, load_f32(sums, i) + f32_of_bits(bits) * factor)


@summing
def spread_bf16(src, n, factor, sums):
    for i in range(n):
        store_f32(sums, i, load_f32(sums, i) + f32_of_bits(np.uint32(np.uint32(load_u16(src, i)) << 16)) * factor)


@summing
def spread_f32(src, n, factor, sums):
    for i in range(n):
        store_f32(sums, i, load_f32(sums, i) + load_f32(src, i) * factor)


@inner
def row(jobs, job, i, x, values, limit):
    """Row i times one vector."""
    kind, ld, n = field(jobs, job, KIND), field(jobs, job, LD), field(jobs, job, C)
    if kind == BF16:
        return dot_bf16(field(jobs, job, CODES) + 2 * i * ld, n, x)
    if kind != F8:
        return dot_f32(field(jobs, job, CODES) + 4 * i * ld, n, x)
    src = field(jobs, job, CODES) + i * ld
    if largest(src, n) >= limit:
        return np.float32(careful_row(jobs, job, i, x, values))
    scales = field(jobs, job, SCALE) + 4 * ((field(jobs, job, R0) + i) // field(jobs, job, BR) * field(jobs, job, SCALE_ROW))
    c0, wide, scale_col = field(jobs, job, C0), field(jobs, job, BC), field(jobs, job, SCALE_COL)
    total, j = np.float32(0), 0
    while j < n:
        block = (c0 + j) // wide
        size, scale = min(n, (block + 1) * wide - c0) - j, load_f32(scales, block * scale_col)
        if not usual(scale):
            return np.float32(careful_row(jobs, job, i, x, values))
        total += dot_f8(src + j, size, x + 4 * j) * (scale * TWO_60)
        j += size
    return total


@inner
def clear_sums(sums, n):
    for i in range(n):
        store_f32(sums, i, np.float32(0))


@inner
def strip_f8(jobs, job, lo, hi, start, stop, x, limit, sums):
    """Add stored rows `start` to `stop` of a turned rectangle to the sums of rows lo to hi, without their 2**60.

    False if these must be done again.
    """
    src, ld = field(jobs, job, CODES), field(jobs, job, LD)
    scale_row, scale_col = field(jobs, job, SCALE_ROW), field(jobs, job, SCALE_COL)
    r0, high, c0, wide = field(jobs, job, R0), field(jobs, job, BR), field(jobs, job, C0), field(jobs, job, BC)
    for j in range(start, stop):
        if largest(src + j * ld + lo, hi - lo) >= limit:
            return False
        scales, i = field(jobs, job, SCALE) + 4 * ((c0 + j) // wide * scale_col), lo
        while i < hi:
            block = (r0 + i) // high
            size, scale = min(hi, (block + 1) * high - r0) - i, load_f32(scales, block * scale_row)
            if not usual(scale):
                return False
            spread_f8(src + j * ld + i, size, load_f32(x, j) * scale, sums + 4 * (i - lo))
            i += size
    return True


@inner
def finish_f8(jobs, job, lo, hi, x, plain, values, sums):
    for i in range(hi - lo):
        store_f32(sums, i, load_f32(sums, i) * TWO_60 if plain else np.float32(careful_row(jobs, job, lo + i, x, values)))


@inner
def strip(jobs, job, lo, hi, x, sums):
    """Add all stored rows of a turned rectangle of BF16 or float32 to the sums of rows lo to hi."""
    src, ld = field(jobs, job, CODES), field(jobs, job, LD)
    for j in range(field(jobs, job, C)):
        if field(jobs, job, KIND) == BF16:
            spread_bf16(src + 2 * (j * ld + lo), hi - lo, load_f32(x, j), sums)
        else:
            spread_f32(src + 4 * (j * ld + lo), hi - lo, load_f32(x, j), sums)


@inner
def add(jobs, job, t, i, total, first):
    """Put one sum where it belongs; the first rectangle of a band sets it, the others add."""
    powers, y = field(jobs, job, POWERS), field(jobs, job, Y) + 4 * t * field(jobs, job, Y_LD)
    value = total * load_f32(powers, t) if powers != 0 else total
    store_f32(y, i, value if first else load_f32(y, i) + value)


@inner
def piece(jobs, job, lo, hi, first, values, limit, sums):
    """Rows lo to hi of one job."""
    vectors, x, x_ld = field(jobs, job, T), field(jobs, job, X), field(jobs, job, X_LD)
    if field(jobs, job, TURNED):
        for t in range(vectors):
            clear_sums(sums, hi - lo)
            if field(jobs, job, KIND) == F8:
                plain = strip_f8(jobs, job, lo, hi, 0, field(jobs, job, C), x + 4 * t * x_ld, limit, sums)
                finish_f8(jobs, job, lo, hi, x + 4 * t * x_ld, plain, values, sums)
            else:
                strip(jobs, job, lo, hi, x + 4 * t * x_ld, sums)
            for i in range(lo, hi):
                add(jobs, job, t, i, load_f32(sums, i - lo), first)
        return
    for i in range(lo, hi):
        for t in range(vectors):
            add(jobs, job, t, i, row(jobs, job, i, x + 4 * t * x_ld, values, limit), first)


@kernel(SIGNATURE)
def multiply(jobs, count, counter, values, limit, sums):
    band, before = 0, 0
    while True:
        task = claim(counter)
        band, before = seek(jobs, count, band, before, task)
        if band >= count:
            break
        lo = (task - before) * field(jobs, band, STEP)
        hi = min(field(jobs, band, R), lo + field(jobs, band, STEP))
        for job in range(band, band + field(jobs, band, JOBS)):
            piece(jobs, job, lo, hi, job == band, values, limit, sums)
