"""e4m3fn codes to e4m3fn codes, 32 at a time; transposed by interleaving in registers.

All modes are one recipe: an addition, and below 0x10 one more from a table of 16. It is wrong for NaN and
for what doubling takes beyond 448; a run where such a code was seen is done again, code by code, so the
source and the result must not overlap.

To transpose, the codes go through a buffer in the cache, from which whole lines of the result are written.
Where the source's rows are long and begin with a line of memory, the buffer is one tile of 64 x 64. Elsewhere
tiles are slow to read, so it takes long runs of 64 rows, and is itself read by tiles.
"""

import numpy as np
from numba import types

from ..memory import inner, kernel, load_i32, load_u8, store_i32, store_u8
from ..portable.move import COUNTED, NEW, SIGNATURE, clear
from .lanes import BYTE, LONG, STREAM_FROM, fence, step

LANES = 32
WIDE = 128  # codes of a wide step
LINE, GROUP = 64, 16  # rows and columns that a transposing step turns: columns of one line each
PATCH = 3072  # columns of a patch, which has LINE rows: long runs, as memory likes them
PATCH_LD = PATCH + 64  # an odd number of lines: the rows do not compete for the same places of the cache
UNFIT = 1 << 32  # steps return how many codes they counted, plus this for a code that the recipe is wrong for
ADDRESS = types.int64

# Per mode 34 bytes: what is added to the codes of 0 to 15 beyond the addition, whether these codes are counted,
# the addition, and the largest magnitude that all this is right for.
RECIPES = np.empty((len(NEW), 34), np.uint8)
RECIPES[:, 32] = NEW[:, 16] - 16
RECIPES[:, :16] = NEW[:, :16] - np.arange(16) - RECIPES[:, 32:33]
RECIPES[:, 16:32] = COUNTED[:, :16]
_HIGH = np.arange(16, 128, dtype=np.uint8)
RECIPES[:, 33] = [_HIGH[new[16:128] == _HIGH + row[32]].max() for row, new in zip(RECIPES, NEW)]


class Recipe:
    """A recipe in registers, and what its codes have shown so far."""

    def __init__(self, code, address):
        self.code = code
        more, counted = (code.load(address, BYTE, 16, offset) for offset in (0, 16))
        self.more, self.is_counted = more.join(more), counted.join(counted)
        self.addition, self.limit = (code.load(address, BYTE, 1, at).pick([0] * LANES) for at in (32, 33))
        self.largest = self.counted = self.limit & 0

    def apply(self, codes):
        magnitude = codes & 0x7F
        index = magnitude + 0x70  # has its high bit from 0x10 on: the lookup gives 0
        self.counted += self.code.lookup(self.is_counted, index)
        self.largest = self.largest.larger(magnitude)
        return codes + self.addition + self.code.lookup(self.more, index)

    def result(self):
        unfit = self.code.builder.select(self.largest.above(self.limit).any(), LONG(UNFIT), LONG(0))
        return self.code.builder.add(self.code.total(self.counted), unfit)


@step(types.int64, ADDRESS, ADDRESS, ADDRESS)
def move_step(code, src, dst, recipe):
    """32 codes of a row."""
    recipe = Recipe(code, recipe)
    code.store(dst, recipe.apply(code.load(src, BYTE, LANES)))
    return recipe.result()


@step(types.int64, ADDRESS, ADDRESS, ADDRESS)
def wide_step(code, src, dst, recipe):
    """WIDE codes of a row."""
    recipe = Recipe(code, recipe)
    for offset in range(0, WIDE, LANES):
        code.store(dst, recipe.apply(code.load(src, BYTE, LANES, offset)), offset)
    return recipe.result()


@step(types.int64, ADDRESS, ADDRESS, ADDRESS)
def wide_stream_step(code, src, dst, recipe):
    recipe = Recipe(code, recipe)
    for offset in range(0, WIDE, LANES):
        code.stream(dst, recipe.apply(code.load(src, BYTE, LANES, offset)), offset)
    return recipe.result()


def interleaved(rows):
    """16 rows to 16 columns, in each 16 bytes of the vectors."""
    for _ in range(4):  # each round doubles the run of bytes that come from one column
        rows = [a.interleave(b, half) for a, b in zip(rows[:8], rows[8:]) for half in (0, 1)]
    return rows


def turned(code, patch):
    """LINE rows of GROUP codes to GROUP vectors of LINE codes."""
    vectors = []
    for row in range(16):
        a, b, c, d = (code.load(patch, BYTE, GROUP, (row + quarter) * PATCH_LD) for quarter in range(0, LINE, 16))
        vectors.append(a.join(b).join(c.join(d)))
    return interleaved(vectors)


@step(types.void, ADDRESS, ADDRESS, types.int64)
def turn_step(code, patch, dst, dst_ld):
    for line in turned(code, patch):
        code.store(dst, line)
        dst = code.builder.add(dst, dst_ld)


@step(types.void, ADDRESS, ADDRESS, types.int64)
def turn_stream_step(code, patch, dst, dst_ld):
    for line in turned(code, patch):
        code.stream(dst, line)
        dst = code.builder.add(dst, dst_ld)


@step(types.int64, ADDRESS, types.int64, ADDRESS, ADDRESS)
def tile_step(code, src, src_ld, tile, recipe):
    """16 rows of 32 codes to 32 rows of 16, LINE bytes apart."""
    recipe, rows = Recipe(code, recipe), []
    for _ in range(16):
        rows.append(recipe.apply(code.load(src, BYTE, LANES)))
        src = code.builder.add(src, src_ld)
    for column, lanes in enumerate(interleaved(rows)):
        code.store(tile, lanes.pick(range(16)), column * LINE)
        code.store(tile, lanes.pick(range(16, 32)), (column + 16) * LINE)
    return recipe.result()


@step(types.void, ADDRESS, ADDRESS)
def copy_line(code, src, dst):
    for offset in range(0, LINE, LANES):
        code.store(dst, code.load(src, BYTE, LANES, offset), offset)


@step(types.void, ADDRESS, ADDRESS)
def stream_line(code, src, dst):
    for offset in range(0, LINE, LANES):
        code.stream(dst, code.load(src, BYTE, LANES, offset), offset)


@inner
def copy_bytes(src, dst, n):
    for k in range(n):
        store_u8(dst, k, load_u8(src, k))


@inner
def move_codes(src, n, dst, mode):
    """One by one, by table: (NaN codes, counted codes)."""
    nans, counted = 0, 0
    for k in range(n):
        code = load_u8(src, k)
        nans += (code & 0x7F) == 0x7F
        counted += COUNTED[mode, code]
        store_u8(dst, k, NEW[mode, code])
    return nans, counted


@inner
def move_run(src, n, dst, mode, recipe, stream):
    """A run of one row: (NaN codes, counted codes)."""
    result, wide, whole = 0, n - n % WIDE, n - n % LANES
    if stream and dst % LANES == 0:
        for j in range(0, wide, WIDE):
            result += wide_stream_step(src + j, dst + j, recipe)
    else:
        for j in range(0, wide, WIDE):
            result += wide_step(src + j, dst + j, recipe)
    for j in range(wide, whole, LANES):
        result += move_step(src + j, dst + j, recipe)
    if result >= UNFIT:
        return move_codes(src, n, dst, mode)
    if whole == n:
        return 0, result
    nans, counted = move_codes(src + whole, n - whole, dst + whole, mode)
    return nans, counted + result


@inner
def move_rows(src, src_ld, i0, j0, rows, columns, dst, dst_ld, bR, bC, counts, counts_ld, mode, recipe, stream):
    """Straight, one run of columns per block. `src` and `dst` are those of element (i0, j0) of the region."""
    nans, first = 0, j0 // bC
    for i in range(rows):
        cells = (i0 + i) // bR * counts_ld + first
        j, n = 0, min(columns, (first + 1) * bC - j0)
        while j < columns:
            seen, counted = move_run(src + i * src_ld + j, n, dst + i * dst_ld + j, mode, recipe, stream)
            nans += seen
            if counts != 0:
                store_i32(counts, cells, np.int32(load_i32(counts, cells) + counted))
            j, n, cells = j + n, min(columns - j - n, bC), cells + 1
    return nans


@inner
def turn_patch(patch, rows, columns, dst, dst_ld, spare, stream):
    """A patch of `rows` x `columns` codes to its transpose."""
    whole = columns - columns % GROUP if rows == LINE else 0
    if stream and (dst | dst_ld) % LINE == 0:
        for j in range(0, whole, GROUP):
            turn_stream_step(patch + j, dst + j * dst_ld, dst_ld)
    else:
        for j in range(0, whole, GROUP):
            turn_step(patch + j, dst + j * dst_ld, dst_ld)
    for j in range(whole, columns, GROUP):
        turn_step(patch + j, spare, LINE)
        for k in range(j, min(columns, j + GROUP)):
            copy_bytes(spare + (k - j) * LINE, dst + k * dst_ld, rows)


@inner
def turn_tile(src, src_ld, tile, dst, dst_ld, recipe):
    """LINE x LINE codes from whole lines of the source. Writes nothing to `dst` if the recipe is wrong for one."""
    result = 0
    for i in range(0, LINE, 16):
        for j in range(0, LINE, LANES):
            result += tile_step(src + i * src_ld + j, src_ld, tile + j * LINE + i, recipe)
    if result < UNFIT:
        if (dst | dst_ld) % LINE == 0:  # faster for any size: lines this far apart crowd each other out of the cache
            for j in range(LINE):
                stream_line(tile + j * LINE, dst + j * dst_ld)
        else:
            for j in range(LINE):
                copy_line(tile + j * LINE, dst + j * dst_ld)
    return result


@inner
def move_turned(src, src_ld, R, C, dst, dst_ld, bR, bC, counts, counts_ld, mode, recipe, spare, stream):
    """By tiles where rows are long and begin with a line of memory, else, and at the edges, by patches."""
    nans, patch = 0, spare + LINE * GROUP
    lines = (src | src_ld) % LINE == 0 and C > PATCH
    for i in range(0, R, LINE):
        for j in range(0, C, LINE if lines else PATCH):
            rows, columns = min(LINE, R - i), min(LINE if lines else PATCH, C - j)
            code, out, cell = src + i * src_ld + j, dst + j * dst_ld + i, i // bR * counts_ld + j // bC
            if lines and rows == LINE and columns == LINE and cell == (i + 63) // bR * counts_ld + (j + 63) // bC:
                counted = turn_tile(code, src_ld, patch, out, dst_ld, recipe)
                if counted < UNFIT:
                    if counts != 0:
                        store_i32(counts, cell, np.int32(load_i32(counts, cell) + counted))
                    continue
            nans += move_rows(
                code, src_ld, i, j, rows, columns, patch, PATCH_LD, bR, bC, counts, counts_ld, mode, recipe, False,
            )  # fmt: skip
            turn_patch(patch, rows, columns, out, dst_ld, spare, stream)
    return nans


@kernel(SIGNATURE)
def move(src, src_ld, R, C, dst, dst_ld, transposed, mode, bR, bC, counts):
    buffer = np.empty(LINE * (1 + GROUP + PATCH_LD), np.uint8)
    recipe = np.empty(34, np.uint8)
    recipe[:] = RECIPES[mode]
    if mode != 1 and mode != 2:
        counts = 0
    if counts == 0:
        bR, bC = max(1, R), max(1, C)
    counts_ld = (C + bC - 1) // bC
    if counts != 0:
        clear(counts, (R + bR - 1) // bR * counts_ld)
    stream = R * C >= STREAM_FROM
    spare = (buffer.ctypes.data + LINE - 1) // LINE * LINE
    if transposed:
        nans = move_turned(
            src, src_ld, R, C, dst, dst_ld, bR, bC, counts, counts_ld, mode, recipe.ctypes.data, spare, stream,
        )  # fmt: skip
    else:
        nans = move_rows(
            src, src_ld, 0, 0, R, C, dst, dst_ld, bR, bC, counts, counts_ld, mode, recipe.ctypes.data, stream,
        )  # fmt: skip
    fence()
    # numba frees an array after its last mention, and an address is none: these two keep the memory to the end.
    buffer[0] = recipe[0] = 0
    return nans if mode != 0 else 0
