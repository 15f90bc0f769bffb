"""e4m3fn codes to e4m3fn codes, 32 at a time; transposed by interleaving in registers.

All modes are one recipe: below 0x10 a table of 16, from there an addition that stops at 448; NaN stays.
A transposed tile is put together in a buffer first, so that whole cache lines go out.
"""

import numpy as np
from numba import types

from ..memory import inner, kernel, load_i32, load_u8, store_i32, store_u8
from ..portable.move import COUNTED, NEW, SIGNATURE, TILE, clear
from .lanes import BYTE, LONG, STREAM_FROM, fence, step

LANES, STRIP = 32, 16  # columns and rows of a transposing step; a TILE is a cache line wide
WIDE = 128  # codes of a streaming step
SEEN_NAN = 1 << 32  # steps return how many codes they counted, plus this for a NaN
ADDRESS = types.int64

# Per mode 33 bytes: the new codes below 0x10, whether they are counted, and the addition from there on.
RECIPES = np.concatenate([NEW[:, :16], COUNTED[:, :16].astype(np.uint8), NEW[:, 16:17] - 16], axis=1)


class Recipe:
    """A recipe in registers, and what its codes have shown so far."""

    def __init__(self, code, address):
        self.code = code
        new, counted = (code.load(address, BYTE, 16, offset) for offset in (0, 16))
        self.new, self.is_counted = new.join(new), counted.join(counted)
        self.addition = code.load(address, BYTE, 1, 32).pick([0] * LANES)
        self.largest = self.counted = new.join(new) & 0

    def apply(self, codes):
        magnitude = codes & 0x7F
        low, nan, sum_ = magnitude.below(0x10), magnitude.equals(0x7F), magnitude + self.addition
        over = sum_.above(0x7E).choose(1, sum_ & 0)
        counted = low.choose(self.code.lookup(self.is_counted, magnitude), over)
        self.counted += nan.choose(0, counted)
        self.largest = self.largest.larger(magnitude)
        new = low.choose(self.code.lookup(self.new, magnitude), sum_.smaller(0x7E))
        return nan.choose(0x7F, new) | (codes & 0x80)

    def result(self):
        nan = self.largest.equals(0x7F).any()
        flag = self.code.builder.select(nan, LONG(SEEN_NAN), LONG(0))
        return self.code.builder.add(self.code.total(self.counted), flag)


@step(types.int64, ADDRESS, ADDRESS, ADDRESS)
def move_step(code, src, dst, recipe):
    """32 codes of a row."""
    recipe = Recipe(code, recipe)
    code.store(dst, recipe.apply(code.load(src, BYTE, LANES)))
    return recipe.result()


@step(types.int64, ADDRESS, ADDRESS, ADDRESS)
def move_stream_step(code, src, dst, recipe):
    """WIDE codes of a row."""
    recipe = Recipe(code, recipe)
    for offset in range(0, WIDE, LANES):
        code.stream(dst, recipe.apply(code.load(src, BYTE, LANES, offset)), offset)
    return recipe.result()


@step(types.int64, ADDRESS, types.int64, ADDRESS, ADDRESS)
def transpose_step(code, src, src_ld, tile, recipe):
    """16 rows of 32 codes to 32 rows of 16, TILE bytes apart."""
    recipe, rows = Recipe(code, recipe), []
    for _ in range(STRIP):
        rows.append(recipe.apply(code.load(src, BYTE, LANES)))
        src = code.builder.add(src, src_ld)
    for _ in range(4):  # 16 rows: each round doubles the run of bytes that come from one column
        rows = [a.interleave(b, half) for a, b in zip(rows[:8], rows[8:]) for half in (0, 1)]
    for column, lanes in enumerate(rows):
        code.store(tile, lanes.pick(range(16)), column * TILE)
        code.store(tile, lanes.pick(range(16, 32)), (column + 16) * TILE)
    return recipe.result()


@step(types.void, ADDRESS, ADDRESS)
def copy_line(code, src, dst):
    """TILE bytes."""
    for offset in (0, 32):
        code.store(dst, code.load(src, BYTE, LANES, offset), offset)


@step(types.void, ADDRESS, ADDRESS)
def stream_line(code, src, dst):
    for offset in (0, 32):
        code.stream(dst, code.load(src, BYTE, LANES, offset), offset)


@inner
def copy_bytes(src, dst, n):
    for k in range(n):
        store_u8(dst, k, load_u8(src, k))


@inner
def move_run(src, n, dst, recipe, spare, stream):
    """A run of one row; the rest of less than 32 codes goes through 64 spare bytes, padded with zeros."""
    result, wide, whole = 0, n - n % WIDE if stream and dst % LANES == 0 else 0, n - n % LANES
    for j in range(0, wide, WIDE):
        result += move_stream_step(src + j, dst + j, recipe)
    for j in range(wide, whole, LANES):
        result += move_step(src + j, dst + j, recipe)
    if whole < n:
        for k in range(LANES):
            store_u8(spare, k, np.uint8(0))
        copy_bytes(src + whole, spare, n - whole)
        result += move_step(spare, spare + LANES, recipe)
        copy_bytes(spare + LANES, dst + whole, n - whole)
    return result


@inner
def move_rows(src, src_ld, R, C, dst, dst_ld, bR, bC, counts, recipe, spare, stream):
    """Straight: one run of columns per block."""
    nans, counts_ld = 0, (C + bC - 1) // bC
    for i in range(R):
        for k in range(counts_ld):
            j = k * bC
            result = move_run(src + i * src_ld + j, min(bC, C - j), dst + i * dst_ld + j, recipe, spare, stream)
            nans += result >> 32
            if counts != 0:
                add_count(counts, i // bR * counts_ld + k, result)
    return nans


@inner
def add_count(counts, cell, result):
    store_i32(counts, cell, np.int32(load_i32(counts, cell) + (result & 0xFFFFFFFF)))


@inner
def count_by_row(src, src_ld, rows, columns, i0, j0, bR, bC, counts, counts_ld, recipe, spare):
    """Count a tile whose rows or columns belong to several blocks: move it to nowhere, run by run."""
    for i in range(i0, i0 + rows):
        j = j0
        while j < j0 + columns:
            n = min(j0 + columns, (j // bC + 1) * bC) - j
            result = move_run(src + i * src_ld + j, n, spare + 2 * LANES, recipe, spare, False)
            add_count(counts, i // bR * counts_ld + j // bC, result)
            j += n


@inner
def transpose_tile(src, src_ld, rows, columns, dst, dst_ld, recipe, tile, stream):
    """At most TILE x TILE codes. A smaller tile is padded with zeros, in the second half of the buffer."""
    if rows < TILE or columns < TILE:
        padded = tile + TILE * TILE
        for k in range(TILE * TILE):
            store_u8(padded, k, np.uint8(0))
        for i in range(rows):
            copy_bytes(src + i * src_ld, padded + i * TILE, columns)
        src, src_ld = padded, TILE
    result = 0
    for i in range(0, TILE, STRIP):
        for j in range(0, TILE, LANES):
            result += transpose_step(src + i * src_ld + j, src_ld, tile + j * TILE + i, recipe)
    for j in range(columns):
        line = dst + j * dst_ld
        if rows < TILE:
            copy_bytes(tile + j * TILE, line, rows)
        elif stream and line % TILE == 0:
            stream_line(tile + j * TILE, line)
        else:
            copy_line(tile + j * TILE, line)
    return result


@inner
def move_tiles(src, src_ld, R, C, dst, dst_ld, bR, bC, counts, recipe, tile, stream):
    """Transposed. The rows of the tiles are cut where the lines of `dst` begin: half a line is slow to stream."""
    nans, i, counts_ld = 0, 0, (C + bC - 1) // bC
    while i < R:
        rows = min(TILE - (dst + i) % TILE, R - i)
        for j in range(0, C, TILE):
            columns, code = min(TILE, C - j), src + i * src_ld + j
            result = transpose_tile(code, src_ld, rows, columns, dst + j * dst_ld + i, dst_ld, recipe, tile, stream)
            nans += result >> 32
            if counts != 0 and result & 0xFFFFFFFF != 0:
                if i // bR == (i + rows - 1) // bR and j // bC == (j + columns - 1) // bC:
                    add_count(counts, i // bR * counts_ld + j // bC, result)
                else:
                    count_by_row(src, src_ld, rows, columns, i, j, bR, bC, counts, counts_ld, recipe, tile)
        i += rows
    return nans


@kernel(SIGNATURE)
def move(src, src_ld, R, C, dst, dst_ld, transposed, mode, bR, bC, counts):
    buffer = np.empty(2 * TILE * TILE + 64, np.uint8)
    recipe, stream = RECIPES[mode].copy(), R * C >= STREAM_FROM
    if mode != 1 and mode != 2:
        counts = 0
    if counts == 0:
        bR, bC = R, max(1, C)
    else:
        clear(counts, (R + bR - 1) // bR * ((C + bC - 1) // bC))
    tile = (buffer.ctypes.data + 63) // 64 * 64
    if transposed:
        nans = move_tiles(src, src_ld, R, C, dst, dst_ld, bR, bC, counts, recipe.ctypes.data, tile, stream)
    else:
        nans = move_rows(src, src_ld, R, C, dst, dst_ld, bR, bC, counts, recipe.ctypes.data, tile, stream)
    fence()
    return nans if mode != 0 else 0
