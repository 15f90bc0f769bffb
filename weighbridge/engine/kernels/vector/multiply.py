"""Stored codes times vectors, in steps of 32 to 128 values; what is left of a run is for the plain loops."""

import numpy as np

from weighbridge.encoding.kernels.memory import inner, kernel, load_f32, store_f32

from ..jobs import (BC, BF16, BR, C0, CODES, F8, JOBS, KIND, LD, LONGEST, R0, SCALE, SCALE_COL, SCALE_ROW, STEP, TURNED, X, X_LD, C, R, T, careful_row,
                    claim, field, seek, usual)
from ..portable.multiply import (SIGNATURE, TWO_60, add, clear_sums, dot_bf16, dot_f8, dot_f32, finish_f8, largest, prepare, spread_f8, strip,
                                 strip_f8)
from .steps import (BF16_STEP, F8_STEP, F32_STEP, GROUP, TURN_STEP, bf16_dot_1, bf16_dot_4, clear, clear_seen, f8_dot_1, f8_dot_4, f32_dot_1, f32_dot_4,
                    largest_seen, total_of, turn_step)

__all__ = ["multiply", "prepare"]


@inner
def run_f8(src, n, x, x_ld, group, scale, totals, tails, seen):
    """A run of codes under one scale; returns the largest code of its end, doubled."""
    factor, whole = scale * TWO_60, n - n % F8_STEP
    if group == GROUP:
        for j in range(0, whole, F8_STEP):
            f8_dot_4(src + j, x + 4 * j, x_ld, factor, totals, seen)
    else:
        for j in range(0, whole, F8_STEP):
            f8_dot_1(src + j, x + 4 * j, x_ld, factor, totals, seen)
    if whole == n:
        return np.uint8(0)
    for t in range(group):
        store_f32(tails, t, load_f32(tails, t) + dot_f8(src + whole, n - whole, x + 4 * (t * x_ld + whole)) * factor)
    return largest(src + whole, n - whole)


@inner
def row_f8(jobs, job, i, x, x_ld, group, totals, tails, seen, limit):
    """Row i times `group` vectors into totals and tails; False if it must be done again."""
    n, wide, scale_col = field(jobs, job, C), field(jobs, job, BC), field(jobs, job, SCALE_COL)
    src, c0 = field(jobs, job, CODES) + i * field(jobs, job, LD), field(jobs, job, C0)
    scales = field(jobs, job, SCALE) + 4 * ((field(jobs, job, R0) + i) // field(jobs, job, BR) * field(jobs, job, SCALE_ROW))
    clear_seen(seen)
    block, j, top = c0 // wide, 0, np.uint8(0)
    while j < n:
        size, scale = min(n, (block + 1) * wide - c0) - j, load_f32(scales, block * scale_col)
        if not usual(scale):
            return False
        top = max(top, run_f8(src + j, size, x + 4 * j, x_ld, group, scale, totals, tails, seen))
        j += size
        block += 1
    return max(top, largest_seen(seen)) < limit


@inner
def row_bf16(src, n, x, x_ld, group, totals, tails):
    whole = n - n % BF16_STEP
    if group == GROUP:
        for j in range(0, whole, BF16_STEP):
            bf16_dot_4(src + 2 * j, x + 4 * j, x_ld, totals)
    else:
        for j in range(0, whole, BF16_STEP):
            bf16_dot_1(src + 2 * j, x + 4 * j, x_ld, totals)
    if whole < n:
        for t in range(group):
            store_f32(tails, t, dot_bf16(src + 2 * whole, n - whole, x + 4 * (t * x_ld + whole)))


@inner
def row_f32(src, n, x, x_ld, group, totals, tails):
    whole = n - n % F32_STEP
    if group == GROUP:
        for j in range(0, whole, F32_STEP):
            f32_dot_4(src + 4 * j, x + 4 * j, x_ld, totals)
    else:
        for j in range(0, whole, F32_STEP):
            f32_dot_1(src + 4 * j, x + 4 * j, x_ld, totals)
    if whole < n:
        for t in range(group):
            store_f32(tails, t, dot_f32(src + 4 * whole, n - whole, x + 4 * (t * x_ld + whole)))


@inner
def row(jobs, job, i, first, start, group, values, limit, totals):
    """Row i times the vectors from `start` on."""
    tails, seen, kind = totals + 32 * GROUP, totals + 64 * GROUP, field(jobs, job, KIND)
    x_ld = field(jobs, job, X_LD)
    x, plain = field(jobs, job, X) + 4 * start * x_ld, True
    clear(totals)
    clear(tails)
    if kind == F8:
        plain = row_f8(jobs, job, i, x, x_ld, group, totals, tails, seen, limit)
    elif kind == BF16:
        row_bf16(field(jobs, job, CODES) + 2 * i * field(jobs, job, LD), field(jobs, job, C), x, x_ld, group, totals, tails)
    else:
        row_f32(field(jobs, job, CODES) + 4 * i * field(jobs, job, LD), field(jobs, job, C), x, x_ld, group, totals, tails)
    for t in range(group):
        total = total_of(totals + 32 * t) + load_f32(tails, t)
        if not plain:
            total = np.float32(careful_row(jobs, job, i, x + 4 * t * x_ld, values))
        add(jobs, job, start + t, i, total, first)


@inner
def four_rows(src, ld, n, first, second, third, fourth, sums, seen):
    """sums += four stored rows, each times its factor; returns the largest code of their ends, doubled."""
    whole, top = n - n % TURN_STEP, np.uint8(0)
    for i in range(0, whole, TURN_STEP):
        turn_step(src + i, ld, first, second, third, fourth, sums + 4 * i, seen)
    if whole < n:
        for k in range(4):
            row = src + k * ld + whole
            factor = first if k == 0 else second if k == 1 else third if k == 2 else fourth
            top = max(top, largest(row, n - whole))
            spread_f8(row, n - whole, factor, sums + 4 * whole)
    return top


@inner
def turned_f8(jobs, job, lo, hi, x, limit, sums, seen):
    """As portable's strip_f8, four stored rows at a time."""
    src, ld, n = field(jobs, job, CODES), field(jobs, job, LD), field(jobs, job, C)
    scale, scale_row, scale_col = field(jobs, job, SCALE), field(jobs, job, SCALE_ROW), field(jobs, job, SCALE_COL)
    r0, high, c0, wide = field(jobs, job, R0), field(jobs, job, BR), field(jobs, job, C0), field(jobs, job, BC)
    clear_seen(seen)
    whole = n - n % 4
    for j in range(0, whole, 4):
        a, b = scale + 4 * ((c0 + j) // wide * scale_col), scale + 4 * ((c0 + j + 1) // wide * scale_col)
        c, d = scale + 4 * ((c0 + j + 2) // wide * scale_col), scale + 4 * ((c0 + j + 3) // wide * scale_col)
        block, i, top = (r0 + lo) // high, lo, np.uint8(0)
        while i < hi:
            size = min(hi, (block + 1) * high - r0) - i
            s, t, u, v = (load_f32(a, block * scale_row), load_f32(b, block * scale_row), load_f32(c, block * scale_row),
                          load_f32(d, block * scale_row))
            if not (usual(s) and usual(t) and usual(u) and usual(v)):
                return False
            s, t, u, v = s * load_f32(x, j), t * load_f32(x, j + 1), u * load_f32(x, j + 2), v * load_f32(x, j + 3)
            top = max(top, four_rows(src + j * ld + i, ld, size, s, t, u, v, sums + 4 * (i - lo), seen))
            i += size
            block += 1
        if top >= limit:
            return False
    return largest_seen(seen) < limit and strip_f8(jobs, job, lo, hi, whole, n, x, limit, sums)


@inner
def piece(jobs, job, lo, hi, first, values, limit, sums, totals):
    """Rows lo to hi of one job."""
    vectors, x, x_ld = field(jobs, job, T), field(jobs, job, X), field(jobs, job, X_LD)
    if field(jobs, job, TURNED):
        for t in range(vectors):
            clear_sums(sums, hi - lo)
            if field(jobs, job, KIND) == F8:
                plain = turned_f8(jobs, job, lo, hi, x + 4 * t * x_ld, limit, sums, totals)
                finish_f8(jobs, job, lo, hi, x + 4 * t * x_ld, plain, values, sums)
            else:
                strip(jobs, job, lo, hi, x + 4 * t * x_ld, sums)
            for i in range(lo, hi):
                add(jobs, job, t, i, load_f32(sums, i - lo), first)
        return
    for i in range(lo, hi):
        t = 0
        while t < vectors:
            group = GROUP if vectors - t >= GROUP else 1
            row(jobs, job, i, first, t, group, values, limit, totals)
            t += group


@kernel(SIGNATURE)
def multiply(jobs, count, counter, values, limit):
    sums, totals = np.empty(LONGEST, np.float32), np.empty(96 * GROUP, np.uint8)
    band, before = 0, 0
    while True:
        task = claim(counter)
        band, before = seek(jobs, count, band, before, task)
        if band >= count:
            break
        lo = (task - before) * field(jobs, band, STEP)
        hi = min(field(jobs, band, R), lo + field(jobs, band, STEP))
        for job in range(band, band + field(jobs, band, JOBS)):
            piece(jobs, job, lo, hi, job == band, values, limit, sums.ctypes.data, totals.ctypes.data)
    sums[0], totals[0] = 0, 0  # numba frees an array after its last mention
