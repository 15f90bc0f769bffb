"""bfloat16 and float32 values to e4m3fn codes with one scale per block."""

import numpy as np

from ..memory import bits_of_f32, f32_of_bits, inner, kernel, load_u16, load_u32, store_f32, store_u8

SIGNATURE = "int64(int64, int64, int64, int64, int64, int64, float64, int64, int64, int64, int64)"
SMALLEST_NORMAL = np.float32(2.0**-6)
ROUNDER = np.float32(2.0**14)  # its last mantissa bit is 2**-9, the step of the subnormal codes
INFINITY = np.uint32(0x7F800000)
SMALLEST_F32 = np.float32(2.0**-149)


@inner
def load_bits(src, index, item):
    """float32 bits of element `index`; `item` is 2 for a bfloat16 source, 4 for a float32 one."""
    if item == 2:
        return np.uint32(np.uint32(load_u16(src, index)) << 16)
    return load_u32(src, index)


@inner
def largest_bits(src, ld, rows, columns, item):
    """Bits of the largest magnitude: without the sign they are in the order of the values, NaN on top."""
    top = np.uint32(0)
    for i in range(rows):
        for j in range(columns):
            top = max(top, np.uint32(load_bits(src, i * ld + j, item) & np.uint32(0x7FFFFFFF)))
    return top


@inner
def scale_of_bits(top, fmax):
    """The scale of a block by its largest magnitude, as codec.block_scale gives it."""
    if top >= INFINITY:
        return np.float32(np.nan)
    if top == 0:
        return np.float32(1.0)
    return max(np.float32(f32_of_bits(top) / fmax), SMALLEST_F32)


@inner
def code_of_quotient(quotient_bits, fmax):
    """The e4m3fn code of a float32 that is not NaN, held within +-fmax."""
    sign = (quotient_bits >> 24) & np.uint32(0x80)
    magnitude = min(f32_of_bits(np.uint32(quotient_bits & np.uint32(0x7FFFFFFF))), fmax)
    bits = bits_of_f32(magnitude)
    normal = np.uint32(bits + np.uint32(0x7FFFF) + ((bits >> 20) & np.uint32(1)) - np.uint32(120 << 23)) >> 20
    subnormal = bits_of_f32(np.float32(magnitude + ROUNDER)) & np.uint32(0x7F)
    return np.uint8(sign | (subnormal if magnitude < SMALLEST_NORMAL else normal))


@inner
def quantize_rows(src, ld, rows, columns, item, scale, fmax, dst, dst_ld):
    for i in range(rows):
        for j in range(columns):
            value = f32_of_bits(load_bits(src, i * ld + j, item))
            store_u8(dst, i * dst_ld + j, code_of_quotient(bits_of_f32(np.float32(value / scale)), fmax))


@inner
def refuse_rows(rows, columns, dst, dst_ld):
    for i in range(rows):
        for j in range(columns):
            store_u8(dst, i * dst_ld + j, np.uint8(0x7F))


@inner
def quantize_region(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld, item):
    refused = 0
    for i in range(0, R, bR):
        for j in range(0, C, bC):
            rows, columns = min(bR, R - i), min(bC, C - j)
            block, code = src + item * (i * src_ld + j), dst + i * dst_ld + j
            block_scale = scale_of_bits(largest_bits(block, src_ld, rows, columns, item), fmax)
            store_f32(scale, i // bR * scale_ld + j // bC, block_scale)
            if np.isnan(block_scale):
                refuse_rows(rows, columns, code, dst_ld)
                refused += 1
            else:
                quantize_rows(block, src_ld, rows, columns, item, block_scale, fmax, code, dst_ld)
    return refused


@kernel(SIGNATURE)
def quantize_bf16(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld):
    return quantize_region(src, src_ld, R, C, bR, bC, np.float32(fmax), dst, dst_ld, scale, scale_ld, 2)


@kernel(SIGNATURE)
def quantize_f32(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld):
    return quantize_region(src, src_ld, R, C, bR, bC, np.float32(fmax), dst, dst_ld, scale, scale_ld, 4)
