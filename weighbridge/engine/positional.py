"""Weights read by position into memory of the process, where mapped pages would count against its limit."""

from __future__ import annotations

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.formats import codec
from weighbridge.formats.qtensor import is_plain
from weighbridge.plan.cover import Fragment
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Source


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

    def span(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        return self.part(tensor, start, size)


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
        placed, size = bound.stored.placement, bound.encoding.bytes_of(1)
        start = ((f.lead * placed.rows + f.row + row) * placed.cols + f.col) * size
        return codec.floats(self.reader.part(bound.weight, start, f.lcols * size), bound.encoding.dtype)

    @staticmethod
    def can(source: Source, found: list[Fragment]) -> bool:
        """Whether the rows lie as rows, in plain numbers."""
        return all(not f.turned and is_plain(source.bound[f.source].encoding) for f in found)
