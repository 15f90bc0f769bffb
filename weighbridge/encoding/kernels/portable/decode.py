"""e4m3fn codes to bfloat16 and float32."""

import numpy as np

from ..memory import bits_of_f32, f32_of_bits, inner, kernel, load_f32, load_u8, store_f32, store_u16

SIGNATURE = "int64(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)"
TWO_120 = np.float32(2.0**120)
NAN = np.float32(np.nan)


@inner
def code_to_f32(code):
    """The value of a code that is not NaN: its fields at their places in a float32 are value * 2**-120."""
    magnitude, sign = np.uint32(code & 0x7F), np.uint32(code & 0x80)
    return f32_of_bits(np.uint32((sign << 24) | (magnitude << 20))) * TWO_120


@inner
def f32_to_bf16(value):
    """bfloat16 bits, nearest even; the value is not NaN."""
    bits = bits_of_f32(value)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16)


@inner
def load_scale(scale, index):
    """A scale, and for any NaN the plain one: adding to a long payload, f32_to_bf16 would reach -0."""
    value = load_f32(scale, index)
    return NAN if np.isnan(value) else value


@inner
def row_to_bf16(src, n, scale, dst):
    nans = 0
    for j in range(n):
        code = load_u8(src, j)
        is_nan = (code & 0x7F) == 0x7F
        nans += is_nan
        bits = f32_to_bf16(code_to_f32(code) * scale)
        store_u16(dst, j, np.uint16(0x7FC0 | (code & 0x80) << 8) if is_nan else bits)
    return nans


@inner
def row_to_f32(src, n, scale, dst):
    nans = 0
    for j in range(n):
        code = load_u8(src, j)
        is_nan = (code & 0x7F) == 0x7F
        nans += is_nan
        value = code_to_f32(code) * scale
        nan = f32_of_bits(np.uint32(np.uint32(0x7FC00000) | np.uint32(code & 0x80) << 24))
        store_f32(dst, j, nan if is_nan else value)
    return nans


@inner
def decode_region(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld, item):
    """Row by row, one run of columns per block. `item`: bytes of one result."""
    nans = 0
    for i in range(R):
        grid_row = scale + 4 * ((r0 + i) // bR) * scale_ld
        j = 0
        while j < C:
            block = (c0 + j) // bC
            n = min(C, (block + 1) * bC - c0) - j
            code, out = src + i * src_ld + j, dst + item * (i * dst_ld + j)
            if item == 2:
                nans += row_to_bf16(code, n, load_scale(grid_row, block), out)
            else:
                nans += row_to_f32(code, n, load_scale(grid_row, block), out)
            j += n
    return nans


@kernel(SIGNATURE)
def decode_bf16(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld):
    return decode_region(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld, 2)


@kernel(SIGNATURE)
def decode_f32(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld):
    return decode_region(src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld, 4)
