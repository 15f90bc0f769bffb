"""Packings as loops: stored bytes to codes, one byte each, and back.

A packing is (kind, width, values, word, starts): `starts` is the address of int64 places of a unit's codes. `row` is the row of codes; where units
stand along the rows, its words are shared with the rows beside it. `limit` is the number of bytes in a stored row.
"""

import numpy as np
from llvmlite import ir
from numba import types

from weighbridge.encoding.kernels.memory import inner, kernel, load_u8, load_u16, load_u32, loader, store_u8, store_u16, store_u32, storer

BYTES, LOW_FIRST, HIGH_FIRST, AWQ, STREAM, UNITS, ROWS = range(7)  # the kinds of packings
LONG = ir.IntType(64)
load_i64, load_u64, store_u64 = loader(types.int64, LONG), loader(types.uint64, LONG), storer(types.uint64, LONG)
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)"


@inner
def unpack_nibbles(src, n, high_first, dst):
    """n codes, n even."""
    if high_first:
        for j in range(n // 2):
            pair = np.uint16(load_u8(src, j))
            store_u16(dst, j, np.uint16((pair >> 4) | ((pair & 0x0F) << 8)))
    else:
        for j in range(n // 2):
            pair = np.uint16(load_u8(src, j))
            store_u16(dst, j, np.uint16((pair | (pair << 4)) & 0x0F0F))


@inner
def four(half):
    """Four nibbles, each at the bottom of 16 bits."""
    wide = (half | (half << np.uint64(24))) & np.uint64(0x000000FF000000FF)
    return (wide | (wide << np.uint64(12))) & np.uint64(0x000F000F000F000F)


@inner
def unpack_awq(src, n, dst):
    """n codes, whole words: the low half of a word holds the even ones."""
    for j in range(n // 8):
        word = np.uint64(load_u32(src, j))
        store_u64(dst, j, four(word & np.uint64(0xFFFF)) | (four(word >> np.uint64(16)) << np.uint64(8)))


@inner
def unpack_stream(src, limit, first, n, width, dst):
    """Codes `first` to `first + n` of a row that is one stream of bits; `first` is a multiple of 8. Eight codes lie in `width` bytes."""
    mask, whole = np.uint32((1 << width) - 1), 0
    while whole + 8 <= n and (first + whole) // 8 * width + 8 <= limit:
        eight = load_u64(src + (first + whole) // 8 * width, 0)
        for k in range(8):
            store_u8(dst, whole + k, np.uint8(np.uint32(eight >> np.uint64(k * width)) & mask))
        whole += 8
    for j in range(whole, n):
        bit = (first + j) * width
        byte = bit >> 3
        pair = np.uint32(load_u8(src, byte)) | np.uint32(load_u8(src, min(byte + 1, limit - 1))) << np.uint32(8)
        store_u8(dst, j, np.uint8((pair >> np.uint32(bit & 7)) & mask))


@inner
def unpack_units(src, limit, first, n, width, values, size, starts, dst):
    mask = np.uint32((1 << width) - 1)
    for j in range(n):
        unit, place = (first + j) // values, (first + j) % values
        bit = unit * size * 8 + load_i64(starts, place)
        byte = bit >> 3
        pair = np.uint32(load_u8(src, byte)) | np.uint32(load_u8(src, min(byte + 1, limit - 1))) << np.uint32(8)
        store_u8(dst, j, np.uint8((pair >> np.uint32(bit & 7)) & mask))


@inner
def load_word(src, index, word):
    return load_u32(src, index) if word == 4 else np.uint32(load_u8(src, index))


@inner
def unpack_along_rows(src, src_ld, row, first, n, width, values, size, word, starts, dst):
    """One row of codes out of words that stand along the rows."""
    words, bit = size // word, load_i64(starts, row % values)
    line, shift = row // values * words + bit // (8 * word), np.uint32(bit % (8 * word))
    mask, address = np.uint32((1 << width) - 1), src + line * src_ld
    if word == 4:
        for j in range(n):
            store_u8(dst, j, np.uint8((load_u32(address, first + j) >> shift) & mask))
    else:
        for j in range(n):
            store_u8(dst, j, np.uint8((np.uint32(load_u8(address, first + j)) >> shift) & mask))
    if shift + width > 8 * word:  # the code goes on in the next word
        rest, below = np.uint32(8 * word - shift), address + src_ld
        for j in range(n):
            store_u8(dst, j, np.uint8((np.uint32(load_u8(dst, j)) | (load_word(below, first + j, word) << rest)) & mask))


@inner
def unpack_strip(src, src_ld, kind, width, values, size, word, starts, row, first, n, dst):
    """Codes [first, first + n) of a row into `dst`. `first` begins a unit; the result may be filled up by less than a unit."""
    if kind == ROWS:
        unpack_along_rows(src, src_ld, row, first, n, width, values, size, word, starts, dst)
        return
    line = src + row * src_ld
    if kind == LOW_FIRST or kind == HIGH_FIRST:
        unpack_nibbles(line + first // 2, n + (n & 1), kind == HIGH_FIRST, dst)
    elif kind == AWQ:
        unpack_awq(line + first // 2, (n + 7) // 8 * 8, dst)
    elif kind == STREAM:
        unpack_stream(line, src_ld, first, n, width, dst)
    elif kind == UNITS:
        unpack_units(line, src_ld, first, n, width, values, size, starts, dst)
    else:
        for j in range(n):
            store_u8(dst, j, load_u8(line, first + j))


@inner
def pack_nibbles(src, n, high_first, dst):
    """Whole bytes; the caller has filled up the last one."""
    if high_first:
        for j in range((n + 1) // 2):
            pair = load_u16(src, j)
            store_u8(dst, j, np.uint8((pair << 4) | (pair >> 8)))
    else:
        for j in range((n + 1) // 2):
            pair = load_u16(src, j)
            store_u8(dst, j, np.uint8(pair | (pair >> 4)))


@inner
def together(wide):
    """The four nibbles of `four`, in 16 bits."""
    wide = (wide | (wide >> np.uint64(12))) & np.uint64(0x000000FF000000FF)
    return (wide | (wide >> np.uint64(24))) & np.uint64(0xFFFF)


@inner
def pack_awq(src, n, dst):
    for j in range((n + 7) // 8):
        codes = load_u64(src, j)
        even, other = together(codes & np.uint64(0x000F000F000F000F)), together((codes >> np.uint64(8)) & np.uint64(0x000F000F000F000F))
        store_u32(dst, j, np.uint32(even | (other << np.uint64(16))))


@inner
def pack_units(src, first, n, width, values, size, starts, dst, limit):
    """Any order within units: bits are set in bytes that are zero."""
    for j in range(n):
        bit = (first + j) // values * size * 8 + load_i64(starts, (first + j) % values)
        byte, code = bit >> 3, np.uint32(load_u8(src, j)) << np.uint32(bit & 7)
        store_u8(dst, byte, np.uint8(load_u8(dst, byte) | (code & np.uint32(0xFF))))
        if code > 0xFF:
            store_u8(dst, byte + 1, np.uint8(load_u8(dst, byte + 1) | (code >> np.uint32(8))))


@inner
def pack_along_rows(src, row, first, n, width, values, size, word, starts, dst, dst_ld):
    """One row of codes into words along the rows, which are zero before their first row comes."""
    words, bit = size // word, load_i64(starts, row % values)
    line, shift = row // values * words + bit // (8 * word), np.uint32(bit % (8 * word))
    address = dst + line * dst_ld
    if word == 4:
        for j in range(n):
            store_u32(address, first + j, np.uint32(load_u32(address, first + j) | (np.uint32(load_u8(src, j)) << shift)))
    else:
        for j in range(n):
            store_u8(address, first + j, np.uint8(load_u8(address, first + j) | (np.uint32(load_u8(src, j)) << shift)))
    if shift + width > 8 * word:
        rest, below = np.uint32(8 * word - shift), address + dst_ld
        for j in range(n):
            store_u32(below, first + j, np.uint32(load_u32(below, first + j) | (np.uint32(load_u8(src, j)) >> rest)))


@inner
def pack_strip(src, kind, width, values, size, word, starts, row, first, n, dst, dst_ld):
    """Codes of a strip, filled up with zeros to 8, into a row of bytes that are zero."""
    if kind == ROWS:
        pack_along_rows(src, row, first, n, width, values, size, word, starts, dst, dst_ld)
        return
    line = dst + row * dst_ld
    if kind == LOW_FIRST or kind == HIGH_FIRST:
        pack_nibbles(src, n, kind == HIGH_FIRST, line + first // 2)
    elif kind == AWQ:
        pack_awq(src, n, line + first // 2)
    elif kind == BYTES:
        for j in range(n):
            store_u8(line, first + j, load_u8(src, j))
    else:
        pack_units(src, first, n, width, values, size, starts, line, dst_ld)


STRIP = 4096  # values of a row that are worked on at once: a multiple of every unit


@kernel(SIGNATURE)
def unpack(src, src_ld, kind, width, values, size, word, starts, R, C, dst, dst_ld):
    """Rows of codes. A row of the result that no unit ends with is unpacked beside it first."""
    strip = np.empty(STRIP + 64, np.uint8)
    for i in range(R):
        for first in range(0, C, STRIP):
            n = min(STRIP, C - first)
            if n % 8 == 0 or kind == ROWS or kind == BYTES:
                unpack_strip(src, src_ld, kind, width, values, size, word, starts, i, first, n, dst + i * dst_ld + first)
            else:
                unpack_strip(src, src_ld, kind, width, values, size, word, starts, i, first, n, strip.ctypes.data)
                for j in range(n):
                    store_u8(dst + i * dst_ld, first + j, strip[j])
    strip[0] = 0  # numba frees an array after its last mention, and an address is none


@kernel(SIGNATURE)
def pack(src, src_ld, kind, width, values, size, word, starts, R, C, dst, dst_ld):
    """Rows of codes into bytes that are zero."""
    strip = np.zeros(STRIP + 64, np.uint8)
    for i in range(R):
        for first in range(0, C, STRIP):
            n = min(STRIP, C - first)
            code = src + i * src_ld + first
            if n % 8 != 0:
                for j in range(n):
                    strip[j] = load_u8(code, j)
                for j in range(n, n + 8):
                    strip[j] = 0
                code = strip.ctypes.data
            pack_strip(code, kind, width, values, size, word, starts, i, first, n, dst, dst_ld)
    strip[0] = 0  # numba frees an array after its last mention, and an address is none
