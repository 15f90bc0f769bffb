"""Many vectors at once: a panel of the matrix is decoded to float32, and the BLAS multiplies it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from weighbridge.encoding import codec
from weighbridge.encoding import kernels as codec_kernels
from weighbridge.engine.rectangle import Rectangle
from weighbridge.engine import blas
from weighbridge.engine.table import Part, order
from weighbridge.engine.team import threads, together

BAND = 256  # columns of the result that one thread makes at a time; fixed, so that threads do not change sums
PANEL = 2 << 20  # bytes of float32 that a thread decodes at a time: the caches keep them until they are used
INFINITE = 0x78  # the first code that the e4m3 reading does not take as a number
_own = threading.local()


def multiply(parts: Sequence[Part], x_TK: np.ndarray, out_TN: np.ndarray, reads: str) -> None:
    """out = x @ W.T of a matrix that lies in rectangles (row, column, Rectangle)."""
    bands = range(0, out_TN.shape[1], BAND)
    workers = min(threads(), len(bands)) if blas.can_be_single() else 1  # another BLAS has threads of its own

    def some(worker: int) -> None:
        for start in bands[worker::workers]:
            _band(parts, x_TK, start, out_TN[:, start : start + BAND], reads)

    if workers == 1 and threads() > 1:
        some(0)
        return
    with blas.single():
        together(some, range(workers))


def _band(parts: Sequence[Part], x_TK: np.ndarray, start: int, out_TB: np.ndarray, reads: str) -> None:
    """The columns of the result from `start` on, panel by panel."""
    out_TB[:] = 0
    stop = start + out_TB.shape[1]
    for row, col, q in parts:
        top, bottom = max(start, row), min(stop, row + q.shape[0])
        step = max(1, PANEL // 4 // BAND)
        for left in range(0, q.shape[1], step) if top < bottom else ():
            panel = q.cut(top - row, left, bottom - top, min(step, q.shape[1] - left))
            x = x_TK[:, col + left : col + left + panel.shape[1]]
            turned = order(q.codes_RC)[0]
            values = decode(panel.T if turned else panel, reads)
            with np.errstate(invalid="ignore", over="ignore"):  # a weight that is NaN or infinite shows in the result
                out_TB[:, top - start : bottom - start] += x @ (values if turned else values.T)


def decode(panel: Rectangle, reads: str) -> np.ndarray:
    """The values of a panel with dense rows, float32, in memory of this thread or where they are."""
    codes, scale = panel.codes_RC, panel.scale_RbCb
    if panel.dtype == "F32":
        return codes
    if scale is not None and reads == "e4m3" and int((codes & 0x7F).max(initial=0)) >= INFINITE:
        return codec.decode(codes, scale, panel.block, reads, panel.origin)
    out = _scratch(codes.shape)
    if scale is None:
        np.left_shift(codes, 16, out=out.view(np.uint32), dtype=np.uint32)
        return out
    scale = np.ascontiguousarray(scale)
    codec_kernels.decode_f32(codes.ctypes.data, codes.strides[0], *codes.shape, scale.ctypes.data, scale.shape[1], *panel.origin,
                             *panel.block, out.ctypes.data, out.shape[1])
    return out


def _scratch(shape: tuple[int, int]) -> np.ndarray:
    """Memory of this thread, kept from one panel to the next."""
    size = shape[0] * shape[1]
    if getattr(_own, "memory", np.empty(0)).size < size:
        _own.memory = np.empty(size, np.float32)
    return _own.memory[:size].reshape(shape)
