"""Weights read by position into memory of the process, where mapped pages would count against its limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import CONTAINER, QTensor
from weighbridge.encoding.scheme import FLOATS
from weighbridge.errors import WeighbridgeError
from weighbridge.plan.bind import Bound, Source
from weighbridge.plan.cover import Fragment
from weighbridge.plan.reader import Reader, scale_values


class Positional(Reader):
    """A reader that maps nothing. `bytes_read` counts what came from files; reads may come from several threads."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.handles: dict[str, int] = {}
        self.bytes_read = 0
        self._lock = threading.Lock()

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        return self.part(tensor, 0, tensor.nbytes)

    def part(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        """`size` bytes from `start` of a stored tensor, in memory of their own."""
        return self.read(tensor, start, np.empty(size, np.uint8))

    def read(self, tensor: Tensor, start: int, into: np.ndarray) -> np.ndarray:
        """Fill `into` (uint8) with the bytes from `start` of a stored tensor."""
        handle, view, done = self._handle(tensor.file), memoryview(into), 0
        while done < len(view):
            try:
                got = os.preadv(handle, [view[done:]], tensor.start + start + done)
            except OSError as error:
                raise WeighbridgeError("io", f"cannot be read: {error.strerror}", tensor.file) from error
            if not got:
                raise WeighbridgeError("io", f"ends {len(view) - done:,} bytes before {tensor.name} does", tensor.file,
                                       "the file was cut while it was read")
            done += got
        with self._lock:
            self.bytes_read += done
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

    def _handle(self, file: str) -> int:
        with self._lock:
            if file not in self.handles:
                path = self.require_local(file)
                try:
                    self.handles[file] = os.open(path, os.O_RDONLY)
                except OSError as error:
                    raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(path)) from error
            return self.handles[file]

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # `close` is bound early: at the end of the interpreter the module may be gone.
        for handle in self.handles.values():
            close(handle)


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
        return all(not f.turned and source.bound[f.source].encoding.dtype in FLOATS for f in found)
