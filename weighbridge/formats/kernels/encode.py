"""float32 and bfloat16 values to stored codes, with scales and zero points that are given; and the ranges from which these are made.

An element is (kind, bits, mantissa, bias, low, high): FLOAT, a small float within +-high, ties to the even code; E2M1, the same for that element;
E2M1_UP, halves away from zero; OFFSET, SIGNED, integers from low to high, ties to the even one. The grids are as in `decode`.
"""

import numpy as np

from weighbridge.encoding.kernels.memory import bits_of_f32, f32_of_bits, inner, kernel, load_f32, load_i32, load_u16, load_u32, store_f32, store_u8
from weighbridge.formats.kernels.bits import STRIP, pack_strip
from weighbridge.formats.kernels.decode import spread
from weighbridge.formats.kernels.groups import least_bf16, least_f32, most_bf16, most_f32

FLOAT, E2M1, E2M1_UP, OFFSET, SIGNED = range(5)
SIGNATURE = f"void({', '.join(['int64'] * 23)}, float64, float64, {', '.join(['int64'] * 5)})"


@inner
def load_values(src, n, item, dst):
    if item == 2:
        for j in range(n):
            store_f32(dst, j, f32_of_bits(np.uint32(np.uint32(load_u16(src, j)) << np.uint32(16))))
    else:
        for j in range(n):
            store_f32(dst, j, load_f32(src, j))


@inner
def key_of(bits):
    """An integer in the order of the float32; NaN lies outside of both infinities."""
    return np.int32(np.int32(bits) ^ (np.int32(np.int32(bits) >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inner
def load_bits(src, index, item):
    if item == 2:
        return np.uint32(np.uint32(load_u16(src, index)) << np.uint32(16))
    return load_u32(src, index)


@inner
def range_of_run(src, n, item, low, high):
    """(least, greatest) key of a run, and of what came before it."""
    if item == 2:
        for j in range(n):
            key = key_of(np.uint32(np.uint32(load_u16(src, j)) << np.uint32(16)))
            low, high = min(low, key), max(high, key)
    else:
        for j in range(n):
            key = key_of(load_u32(src, j))
            low, high = min(low, key), max(high, key)
    return low, high


@inner
def range_of_16(src, item):
    if item == 2:
        return least_bf16(src), most_bf16(src)
    return least_f32(src), most_f32(src)


@inner
def ranges_of_groups(src, item, columns, halves, low, high):
    """The ranges of whole groups of 16 or 32 values in a row."""
    for block in range(columns):
        group = src + item * 16 * halves * block
        least, most = range_of_16(group, item)
        if halves == 2:
            more_least, more_most = range_of_16(group + item * 16, item)
            least, most = min(least, more_least), max(most, more_most)
        store_f32(low, block, f32_of_bits(np.uint32(key_of(np.uint32(least)))))
        store_f32(high, block, f32_of_bits(np.uint32(key_of(np.uint32(most)))))


@kernel(f"void({', '.join(['int64'] * 10)})")
def ranges(src, src_ld, item, R, C, bR, bC, low, high, ld):
    """float32 grids of the least and the greatest value of each block. A block with NaN gets NaN in one of them."""
    top, bottom = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    columns = (C + bC - 1) // bC
    if bR == 1 and (bC == 16 or bC == 32) and C % bC == 0:
        for i in range(R):
            ranges_of_groups(src + item * i * src_ld, item, columns, bC // 16, low + 4 * i * ld, high + 4 * i * ld)
        return
    for i in range(R):
        line, first = i // bR * ld, i % bR == 0
        last = i % bR == bR - 1 or i == R - 1
        if bC == 1:
            for j in range(C):
                key = key_of(load_bits(src + item * i * src_ld, j, item))
                least = top if first else load_i32(low, line + j)
                most = bottom if first else load_i32(high, line + j)
                store_f32(low, line + j, f32_of_bits(np.uint32(min(key, least))))
                store_f32(high, line + j, f32_of_bits(np.uint32(max(key, most))))
        else:
            for block in range(columns):
                start = block * bC
                least = top if first else load_i32(low, line + block)
                most = bottom if first else load_i32(high, line + block)
                least, most = range_of_run(src + item * (i * src_ld + start), min(bC, C - start), item, least, most)
                store_f32(low, line + block, f32_of_bits(np.uint32(least)))
                store_f32(high, line + block, f32_of_bits(np.uint32(most)))
        if last:
            for j in range(columns):
                store_f32(low, line + j, f32_of_bits(np.uint32(key_of(np.uint32(load_i32(low, line + j))))))
                store_f32(high, line + j, f32_of_bits(np.uint32(key_of(np.uint32(load_i32(high, line + j))))))


@inner
def divide(values, scales, n):
    for j in range(n):
        store_f32(values, j, np.float32(load_f32(values, j) / load_f32(scales, j)))


@inner
def multiply(values, scales, n):
    for j in range(n):
        store_f32(values, j, np.float32(load_f32(values, j) * load_f32(scales, j)))


@inner
def add(values, zeros, n, rounds_first):
    if rounds_first:
        for j in range(n):
            store_f32(values, j, np.float32(np.rint(load_f32(values, j)) + load_f32(zeros, j)))
    else:
        for j in range(n):
            store_f32(values, j, np.float32(load_f32(values, j) + load_f32(zeros, j)))


@inner
def float_codes(values, n, bits, mantissa, bias, peak, signed_zero, dst):
    """The nearest code of a small float, ties to the even one."""
    shift, sign_down, limit = np.uint32(23 - mantissa), np.uint32(32 - bits), bits_of_f32(peak)
    half, less = np.uint32((1 << (22 - mantissa)) - 1), np.uint32((127 - bias) << 23)
    normal = bits_of_f32(f32_of_bits(np.uint32((128 - bias) << 23)))
    rounder, mask = f32_of_bits(np.uint32((127 + 24 - bias - mantissa) << 23)), np.uint32((1 << (bits - 1)) - 1)
    sign_mask = np.uint32(1 << (bits - 1))
    for j in range(n):
        quotient = bits_of_f32(load_f32(values, j))
        magnitude = np.uint32(min(np.uint32(quotient & np.uint32(0x7FFFFFFF)), limit))
        large = np.uint32(np.uint32(magnitude + half + ((magnitude >> shift) & np.uint32(1))) - less) >> shift
        small = bits_of_f32(np.float32(f32_of_bits(magnitude) + rounder)) & mask
        sign = np.uint32((quotient >> sign_down) & sign_mask)
        sign = np.uint32(0) if magnitude == 0 and not signed_zero else sign
        store_u8(dst, j, np.uint8(sign | (large if magnitude >= normal else small)))


@inner
def e2m1_codes(values, n, signed_zero, dst):
    """Ties to the even code: a middle counts where the code above it is even."""
    for j in range(n):
        value = load_f32(values, j)
        size = abs(value)
        code = np.int32(size > np.float32(0.25)) + np.int32(size >= np.float32(0.75)) + np.int32(size > np.float32(1.25))
        code += np.int32(size >= np.float32(1.75)) + np.int32(size > np.float32(2.5)) + np.int32(size >= np.float32(3.5))
        code += np.int32(size > np.float32(5.0))
        sign = np.uint32((bits_of_f32(value) >> np.uint32(28)) & np.uint32(8))
        sign = np.uint32(0) if value == 0 and not signed_zero else sign
        store_u8(dst, j, np.uint8(np.uint32(code) | sign))


@inner
def e2m1_up(values, n, dst):
    """Halves away from zero."""
    for j in range(n):
        value = load_f32(values, j)
        size = abs(value)
        code = np.int32(size >= np.float32(0.25)) + np.int32(size >= np.float32(0.75)) + np.int32(size >= np.float32(1.25))
        code += np.int32(size >= np.float32(1.75)) + np.int32(size >= np.float32(2.5)) + np.int32(size >= np.float32(3.5))
        code += np.int32(size >= np.float32(5.0))
        store_u8(dst, j, np.uint8(np.uint32(code) | ((bits_of_f32(value) >> np.uint32(28)) & np.uint32(8))))


@inner
def integer_codes(values, n, bits, bias, low, high, dst):
    mask = np.int32((1 << bits) - 1)
    for j in range(n):
        whole = np.float32(np.rint(load_f32(values, j)))
        whole = whole if whole > low else low
        whole = whole if whole < high else high
        store_u8(dst, j, np.uint8((np.int32(whole) + bias) & mask))


@kernel(SIGNATURE)
def encode(src, src_ld, item, R, C, scale, scale_ld, zero, zero_ld, bR, bC, kind, width, values, size, word, starts,
           element, bits, mantissa, bias, rounds_first, signed_zero, low, high, dst, dst_ld, r0, c0, inverse):
    """Codes into bytes that are zero. `item`: 2 for bfloat16 values, 4 for float32. `inverse`: the grid holds reciprocals (of powers of two)."""
    value_strip, scale_strip = np.empty(STRIP, np.float32), np.ones(STRIP, np.float32)
    zero_strip, code_strip = np.empty(STRIP, np.float32), np.zeros(STRIP + 64, np.uint8)
    value, scales, zeros, codes = value_strip.ctypes.data, scale_strip.ctypes.data, zero_strip.ctypes.data, code_strip.ctypes.data
    for i in range(R):
        row = (r0 + i) // bR
        for first in range(0, C, STRIP):
            n = min(STRIP, C - first)
            load_values(src + item * (i * src_ld + first), n, item, value)
            spread(scale + 4 * row * scale_ld, c0 + first, n, bC, scales)
            if inverse != 0:
                multiply(value, scales, n)
            else:
                divide(value, scales, n)
            if zero != 0:
                spread(zero + 4 * row * zero_ld, c0 + first, n, bC, zeros)
                add(value, zeros, n, rounds_first != 0)
            if element == FLOAT:
                float_codes(value, n, bits, mantissa, bias, np.float32(high), signed_zero != 0, codes)
            elif element == E2M1:
                e2m1_codes(value, n, signed_zero != 0, codes)
            elif element == E2M1_UP:
                e2m1_up(value, n, codes)
            else:
                integer_codes(value, n, bits, np.int32(bias), np.float32(low), np.float32(high), codes)
            if n % 8 != 0:
                for j in range(n, n + 8):
                    code_strip[j] = 0
            pack_strip(codes, kind, width, values, size, word, starts, i, first, n, dst, dst_ld)
    # numba frees an array after its last mention, and an address is none: these keep the memory to the end.
    value_strip[0], scale_strip[0], zero_strip[0], code_strip[0] = 0, 0, 0, 0
