"""Many vectors at once: a panel of the matrix is decoded to float32, and the BLAS multiplies it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from weighbridge.encoding import codec
from weighbridge.encoding import kernels as codec_kernels
from weighbridge.encoding.qtensor import QTensor
from weighbridge.engine.table import Part, order
from weighbridge.engine.team import threads, together

PANEL = 4 << 20  # bytes of float32 that are decoded at a time: the last cache keeps them until they are used
INFINITE = 0x78  # the first code that the e4m3 reading does not take as a number
_own = threading.local()


def multiply(parts: Sequence[Part], x_TK: np.ndarray, out_TN: np.ndarray, reads: str) -> None:
    """out = x @ W.T of a matrix that lies in rectangles (row, column, QTensor)."""
    out_TN[:] = 0
    for row, col, q in parts:
        turned = order(q.codes_RC)[0]
        stored = q.T if turned else q
        rows, cols = stored.shape
        step = max(1, PANEL // 4 // max(1, cols))
        for start in range(0, rows, step):
            panel = stored.cut(start, 0, min(step, rows - start), cols)
            high = panel.shape[0]
            values = decode(panel, _scratch(panel.shape), reads)
            if turned:
                out_TN[:, row : row + cols] += x_TK[:, col + start : col + start + high] @ values
            else:
                out_TN[:, row + start : row + start + high] += x_TK[:, col : col + cols] @ values.T


def decode(panel: QTensor, out: np.ndarray, reads: str) -> np.ndarray:
    """The values of a panel with dense rows, float32, in `out` or where they are."""
    codes = panel.codes_RC
    if panel.encoding.dtype == "F32":
        return codes
    if panel.scale_RbCb is not None and reads == "e4m3" and int((codes & 0x7F).max(initial=0)) >= INFINITE:
        out[:] = codec.decode(codes, panel.scale_RbCb, panel.encoding.block, reads, panel.origin)
        return out
    step = -(-len(codes) // threads())
    together(lambda start: _decode_rows(panel.cut(start, 0, min(step, len(codes) - start), codes.shape[1]), out[start : start + step]),
          range(0, len(codes), step))
    return out


def _decode_rows(q: QTensor, out: np.ndarray) -> None:
    codes, scale = q.codes_RC, q.scale_RbCb
    if scale is None:
        np.left_shift(codes, 16, out=out.view(np.uint32), dtype=np.uint32)
        return
    scale = np.ascontiguousarray(scale)
    codec_kernels.decode_f32(codes.ctypes.data, codes.strides[0], *codes.shape, scale.ctypes.data, scale.shape[1], *q.origin, *q.encoding.block,
                             out.ctypes.data, out.shape[1])


def _scratch(shape: tuple[int, int]) -> np.ndarray:
    """Memory of this thread, kept from one panel to the next."""
    size = shape[0] * shape[1]
    if getattr(_own, "memory", np.empty(0)).size < size:
        _own.memory = np.empty(size, np.float32)
    return _own.memory[:size].reshape(shape)
