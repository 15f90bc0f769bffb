"""Vectors as the dot products take them: clear of the ends of float32, and once more in the order of the codes' lanes."""

import numpy as np

from weighbridge.encoding.kernels.memory import f32_of_bits, inner, kernel, load_f32, load_u32, store_f32

SIGNATURE = "void(int64, int64, int64, int64, int64, int64)"
TWO_60 = np.float32(2.0**60)


@inner
def down_of(top):
    """The power of two that brings a magnitude with these bits to 1 or above, below 2."""
    exponent = np.int64(top >> 23) - 127
    if top == 0 or exponent == 128:  # nothing, or something infinite: any power does
        return np.float32(1.0)
    if exponent == -127:  # subnormal: as far as a power goes
        exponent = np.int64(-126)
    if exponent == 127:
        return f32_of_bits(np.uint32(0x00400000))  # 2**-127
    return f32_of_bits(np.uint32(np.uint32(127 - exponent) << 23))


@kernel(SIGNATURE)
def prepare(x, T, K, scaled, dealt, powers):
    for t in range(T):
        row, top = x + 4 * t * K, np.uint32(0)
        for j in range(K):
            top = max(top, np.uint32(load_u32(row, j) & np.uint32(0x7FFFFFFF)))
        down = down_of(top)
        for j in range(K):
            store_f32(scaled, t * K + j, load_f32(row, j) * down * TWO_60)
        deal(scaled + 4 * t * K, K, dealt + 4 * t * K)
        store_f32(powers, t, np.float32(1.0) / down)


@inner
def deal(src, n, dst):
    """Every whole 32 elements by fours: all first ones, all second ones, and so on."""
    for start in range(0, n - 31, 32):
        for k in range(4):
            for j in range(8):
                store_f32(dst, start + 8 * k + j, load_f32(src, start + 4 * j + k))
