"""e4m3fn codes to e4m3fn codes: as they are, halved, doubled or rescaled; in place or transposed."""

import numpy as np

from ... import codec
from ..memory import inner, kernel, load_i32, load_u8, store_i32, store_u8

SIGNATURE = "int64(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)"
TILE = 64  # rows and columns of codes: source and result of a tile stay in the first cache

# [mode, code]: the new code, and whether `counts` counts it
NEW = np.stack([np.arange(256, dtype=np.uint8), codec.HALVE, codec.DOUBLE, codec.LEGACY])
_ALL = np.arange(256, dtype=np.uint8)
COUNTED = np.stack([_ALL < 0, codec.halve_is_inexact(_ALL), codec.double_overflows(_ALL), _ALL < 0])


@inner
def count_rows(src, src_ld, rows, i0, j0, columns, mode, bR, bC, counts, counts_ld):
    """Count the codes of a tile at (i0, j0) of the region into the grid of its blocks."""
    for i in range(i0, i0 + rows):
        for j in range(j0, j0 + columns):
            if COUNTED[mode, load_u8(src, i * src_ld + j)]:
                cell = (i // bR) * counts_ld + j // bC
                store_i32(counts, cell, np.int32(load_i32(counts, cell) + 1))


@inner
def clear(counts, cells):
    for cell in range(cells):
        store_i32(counts, cell, np.int32(0))


@inner
def move_tile(src, src_ld, rows, columns, dst, row_step, column_step, mode):
    """One tile; returns its NaN codes."""
    nans = 0
    for i in range(rows):
        for j in range(columns):
            code = load_u8(src, i * src_ld + j)
            nans += (code & 0x7F) == 0x7F
            store_u8(dst, i * row_step + j * column_step, NEW[mode, code])
    return nans


@inner
def copy_rows(src, src_ld, rows, columns, dst, dst_ld):
    for i in range(rows):
        for j in range(columns):
            store_u8(dst, i * dst_ld + j, load_u8(src, i * src_ld + j))


@kernel(SIGNATURE)
def move(src, src_ld, R, C, dst, dst_ld, transposed, mode, bR, bC, counts):
    counting = counts != 0 and (mode == 1 or mode == 2)
    counts_ld, nans = (C + bC - 1) // bC, 0
    if counting:
        clear(counts, (R + bR - 1) // bR * counts_ld)
    turned = np.empty((TILE, TILE), np.uint8)  # rows of dst can be far apart and share one set of the cache
    for i in range(0, R, TILE):
        for j in range(0, C, TILE):
            rows, columns, tile = min(TILE, R - i), min(TILE, C - j), src + i * src_ld + j
            if transposed:
                nans += move_tile(tile, src_ld, rows, columns, turned.ctypes.data, 1, TILE, mode)
                copy_rows(turned.ctypes.data, TILE, columns, rows, dst + j * dst_ld + i, dst_ld)
            else:
                nans += move_tile(tile, src_ld, rows, columns, dst + i * dst_ld + j, dst_ld, 1, mode)
            if counting:
                count_rows(src, src_ld, rows, i, j, columns, mode, bR, bC, counts, counts_ld)
    return nans if mode != 0 else 0
