"""Real values of QTensors in float32, by the fastest kernel that there is for them, and the buffers of one thread."""

from __future__ import annotations

import numpy as np

from weighbridge.encoding import codec as fp8
from weighbridge.encoding import kernels
from weighbridge.formats import fast
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Role


class Scratch:
    """Buffers of one thread, grown once and used again."""

    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        buffer = self.buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self.buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


def address(array: np.ndarray) -> tuple[int, int]:
    """Where a row-major view begins, and its row stride in elements."""
    return array.ctypes.data, array.strides[0] // array.itemsize


def single_grid(q: QTensor) -> tuple[np.ndarray, tuple[int, int]] | None:
    """(scales float32, their block in values) of FP8 codes under one multiplier each: what the kernels for FP8 read. None for anything else."""
    if q.encoding.element not in ("e4m3fn", "e4m3") or len(q.grids) != 1 or q.grids[0].field.role is not Role.SCALE:
        return None
    grid = q.grids[0]
    high, wide = grid.field.block
    return np.ascontiguousarray(grid.values), (high or 1 << 40, wide or 1 << 40)


def values(q: QTensor, out: np.ndarray, scratch: Scratch) -> int:
    """Real values of `q` into the float32 region `out`; returns the number of values that are NaN or infinite where codes can be."""
    if not q.encoding.quantized:
        out[...] = fp8.from_bf16(q.codes_RC) if q.encoding.dtype == "BF16" else q.codes_RC
        return 0
    scaled = single_grid(q)
    if scaled is None:
        return _by_table(q, out)
    q = row_major(q, scratch)
    grid, block = scaled
    src, src_ld = address(q.codes_RC)
    dst, dst_ld = address(out)
    nans = kernels.decode_f32(src, src_ld, *q.shape, grid.ctypes.data, grid.shape[1], *q.origin, *block, dst, dst_ld)
    if q.encoding.element == "e4m3" and (above := above_240(q)).any():
        out[above] = np.where(q.codes_RC[above] & 0x80, -np.inf, np.inf)  # what the device makes of these bytes
    return nans


def _by_table(q: QTensor, out: np.ndarray) -> int:
    fast.decode(q, "F32", out)
    return 0 if np.isfinite(out).all() else int(np.count_nonzero(~np.isfinite(out)))


def above_240(q: QTensor) -> np.ndarray:
    """Which codes mean infinity or NaN to a reader of Neuron's E4M3: 0x78 and above, and their negatives."""
    return (q.codes_RC & 0x7F) >= 0x78


def row_major(q: QTensor, scratch: Scratch) -> QTensor:
    """`q` with its codes in rows, through scratch where they are turned."""
    if q.codes_RC.strides[1] == q.codes_RC.itemsize:
        return q
    turned = scratch.array("turned", q.shape, q.codes_RC.dtype.type)
    if q.codes_RC.itemsize == 1:
        src, src_ld = address(q.codes_RC.T)
        dst, dst_ld = address(turned)
        kernels.move(src, src_ld, *q.codes_RC.T.shape, dst, dst_ld, True, kernels.COPY, 1, 1, 0)
    else:
        np.copyto(turned, q.codes_RC)
    return QTensor(turned, q.encoding, q.grids, q.origin)
