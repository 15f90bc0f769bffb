"""Weights read by position into memory of the process, where mapped pages would count against its limit."""

from __future__ import annotations

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import CONTAINER, QTensor
from weighbridge.plan.bind import Bound, Source
from weighbridge.plan.cover import Fragment
from weighbridge.plan.reader import Reader, scale_values


class Positional(Reader):
    """A reader that maps nothing. `bytes_read` counts what came from files; reads may come from several threads."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.bytes_read = 0

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        return self.part(tensor, 0, tensor.nbytes)

    def read(self, tensor: Tensor, start: int, into: np.ndarray) -> np.ndarray:
        super().read(tensor, start, into)
        with self.lock:
            self.bytes_read += len(into)
        return into

    def matrix(self, bound: Bound, lead: int = 0) -> QTensor:
        placed, encoding = bound.stored.placement, bound.encoding
        size = placed.rows * placed.cols * encoding.itemsize
        codes = self.part(bound.weight, lead * size, size).view(CONTAINER[encoding.dtype]).reshape(placed.rows, placed.cols)
        return QTensor(codes, self._scale(bound, lead), encoding)

    def _scale(self, bound: Bound, lead: int) -> np.ndarray | None:
        if bound.scale is None:
            return None
        *_, rows, cols = bound.scale.shape
        size = rows * cols * bound.encoding.scale_itemsize
        grid = scale_values(self.part(bound.scale, lead * size, size), bound.scale.dtype).reshape(rows, cols)
        return grid[:, list(bound.stored.scale_slots)] if bound.stored.scale_slots else grid


class Rows:
    """The rows of an embedding, read one by one. It stands where a `Linear` would, for `rows` alone."""

    def __init__(self, reader: Positional, found: list[Fragment], shape: tuple[int, int]) -> None:
        self.reader, self.found, self.shape = reader, found, shape
        self.nbytes = 0

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """float32 [len(ids), K]."""
        out = np.empty((len(ids), self.shape[1]), np.float32)
        for f in self.found:
            for place in np.flatnonzero((ids >= f.lrow) & (ids < f.lrow + f.lrows)):
                out[place, f.lcol : f.lcol + f.lcols] = self._row(f, int(ids[place]) - f.lrow)
        return out

    def _row(self, f: Fragment, row: int) -> np.ndarray:
        bound = self.reader.source.bound[f.source]
        placed, size = bound.stored.placement, bound.encoding.itemsize
        start = ((f.lead * placed.rows + f.row + row) * placed.cols + f.col) * size
        raw = self.reader.part(bound.weight, start, f.lcols * size).view(CONTAINER[bound.encoding.dtype])
        return codec.from_bf16(raw) if bound.encoding.dtype == "BF16" else raw

    @staticmethod
    def can(source: Source, found: list[Fragment]) -> bool:
        """Whether the rows lie as rows, in plain numbers."""
        return all(not f.turned and source.bound[f.source].encoding.dtype in ("BF16", "F32") for f in found)
