"""Tables of jobs (see kernels/jobs.py) for matrices that lie in rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from weighbridge.encoding.qtensor import QTensor
from weighbridge.encoding.scheme import plain
from weighbridge.engine import kernels
from weighbridge.engine.kernels import jobs as fields
from weighbridge.errors import WeighbridgeError

KINDS = {"F8_E4M3": fields.F8, "BF16": fields.BF16, "F32": fields.F32}
TASK = 1 << 17  # bytes of codes that one task reads
LINE = 64  # bytes of a cache line: a vector that crosses none is read in one go
WIDE = 1536  # rows of a task of a turned rectangle: long runs of each stored row
Part = tuple[int, int, QTensor]


def make_jobs(parts: Sequence[Part]) -> np.ndarray:
    """int64 [jobs, FIELDS], whose X, DEALT and Y are still byte offsets into the vectors.

    A rectangle that others overlap in rows is cut, so that the jobs of a band have the same rows.
    """
    edges = sorted({edge for row, _, q in parts for edge in (row, row + q.shape[0])})
    made = []
    for top, bottom in pairwise(edges):
        inside = sorted((col, row, q) for row, col, q in parts if row <= top and bottom <= row + q.shape[0])
        band = [_job(top, col, q.cut(top - row, 0, bottom - top, q.shape[1])) for col, row, q in inside]
        if band:
            band[0][[fields.JOBS, fields.TASKS, fields.STEP]] = len(band), *_tasks(band)
            made += band
    return np.array(made, np.int64).reshape(len(made), fields.FIELDS)


def _tasks(band: list[np.ndarray]) -> tuple[int, int]:
    """Number of tasks of a band, and rows of each."""
    rows = int(band[0][fields.R])
    width = sum(int(job[fields.C]) * itemsize(job) for job in band)
    step = max(8, TASK // max(1, width) // 8 * 8)
    if any(job[fields.TURNED] for job in band):
        step = max(step, WIDE)
    step = min(step, fields.LONGEST, max(1, rows))
    return -(-rows // step), step


def itemsize(job: np.ndarray) -> int:
    return (1, 2, 4)[int(job[fields.KIND])]


def _job(row: int, col: int, q: QTensor) -> np.ndarray:
    job = np.zeros(fields.FIELDS, np.int64)
    turned, ld = order(q.codes_RC)
    kind = KINDS[q.encoding.dtype]
    for name, value in ((fields.KIND, kind), (fields.TURNED, turned), (fields.CODES, q.codes_RC.ctypes.data), (fields.LD, ld), (fields.R, q.shape[0]),
                        (fields.C, q.shape[1]), (fields.X, 4 * col), (fields.Y, 4 * row)):
        job[name] = value
    if kind == fields.F8:
        scale, (high, wide) = q.scale_RbCb, q.encoding.block
        strides = [stride // 4 for stride in scale.strides]
        job[fields.SCALE : fields.BC + 1] = scale.ctypes.data, *strides, *q.origin, high, wide
        one_scale = (q.origin[1] % fields.F8_STEP == 0 and wide % fields.F8_STEP == 0) or q.origin[1] + q.shape[1] <= wide
        job[fields.DEALT] = 4 * col if one_scale and col % 32 == 0 and q.shape[1] <= fields.WIDEST and not turned else -1
    return job


def order(codes: np.ndarray) -> tuple[bool, int]:
    """(turned, elements from one stored row to the next)."""
    (down, right), size = codes.strides, codes.itemsize
    if right == size or codes.shape[1] == 1:
        return False, down // size
    return True, right // size


def usable(q: QTensor) -> QTensor:
    """The same rectangle as the kernels can read it; copied only if no axis of it is dense, it is F16, or its scales are not float32."""
    if q.encoding.dtype == "F16":  # no kernel reads it: it is widened, exactly, once
        q = QTensor(q.decode(), None, plain("F32"))
    if q.encoding.dtype not in KINDS or (q.encoding.dtype == "F8_E4M3") != (q.scale_RbCb is not None):
        scales = "without scales" if q.scale_RbCb is None else "with scales"
        raise WeighbridgeError("encoding", f"{q.encoding.dtype} {scales} cannot be multiplied", "matrix",
                               "FP8 needs scales; BF16 and F32 have none; convert the checkpoint first")
    codes, scale, size = q.codes_RC, q.scale_RbCb, q.codes_RC.itemsize
    if scale is not None:
        needed = tuple(-(-(corner + extent) // block) for corner, extent, block in zip(q.origin, q.shape, q.encoding.block))
        if scale.ndim != 2 or any(have < need for have, need in zip(scale.shape, needed)):
            raise WeighbridgeError("scale-grid", f"{list(q.shape)} from {list(q.origin)} in blocks of {list(q.encoding.block)} "
                                   f"needs scales {list(needed)}, there are {list(scale.shape)}", "matrix",
                                   "weight and scales do not belong together; download both again")
    dense = any(codes.strides[axis] == size or codes.shape[axis] == 1 for axis in (0, 1)) and all(stride % size == 0 for stride in codes.strides)
    if not dense:
        codes = np.ascontiguousarray(codes)
    if scale is not None and (scale.dtype != np.float32 or any(stride % 4 for stride in scale.strides)):
        scale = np.ascontiguousarray(scale, np.float32)
    return QTensor(codes, scale, q.encoding, q.origin)


class Vectors:
    """float32 [T, K] as the kernels take it. `scaled`: some job has FP8 codes."""

    def __init__(self, x_TK: np.ndarray, scaled: bool) -> None:
        self.x, self.address, self.width = x_TK, address(x_TK), x_TK.shape[1]
        self.scaled, self.dealt, self.powers = self.address, 0, 0
        if scaled:
            self._kept = np.empty(2 * x_TK.nbytes + 4 * len(x_TK) + LINE, np.uint8)
            self.dealt = -(-address(self._kept) // LINE) * LINE
            self.scaled, self.powers = self.dealt + x_TK.nbytes, self.dealt + 2 * x_TK.nbytes
            kernels.load("prepare")(self.address, *x_TK.shape, self.scaled, self.dealt, self.powers)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Table:
    """The jobs of one or more matrices of equal shape, to be aimed at vectors and a place for the result."""

    def __init__(self, jobs: np.ndarray) -> None:
        self.jobs, self.f8, self.dealt = jobs, (jobs[:, fields.KIND] == fields.F8).astype(np.int64), (jobs[:, fields.DEALT] >= 0).astype(np.int64)
        self.scaled = bool(self.f8.any())

    @staticmethod
    def join(tables: Sequence[Table]) -> Table:
        joined = Table.__new__(Table)
        for name in ("jobs", "f8", "dealt"):
            setattr(joined, name, np.concatenate([getattr(table, name) for table in tables]))
        joined.scaled = any(table.scaled for table in tables)
        return joined

    def aimed(self, vectors: Vectors, out: np.ndarray, first=0, count=None, shared: bool = False) -> np.ndarray:
        """Jobs that multiply vectors first to first + count and put row t of the result at out[t], float32 with dense rows.

        `first` and `count` can be arrays with one number per job. `shared`: they tell of `out` alone, and there is one vector, for all jobs.
        """
        source = 0 if shared else first
        jobs, start = self.jobs.copy(), 4 * vectors.width * source
        jobs[:, fields.DEALT] = (jobs[:, fields.DEALT] + (vectors.dealt + start)) * self.dealt
        jobs[:, fields.X] += (vectors.scaled - vectors.address) * self.f8 + (vectors.address + start)
        jobs[:, fields.POWERS] = (vectors.powers + 4 * source) * self.f8
        jobs[:, fields.Y] += address(out) + out.strides[0] * first
        jobs[:, fields.X_LD], jobs[:, fields.Y_LD] = vectors.width, out.strides[0] // 4
        jobs[:, fields.T] = len(vectors.x) if count is None else count
        return jobs
