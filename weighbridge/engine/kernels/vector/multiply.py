"""Stored codes times vectors, in steps of 32 to 128 values; what is left of a run is for the plain loops."""

import numpy as np

from weighbridge.encoding.kernels.memory import inner, kernel, load_f32, store_f32

from ..jobs import (
    BC,
    BF16,
    BR,
    C0,
    CODES,
    DEALT,
    F8,
    F8_STEP,
    JOBS,
    KIND,
    LD,
    LONGEST,
    MOST,
    R0,
    SCALE,
    SCALE_COL,
    SCALE_ROW,
    STEP,
    TURNED,
    WIDEST,
    X_LD,
    C,
    R,
    T,
    X,
    careful_row,
    claim,
    field,
    seek,
    usual,
)
from ..portable.multiply import SIGNATURE, TWO_60, add, clear_sums, dot_bf16, dot_f8, dot_f32, finish_f8, largest, spread_f8, strip, strip_f8
from .steps import (
    PLAIN_STEP,
    TURN_ROWS,
    TURN_STEP,
    bf16_row_1,
    bf16_row_2,
    bf16_row_4,
    clear_seen,
    f8_row_1,
    f8_row_2,
    f8_row_4,
    f8_row_in_order,
    f32_row_1,
    f32_row_2,
    f32_row_4,
    largest_seen,
    store_eight,
    turn_step,
)

FACTORS = 4 * WIDEST // F8_STEP  # bytes of a float32 for every step of a row; behind them 32 bytes for sums, or for codes seen


@inner
def make_factors(jobs, job, i, factors):
    """The factor of every step of row i; False if one is unusual."""
    n, wide, scale_col, c0 = field(jobs, job, C), field(jobs, job, BC), field(jobs, job, SCALE_COL), field(jobs, job, C0)
    scales = field(jobs, job, SCALE) + 4 * ((field(jobs, job, R0) + i) // field(jobs, job, BR) * field(jobs, job, SCALE_ROW))
    block = c0 // wide
    end, plain = (block + 1) * wide - c0, True
    for k in range((n + F8_STEP - 1) // F8_STEP):
        if F8_STEP * k >= end:
            block, end = block + 1, end + wide
        scale = load_f32(scales, block * scale_col)
        plain = plain and usual(scale)
        store_f32(factors, k, scale * TWO_60)
    return plain


@inner
def row_f8(src, n, x, dealt, x_ld, group, factors, sums):
    """One row times `group` vectors into sums; returns the largest code, doubled."""
    steps = n // F8_STEP
    if group == 4:
        top = f8_row_4(src, steps, dealt, x_ld, factors, sums)
    elif group == 2:
        top = f8_row_2(src, steps, dealt, x_ld, factors, sums)
    else:
        top = f8_row_1(src, steps, dealt, factors, sums)
    whole = F8_STEP * steps
    if whole < n:
        for t in range(group):
            rest = dot_f8(src + whole, n - whole, x + 4 * (t * x_ld + whole)) * load_f32(factors, steps)
            store_f32(sums, t, load_f32(sums, t) + rest)
        top = max(top, largest(src + whole, n - whole))
    return top


@inner
def uneven_row(jobs, job, i, x, factors, sums, limit):
    """Row i times one vector, run by run of one scale; False if it must be done again."""
    n, wide, scale_col = field(jobs, job, C), field(jobs, job, BC), field(jobs, job, SCALE_COL)
    src, c0 = field(jobs, job, CODES) + i * field(jobs, job, LD), field(jobs, job, C0)
    scales = field(jobs, job, SCALE) + 4 * ((field(jobs, job, R0) + i) // field(jobs, job, BR) * field(jobs, job, SCALE_ROW))
    block, j, top, total = c0 // wide, 0, np.uint8(0), np.float32(0)
    while j < n:
        stop, scale = min(n, (block + 1) * wide - c0), load_f32(scales, block * scale_col)
        if not usual(scale):
            return False
        while j + F8_STEP <= stop:
            store_f32(factors, 0, scale * TWO_60)
            top = max(top, f8_row_in_order(src + j, 1, x + 4 * j, factors, sums))
            total += load_f32(sums, 0)
            j += F8_STEP
        if j < stop:
            total += dot_f8(src + j, stop - j, x + 4 * j) * (scale * TWO_60)
            top = max(top, largest(src + j, stop - j))
        j = stop
        block += 1
    store_f32(sums, 0, total)
    return top < limit


@inner
def row_bf16(src, n, x, x_ld, group, sums):
    steps = n // PLAIN_STEP
    if group == 4:
        bf16_row_4(src, steps, x, x_ld, sums)
    elif group == 2:
        bf16_row_2(src, steps, x, x_ld, sums)
    else:
        bf16_row_1(src, steps, x, x_ld, sums)
    whole = PLAIN_STEP * steps
    if whole < n:
        for t in range(group):
            store_f32(sums, t, load_f32(sums, t) + dot_bf16(src + 2 * whole, n - whole, x + 4 * (t * x_ld + whole)))


@inner
def row_f32(src, n, x, x_ld, group, sums):
    steps = n // PLAIN_STEP
    if group == 4:
        f32_row_4(src, steps, x, x_ld, sums)
    elif group == 2:
        f32_row_2(src, steps, x, x_ld, sums)
    else:
        f32_row_1(src, steps, x, x_ld, sums)
    whole = PLAIN_STEP * steps
    if whole < n:
        for t in range(group):
            store_f32(sums, t, load_f32(sums, t) + dot_f32(src + 4 * whole, n - whole, x + 4 * (t * x_ld + whole)))


@inner
def rows(jobs, job, lo, hi, first, values, limit, memory):
    """Rows lo to hi of a rectangle that is not turned, up to four vectors at a time."""
    factors, sums, kind = memory, memory + FACTORS, field(jobs, job, KIND)
    n, x_ld, vectors, dealt = field(jobs, job, C), field(jobs, job, X_LD), field(jobs, job, T), field(jobs, job, DEALT)
    uneven, size = kind == F8 and dealt == 0, 1 if kind == F8 else 2 if kind == BF16 else 4
    made, usable, r0, high = np.int64(-1), True, field(jobs, job, R0), max(1, field(jobs, job, BR))
    for i in range(lo, hi):
        if kind == F8 and not uneven and made != (r0 + i) // high:
            made, usable = (r0 + i) // high, make_factors(jobs, job, i, factors)
        t, src = 0, field(jobs, job, CODES) + size * i * field(jobs, job, LD)
        while t < vectors:
            group = 1 if uneven or vectors - t == 1 else 2 if vectors - t < 4 else 4
            x, plain = field(jobs, job, X) + 4 * t * x_ld, usable
            if kind == BF16:
                row_bf16(src, n, x, x_ld, group, sums)
            elif kind != F8:
                row_f32(src, n, x, x_ld, group, sums)
            elif uneven:
                plain = uneven_row(jobs, job, i, x, factors, sums, limit)
            elif usable:
                plain = row_f8(src, n, x, dealt + 4 * t * x_ld, x_ld, group, factors, sums) < limit
            for k in range(group):
                total = load_f32(sums, k) if plain else np.float32(careful_row(jobs, job, i, x + 4 * k * x_ld, values))
                add(jobs, job, t + k, i, total, first)
            t += group


@inner
def make_turned_factors(jobs, job, j, block, x, factors):
    """TURN_ROWS factors, eight times each, of stored rows from j on in one column of blocks; False if one is unusual."""
    wide, scale_col, c0 = field(jobs, job, BC), field(jobs, job, SCALE_COL), field(jobs, job, C0) + j
    scales = field(jobs, job, SCALE) + 4 * block * field(jobs, job, SCALE_ROW)
    first, one = c0 // wide, c0 // wide == (c0 + TURN_ROWS - 1) // wide
    scale = load_f32(scales, first * scale_col)
    plain = usual(scale)
    for k in range(TURN_ROWS):
        if not one:
            scale = load_f32(scales, (c0 + k) // wide * scale_col)
            plain = plain and usual(scale)
        store_eight(factors + 32 * k, scale * load_f32(x, j + k))
    return plain


@inner
def turned_group(jobs, job, lo, hi, j, x, sums, memory):
    """Add TURN_ROWS stored rows from j on to the sums of rows lo to hi; returns the largest code of uneven ends, doubled, 255 for a bad scale."""
    src, ld, factors, seen = field(jobs, job, CODES) + j * field(jobs, job, LD), field(jobs, job, LD), memory, memory + FACTORS
    r0, high = field(jobs, job, R0), field(jobs, job, BR)
    block, i, top = (r0 + lo) // high, lo, np.uint8(0)
    while i < hi:
        stop = min(hi, (block + 1) * high - r0)
        if not make_turned_factors(jobs, job, j, block, x, factors):
            return np.uint8(255)
        while i + TURN_STEP <= stop:
            turn_step(src + i, ld, factors, sums + 4 * (i - lo), seen)
            i += TURN_STEP
        if i < stop:
            for k in range(TURN_ROWS):
                top = max(top, largest(src + k * ld + i, stop - i))
                spread_f8(src + k * ld + i, stop - i, load_f32(factors, 8 * k), sums + 4 * (i - lo))
        i = stop
        block += 1
    return top


@inner
def undeal(sums, lo, hi, r0, high, swap):
    """Bring the sums that `turn_step` made into their order. `swap` is room for 32."""
    i = lo
    while i < hi:
        stop = min(hi, ((r0 + i) // high + 1) * high - r0)
        while i + TURN_STEP <= stop:
            for start in range(i - lo, i - lo + TURN_STEP, 32):
                for k in range(32):
                    store_f32(swap, k, load_f32(sums, start + k % 4 * 8 + k // 4))
                for k in range(32):
                    store_f32(sums, start + k, load_f32(swap, k))
            i += TURN_STEP
        i = stop


@inner
def turned_f8(jobs, job, lo, hi, limit, sums, memory):
    """As portable's strip_f8 for all vectors of the job, TURN_ROWS stored rows at a time."""
    n, vectors, x, x_ld = field(jobs, job, C), field(jobs, job, T), field(jobs, job, X), field(jobs, job, X_LD)
    whole, seen = n - n % TURN_ROWS, memory + FACTORS
    clear_seen(seen)
    for j in range(0, whole, TURN_ROWS):
        for t in range(vectors):
            if turned_group(jobs, job, lo, hi, j, x + 4 * t * x_ld, sums + 4 * t * LONGEST, memory) >= limit:
                return False
    if largest_seen(seen) >= limit:
        return False
    for t in range(vectors):
        undeal(sums + 4 * t * LONGEST, lo, hi, field(jobs, job, R0), field(jobs, job, BR), memory)
        if not strip_f8(jobs, job, lo, hi, whole, n, x + 4 * t * x_ld, limit, sums + 4 * t * LONGEST):
            return False
    return True


@inner
def turned_rows(jobs, job, lo, hi, first, values, limit, sums, memory):
    """Rows lo to hi of a turned rectangle."""
    vectors, x, x_ld, f8 = field(jobs, job, T), field(jobs, job, X), field(jobs, job, X_LD), field(jobs, job, KIND) == F8
    for t in range(vectors):
        clear_sums(sums + 4 * t * LONGEST, hi - lo)
    plain = f8 and turned_f8(jobs, job, lo, hi, limit, sums, memory)
    for t in range(vectors):
        own, vector = sums + 4 * t * LONGEST, x + 4 * t * x_ld
        if f8:
            finish_f8(jobs, job, lo, hi, vector, plain, values, own)
        else:
            strip(jobs, job, lo, hi, vector, own)
        for i in range(lo, hi):
            add(jobs, job, t, i, load_f32(own, i - lo), first)


@kernel(SIGNATURE)
def multiply(jobs, count, counter, values, limit, sums):
    memory, band, before = sums + 4 * MOST * LONGEST, 0, 0
    while True:
        task = claim(counter)
        band, before = seek(jobs, count, band, before, task)
        if band >= count:
            break
        lo = (task - before) * field(jobs, band, STEP)
        hi = min(field(jobs, band, R), lo + field(jobs, band, STEP))
        for job in range(band, band + field(jobs, band, JOBS)):
            if field(jobs, job, TURNED):
                turned_rows(jobs, job, lo, hi, job == band, values, limit, sums, memory)
            else:
                rows(jobs, job, lo, hi, job == band, values, limit, memory)
