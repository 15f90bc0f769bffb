"""Stored codes of any element to float32, bfloat16 or float16: (look(code) - zero) x scale, rounded to float32 after each.

An element is (kind, bits, mantissa, bias, table). FLOAT: a small float with these fields; FLOAT_NAN: the same, and a magnitude of all ones is NaN.
OFFSET: an unsigned code less `bias`. SIGNED: two's complement. TABLE: float32 values at the address `table`.

Grids of scales and zero points are float32 and share their blocks: element (i, j) of the region takes row (r0 + i) // bR, or order[i], and column
(c0 + j) // bC.
"""

import numpy as np

from weighbridge.encoding.kernels.memory import bits_of_f32, f32_of_bits, inner, kernel, load_f32, load_i32, load_u8, store_f32, store_u16
from weighbridge.formats.kernels.bits import BYTES, STRIP, unpack_strip
from weighbridge.formats.kernels.groups import choose, halves_of, store_same

FLOAT, FLOAT_NAN, OFFSET, SIGNED, TABLE = range(5)
F32, BF16, F16 = 4, 2, 1  # results
SIGNATURE = f"void({', '.join(['int64'] * 28)})"


@inner
def float_values(codes, n, bits, mantissa, bias, dst):
    """Without float32's subnormal numbers, which many processors multiply slowly: the element's own are whole multiples of its smallest step."""
    mask, step = np.uint32((1 << (bits - 1)) - 1), f32_of_bits(np.uint32((128 - bias - mantissa) << 23))
    shift, up, sign_up, normal = np.uint32(23 - mantissa), np.uint32((127 - bias) << 23), np.uint32(32 - bits), np.uint32(1 << mantissa)
    for j in range(n):
        code = np.uint32(load_u8(codes, j))
        magnitude = np.uint32(code & mask)
        sign = np.uint32(np.uint32(code ^ magnitude) << sign_up)
        small = bits_of_f32(np.float32(np.float32(np.int32(magnitude)) * step))
        large = np.uint32(np.uint32(magnitude << shift) + up)
        store_f32(dst, j, f32_of_bits(np.uint32(sign | (small if magnitude < normal else large))))


@inner
def nan_values(codes, n, mask, dst):
    """NaN in the places of codes whose magnitude is all ones."""
    for j in range(n):
        code = np.uint32(load_u8(codes, j))
        nan = f32_of_bits(np.uint32(np.uint32(0x7FC00000) | (code & np.uint32(0x80)) << np.uint32(24)))
        store_f32(dst, j, nan if (code & mask) == mask else load_f32(dst, j))


@inner
def offset_values(codes, n, bias, dst):
    for j in range(n):
        store_f32(dst, j, np.float32(np.int32(load_u8(codes, j)) - bias))


@inner
def signed_values(codes, n, half, dst):
    for j in range(n):
        store_f32(dst, j, np.float32((np.int32(load_u8(codes, j)) ^ half) - half))


@inner
def table_values(codes, n, table, dst):
    for j in range(n):
        store_f32(dst, j, load_f32(table, np.int64(load_u8(codes, j))))


@inner
def look(codes, n, kind, bits, mantissa, bias, table, dst):
    """float32 values of n codes."""
    if kind == FLOAT or kind == FLOAT_NAN:
        float_values(codes, n, bits, mantissa, bias, dst)
        if kind == FLOAT_NAN:
            nan_values(codes, n, np.uint32((1 << (bits - 1)) - 1), dst)
    elif kind == OFFSET:
        offset_values(codes, n, np.int32(bias), dst)
    elif kind == SIGNED:
        signed_values(codes, n, np.int32(1 << (bits - 1)), dst)
    else:
        table_values(codes, n, table, dst)


@inner
def spread_groups(grid, n, halves, dst):
    """Each of the grid's values 16 or 32 times, for n elements, whole groups."""
    if halves == 1:
        for block in range(n // 16):
            store_same(dst + 64 * block, load_f32(grid, block))
    else:
        for block in range(n // 32):
            value = load_f32(grid, block)
            store_same(dst + 128 * block, value)
            store_same(dst + 128 * block + 64, value)


@inner
def spread(grid, column, n, width, dst):
    """The grid's values for n elements from `column` on, float32."""
    if width == 1:
        for k in range(n):
            store_f32(dst, k, load_f32(grid, column + k))
        return
    j = 0
    if (width == 16 or width == 32) and column % width == 0:
        j = n // width * width
        spread_groups(grid + 4 * (column // width), j, width // 16, dst)
    while j < n:
        block = (column + j) // width
        size = min(n, (block + 1) * width - column) - j
        value = load_f32(grid, block)
        for k in range(size):
            store_f32(dst, j + k, value)
        j += size


@inner
def subtract(values, n, zeros):
    for j in range(n):
        store_f32(values, j, load_f32(values, j) - load_f32(zeros, j))


@inner
def scale_to_f32(values, scales, n, dst):
    for j in range(n):
        store_f32(dst, j, load_f32(values, j) * load_f32(scales, j))


@inner
def scale_to_bf16(values, scales, n, dst):
    for j in range(n):
        bits = bits_of_f32(np.float32(load_f32(values, j) * load_f32(scales, j)))
        nearest = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> np.uint32(16)
        nan = ((bits >> 16) & np.uint32(0x8000)) | np.uint32(0x7FC0)
        store_u16(dst, j, np.uint16(nan if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else nearest))


@inner
def f16_of(bits):
    """float16 bits of a float32's, nearest even."""
    size, sign = np.uint32(bits & np.uint32(0x7FFFFFFF)), (bits >> 16) & np.uint32(0x8000)
    small = np.uint32(bits_of_f32(np.float32(f32_of_bits(size) + np.float32(0.5))) - np.uint32(0x3F000000))
    normal = np.uint32(size + np.uint32(0xC8000FFF) + ((size >> 13) & np.uint32(1))) >> np.uint32(13)
    code = small if size < np.uint32(0x38800000) else normal
    code = np.uint32(0x7C00) if size >= np.uint32(0x47800000) else code
    code = np.uint32(0x7E00) if size > np.uint32(0x7F800000) else code
    return np.uint16(sign | code)


@inner
def scale_to_f16(values, scales, n, dst):
    for j in range(n):
        store_u16(dst, j, f16_of(bits_of_f32(np.float32(load_f32(values, j) * load_f32(scales, j)))))


@inner
def groups_to_bf16(codes, n, values, scale, zero, column, width, table, dst):
    """bfloat16 of n 4-bit codes in whole groups of a multiple of 16, by the sixteen values of each group."""
    j, block = 0, column // width
    end = min(n, (block + 1) * width - column)
    while j < n:
        halves_of(values, load_f32(zero, block) if zero != 0 else np.float32(0), load_f32(scale, block), table)
        while j < end:
            choose(codes + j, table, dst + 2 * j)
            j += 16
        block, end = block + 1, min(n, end + width)


@kernel(SIGNATURE)
def decode(src, src_ld, kind, width, values, size, word, starts, element, bits, mantissa, bias, table,
           scale, scale_ld, zero, zero_ld, order, R, C, r0, c0, bR, bC, first_row, dst, dst_ld, item):
    """`first_row`: the row of the packed source at which the region begins. `scale` or `zero` 0: there is none."""
    code_strip, value_strip = np.empty(STRIP + 64, np.uint8), np.empty(STRIP, np.float32)
    scale_strip, zero_strip = np.ones(STRIP, np.float32), np.empty(STRIP, np.float32)
    value, scales, zeros = value_strip.ctypes.data, scale_strip.ctypes.data, zero_strip.ctypes.data
    out_size = 4 if item == F32 else 2
    by_groups = item == BF16 and bits == 4 and bC > 16 and bC % 16 == 0 and c0 % 16 == 0 and scale != 0
    table_strip, sixteen = np.empty(32, np.uint8), np.empty(16, np.float32)
    if by_groups:
        for k in range(16):
            code_strip[k] = k
        look(code_strip.ctypes.data, 16, element, bits, mantissa, bias, table, sixteen.ctypes.data)
    last_row, last_first = -1, -1
    for i in range(R):
        row = load_i32(order, i) if order != 0 else (r0 + i) // bR
        for first in range(0, C, STRIP):
            n, codes = min(STRIP, C - first), src + (first_row + i) * src_ld + first
            if kind != BYTES:
                codes = code_strip.ctypes.data
                unpack_strip(src, src_ld, kind, width, values, size, word, starts, first_row + i, first, n, codes)
            out, done = dst + out_size * (i * dst_ld + first), 0
            if by_groups:
                done = n // 16 * 16
                groups_to_bf16(codes, done, sixteen.ctypes.data, scale + 4 * row * scale_ld, zero + 4 * row * zero_ld if zero != 0 else 0,
                               c0 + first, bC, table_strip.ctypes.data, out)
                if done == n:
                    continue
                codes, out, n = codes + done, out + 2 * done, n - done
            look(codes, n, element, bits, mantissa, bias, table, value)
            if row != last_row or first != last_first:  # rows of one block share what is spread
                if scale != 0:
                    spread(scale + 4 * row * scale_ld, c0 + first + done, n, bC, scales)
                if zero != 0:
                    spread(zero + 4 * row * zero_ld, c0 + first + done, n, bC, zeros)
                last_row, last_first = row, first
            if zero != 0:
                subtract(value, n, zeros)
            if item == F32:
                scale_to_f32(value, scales, n, out)
            elif item == BF16:
                scale_to_bf16(value, scales, n, out)
            else:
                scale_to_f16(value, scales, n, out)
    # numba frees an array after its last mention, and an address is none: these keep the memory to the end.
    code_strip[0], value_strip[0], scale_strip[0], zero_strip[0], table_strip[0], sixteen[0] = 0, 0, 0, 0, 0, 0
