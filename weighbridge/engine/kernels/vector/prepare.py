"""Vectors as the dot products take them, 32 elements at a time."""

import numpy as np
from numba import types

from weighbridge.encoding.kernels.memory import inner, kernel, load_f32, load_u32, store_f32
from weighbridge.encoding.kernels.vector.lanes import REAL, WORD, step

from ..portable.prepare import SIGNATURE, TWO_60, down_of

ADDRESS = types.int64


@step(types.uint32, ADDRESS)
def largest_bits(code, src):
    """Of 32 magnitudes."""
    largest = code.load(src, WORD, 8) & 0x7FFFFFFF
    for offset in (32, 64, 96):
        largest = largest.larger(code.load(src, WORD, 8, offset) & 0x7FFFFFFF)
    return largest.reduce("umax")


@step(types.void, ADDRESS, types.float32, ADDRESS, ADDRESS)
def scale_and_deal(code, src, down, scaled, dealt):
    parts = [code.load(src, REAL, 8, offset) * code.splat(down, 8) * float(TWO_60) for offset in (0, 32, 64, 96)]
    for k, part in enumerate(parts):
        code.store(scaled, part, 32 * k)
    whole = parts[0].join(parts[1]).join(parts[2].join(parts[3]))
    for k in range(4):
        code.store(dealt, whole.pick(range(k, 32, 4)), 32 * k)


@inner
def top_bits(row, K):
    top, whole = np.uint32(0), K - K % 32
    for j in range(0, whole, 32):
        top = max(top, largest_bits(row + 4 * j))
    for j in range(whole, K):
        top = max(top, np.uint32(load_u32(row, j) & np.uint32(0x7FFFFFFF)))
    return top


@kernel(SIGNATURE)
def prepare(x, T, K, scaled, dealt, powers):
    for t in range(T):
        row, down, whole = 4 * t * K, down_of(top_bits(x + 4 * t * K, K)), K - K % 32
        for j in range(0, whole, 32):
            scale_and_deal(x + row + 4 * j, down, scaled + row + 4 * j, dealt + row + 4 * j)
        for j in range(whole, K):
            store_f32(scaled + row, j, load_f32(x + row, j) * down * TWO_60)
        store_f32(powers, t, np.float32(1.0) / down)
