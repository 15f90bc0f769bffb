"""e4m3fn codes to bfloat16 and float32, 32 at a time.

To bfloat16 by table: how a product rounds does not depend on its exponent, as long as it is a normal
number. So one scale has 8 results for the 8 mantissas, to which the exponent is added, and 8 for the
subnormal codes: 16 entries, which a byte shuffle looks up for 32 codes at once.

The fast steps give a wrong result for a NaN code. They report it, and the run is done again by the
portable loop. So are runs whose scale is not usual. A large result is streamed past the caches.
"""

import numpy as np
from numba import types

from ..memory import inner, kernel, store_u8
from ..portable.decode import SIGNATURE, TWO_120, code_to_f32, f32_to_bf16, load_scale, row_to_bf16, row_to_f32
from .lanes import BYTE, HALF, LONG, REAL, STREAM_FROM, WORD, fence, step

LANES = 32
TABLE = 32  # bytes: 16 low halves, then 16 high halves
LOWEST, HIGHEST = np.float32(2.0**-100), np.float32(2.0**100)  # between them all products are normal
REPAYS = 1024  # codes under one scale that are worth making a table
ADDRESS = types.int64


def nan_codes(code, codes):
    """i32: one bit per NaN code."""
    return (codes & 0x7F).equals(0x7F).mask()


def table_results(code, codes, table):
    """32 codes to two vectors of 16 bfloat16."""
    low, high = (code.load(table, BYTE, 16, offset) for offset in (0, 16))
    codes = codes.bits_as(LONG).pick([0, 2, 1, 3]).bits_as(BYTE)  # interleave works on 16 bytes each
    index = (codes & 7) | (codes & 0x78).equals(0).choose(8, codes & 0)
    low, high = (code.lookup(half.join(half), index) for half in (low, high))
    for half in (0, 1):
        sign_and_exponent = (codes & 0).interleave(codes, half).bits_as(HALF).signed_shift(4) & 0x8780
        yield sign_and_exponent + low.interleave(high, half).bits_as(HALF)


@step(types.int32, ADDRESS, ADDRESS, ADDRESS)
def table_step(code, src, table, dst):
    codes = code.load(src, BYTE, LANES)
    for k, result in enumerate(table_results(code, codes, table)):
        code.store(dst, result, 32 * k)
    return nan_codes(code, codes)


@step(types.int32, ADDRESS, ADDRESS, ADDRESS)
def table_stream_step(code, src, table, dst):
    codes = code.load(src, BYTE, LANES)
    for k, result in enumerate(table_results(code, codes, table)):
        code.stream(dst, result, 32 * k)
    return nan_codes(code, codes)


def f32_results(code, codes, first, second):
    """32 codes to four vectors of 8 float32: value * 2**-120, times both factors."""
    for k in range(0, LANES, 8):
        bits = (codes.pick(range(k, k + 8)).widen(WORD, signed=True) << 20) & 0x87F00000
        yield bits.bits_as(REAL) * code.splat(first, 8) * code.splat(second, 8)


@step(types.int32, ADDRESS, types.float32, types.float32, ADDRESS)
def f32_step(code, src, first, second, dst):
    codes = code.load(src, BYTE, LANES)
    for k, result in enumerate(f32_results(code, codes, first, second)):
        code.store(dst, result, 32 * k)
    return nan_codes(code, codes)


@step(types.int32, ADDRESS, types.float32, types.float32, ADDRESS)
def f32_stream_step(code, src, first, second, dst):
    codes = code.load(src, BYTE, LANES)
    for k, result in enumerate(f32_results(code, codes, first, second)):
        code.stream(dst, result, 32 * k)
    return nan_codes(code, codes)


@inner
def make_table(scale, table):
    """The results of exponent 1, less that exponent, then those of the subnormal codes."""
    for k in range(16):
        code = np.uint8(k + 8 if k < 8 else k - 8)
        bits = f32_to_bf16(code_to_f32(code) * scale) - np.uint16(0x80 if k < 8 else 0)
        store_u8(table, k, np.uint8(bits & 0xFF))
        store_u8(table, k + 16, np.uint8(bits >> 8))


@inner
def run_to_bf16(src, n, scale, table, dst, stream):
    """A run of codes under one scale; `table` 0 means that it has none."""
    seen, whole = np.int32(0), n - n % LANES if table != 0 else 0
    if stream and dst % 32 == 0:
        for j in range(0, whole, LANES):
            seen |= table_stream_step(src + j, table, dst + 2 * j)
    else:
        for j in range(0, whole, LANES):
            seen |= table_step(src + j, table, dst + 2 * j)
    if seen != 0:
        whole = 0
    return row_to_bf16(src + whole, n - whole, scale, dst + 2 * whole) if whole < n else 0


@inner
def run_to_f32(src, n, scale, dst, stream):
    seen, whole = np.int32(0), n - n % LANES
    first, second = (scale * TWO_120, np.float32(1.0)) if abs(scale) < 128 else (TWO_120, scale)
    if stream and dst % 32 == 0:
        for j in range(0, whole, LANES):
            seen |= f32_stream_step(src + j, first, second, dst + 4 * j)
    else:
        for j in range(0, whole, LANES):
            seen |= f32_step(src + j, first, second, dst + 4 * j)
    if seen != 0:
        whole = 0
    return row_to_f32(src + whole, n - whole, scale, dst + 4 * whole) if whole < n else 0


@inner
def make_tables(scales, n, tables):
    """The tables of a row of scales. Where a scale allows none, the first high half is 0, which no table has."""
    for k in range(n):
        scale = load_scale(scales, k)
        if LOWEST < scale < HIGHEST:
            make_table(scale, tables + TABLE * k)
        else:
            store_u8(tables, TABLE * k + 16, np.uint8(0))


@kernel(SIGNATURE)
def decode_bf16(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld):
    first = c0 // bC
    blocks = (c0 + C - 1) // bC + 1 - first
    tables = np.zeros(TABLE * blocks, np.uint8)
    usable, stream = bR * bC >= REPAYS, 2 * R * C >= STREAM_FROM
    nans, made = 0, -1
    for i in range(R):
        scales = scale + 4 * ((r0 + i) // bR * scale_ld + first)
        if usable and made != (r0 + i) // bR:
            made = (r0 + i) // bR
            make_tables(scales, blocks, tables.ctypes.data)
        j = 0
        for k in range(blocks):
            n = min(C, (first + k + 1) * bC - c0) - j
            table = tables.ctypes.data + TABLE * k if usable and tables[TABLE * k + 16] != 0 else 0
            code, out = src + i * src_ld + j, dst + 2 * (i * dst_ld + j)
            nans += run_to_bf16(code, n, load_scale(scales, k), table, out, stream)
            j += n
    fence()
    return nans


@kernel(SIGNATURE)
def decode_f32(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld):
    nans, stream = 0, 4 * R * C >= STREAM_FROM
    for i in range(R):
        scales = scale + 4 * ((r0 + i) // bR) * scale_ld
        j = 0
        while j < C:
            block = (c0 + j) // bC
            n = min(C, (block + 1) * bC - c0) - j
            code, out = src + i * src_ld + j, dst + 4 * (i * dst_ld + j)
            nans += run_to_f32(code, n, load_scale(scales, block), out, stream)
            j += n
    fence()
    return nans
