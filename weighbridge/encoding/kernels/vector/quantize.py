"""bfloat16 and float32 values to e4m3fn codes with one scale per block, 32 at a time.

A division costs more than all the rest, so a block multiplies by the reciprocal of its scale. That is
off from the true quotient by less than 3 units of the last of its 24 bits: one half for the quotient, one
for the reciprocal, at most one and a bit for its product. It can change a code only where a boundary
between two codes is as near as that. A step that sees such a value divides, so the codes are those of a
true division, always.
"""

import numpy as np
from numba import types

from ..memory import inner, kernel, store_f32
from ..portable.quantize import SIGNATURE, largest_bits, quantize_rows, refuse_rows, scale_of_bits
from .lanes import BYTE, HALF, REAL, WORD, step

LANES, WIDE = 32, 128  # values of a step, and of a step that only looks for the largest
ADDRESS = types.int64
NEAR = 8  # units of the last bit; the quotients differ by less than 3
LOWEST, HIGHEST = np.float32(2.0**-100), np.float32(2.0**5)  # scales whose reciprocal * 2**-120 is normal
TWO_M120 = np.float32(2.0**-120)


def load_words(code, src, item):
    """32 values as four vectors of 8 float32 bit patterns."""
    for k in range(0, LANES, 8):
        if item == 2:
            yield code.load(src, HALF, 8, 2 * k).widen(WORD) << 16
        else:
            yield code.load(src, WORD, 8, 4 * k)


def magnitude_codes(quotient, limit):
    """8 quotients >= 0 to codes, in 32 bits each; see portable.quantize.code_of_quotient."""
    magnitude = quotient.smaller(limit)
    bits = magnitude.bits_as(WORD)
    normal = (bits + ((bits >> 20) & 1) + (0x7FFFF - (120 << 23))) >> 20
    subnormal = (magnitude + 2.0**14).bits_as(WORD) & 0x7F
    return magnitude.below(2.0**-6).choose(subnormal, normal)


def store_codes(code, words, parts, dst):
    """Join four vectors of codes with the signs of their values, and store 32 bytes."""
    signed = [part | ((word >> 24) & 0x80) for word, part in zip(words, parts)]
    joined = signed[0].join(signed[1]).join(signed[2].join(signed[3]))
    code.store(dst, joined.narrow(BYTE))


def write_divide(code, item, src, scale, limit, dst):
    words = list(load_words(code, src, item))
    scale, limit = code.splat(scale, 8), code.splat(limit, 8)
    parts = [magnitude_codes((word & 0x7FFFFFFF).bits_as(REAL) / scale, limit) for word in words]
    store_codes(code, words, parts, dst)


def write_multiply(code, item, src, reciprocal, dst):
    """Returns i1: whether a quotient is too near to a boundary, and the codes must not be used.

    `reciprocal` holds the factor 2**-120, so the fields of a code stand in the upper bits of a quotient,
    those of a subnormal code too. Away from the boundaries, to round is to add a half and cut.
    """
    parts, nearest = [], None
    reciprocal = code.splat(reciprocal, 8)
    for word in load_words(code, src, item):
        rounded = (word.bits_as(REAL) * reciprocal).bits_as(WORD) + 0x80000
        parts.append(rounded.signed_shift(20))
        distance = (rounded + NEAR) << 12
        nearest = distance if nearest is None else nearest.smaller(distance)
    halves = [parts[k].join(parts[k + 1]).narrow(HALF) for k in (0, 2)]
    signed = [(half & 0x7F) | ((half >> 4) & 0x80) for half in halves]
    code.store(dst, signed[0].join(signed[1]).narrow(BYTE))
    return nearest.below(2 * NEAR << 12).any()


def write_largest(code, item, src, top):
    """i32: the bits of the largest of `top` and WIDE magnitudes, as float32 bits."""
    element, sign = (HALF, 0x7FFF) if item == 2 else (WORD, 0x7FFFFFFF)
    count, largest = 64 // item, None
    for offset in range(0, WIDE * item, 64):
        magnitude = code.load(src, element, count, offset) & sign
        largest = magnitude if largest is None else largest.larger(magnitude)
    found = largest.reduce("umax")
    if item == 2:
        found = code.builder.shl(code.builder.zext(found, WORD), WORD(16))
    above = code.builder.icmp_unsigned(">", found, top)
    return code.builder.select(above, found, top)


def steps(item):
    """The steps for one width of source: (multiply, divide, largest)."""
    F32 = types.float32

    @step(types.boolean, ADDRESS, F32, ADDRESS)
    def multiply_step(code, src, reciprocal, dst):
        return write_multiply(code, item, src, reciprocal, dst)

    @step(types.void, ADDRESS, F32, F32, ADDRESS)
    def divide_step(code, src, scale, limit, dst):
        write_divide(code, item, src, scale, limit, dst)

    @step(types.uint32, ADDRESS, types.uint32)
    def largest_step(code, src, top):
        return write_largest(code, item, src, top)

    return multiply_step, divide_step, largest_step


multiply_bf16, divide_bf16, largest_bf16 = steps(2)
multiply_f32, divide_f32, largest_f32 = steps(4)


@inner
def largest_of_block(src, ld, rows, columns, item):
    """Bits of the largest magnitude, as float32 bits."""
    top, wide = np.uint32(0), columns - columns % WIDE
    for i in range(rows):
        row = src + item * i * ld
        if item == 2:
            for j in range(0, wide, WIDE):
                top = largest_bf16(row + 2 * j, top)
        else:
            for j in range(0, wide, WIDE):
                top = largest_f32(row + 4 * j, top)
    return max(top, largest_bits(src + item * wide, ld, rows, columns - wide, item))


@inner
def quantize_run(src, n, item, scale, reciprocal, fmax, dst):
    """`n` values of a row, a multiple of LANES. Reciprocal 0 means that it is not to be used."""
    for j in range(0, n, LANES):
        if item == 2:
            if reciprocal == 0 or multiply_bf16(src + 2 * j, reciprocal, dst + j):
                divide_bf16(src + 2 * j, scale, fmax, dst + j)
        elif reciprocal == 0 or multiply_f32(src + 4 * j, reciprocal, dst + j):
            divide_f32(src + 4 * j, scale, fmax, dst + j)


@inner
def quantize_block(src, ld, rows, columns, item, scale, fmax, dst, dst_ld):
    whole = columns - columns % LANES
    reciprocal = TWO_M120 / scale if LOWEST < scale < HIGHEST else np.float32(0.0)
    for i in range(rows):
        quantize_run(src + item * i * ld, whole, item, scale, reciprocal, fmax, dst + i * dst_ld)
    if whole < columns:
        quantize_rows(src + item * whole, ld, rows, columns - whole, item, scale, fmax, dst + whole, dst_ld)


@inner
def quantize_region(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld, item):
    refused = 0
    for i in range(0, R, bR):
        for j in range(0, C, bC):
            rows, columns = min(bR, R - i), min(bC, C - j)
            block, code = src + item * (i * src_ld + j), dst + i * dst_ld + j
            block_scale = scale_of_bits(largest_of_block(block, src_ld, rows, columns, item), fmax)
            store_f32(scale, i // bR * scale_ld + j // bC, block_scale)
            if np.isnan(block_scale):
                refuse_rows(rows, columns, code, dst_ld)
                refused += 1
            else:
                quantize_block(block, src_ld, rows, columns, item, block_scale, fmax, code, dst_ld)
    return refused


@kernel(SIGNATURE)
def quantize_bf16(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld):
    return quantize_region(src, src_ld, R, C, bR, bC, np.float32(fmax), dst, dst_ld, scale, scale_ld, 2)


@kernel(SIGNATURE)
def quantize_f32(src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld):
    return quantize_region(src, src_ld, R, C, bR, bC, np.float32(fmax), dst, dst_ld, scale, scale_ld, 4)
