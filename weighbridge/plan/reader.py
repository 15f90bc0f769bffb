"""Fragments of a source as QTensors over mapped files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.checkpoint.identity import state
from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import CONTAINER, QTensor
from weighbridge.errors import Problem, Refused, WeighbridgeError
from weighbridge.plan.bind import Bound, Source
from weighbridge.plan.cover import Fragment
from weighbridge.plan.guard import Guard
from weighbridge.plan.mapping import MappedFile

CHUNK = 8 << 20  # bytes of scales that are read together


class Reader:
    """Maps each file once; nothing is copied until a kernel reads it.

    Maps are for weights: the kernel reads megabytes around the first byte that is touched. Scales that are looked at before, and vectors, are read
    by position, no byte more than they have. A source may be cut off or written to meanwhile: what was read is good only after `require_unchanged`.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.maps: dict[str, np.ndarray] = {}
        self.files: dict[str, MappedFile] = {}
        self.guard: Guard | None = None  # once something is mapped
        self.faults = 0
        self.used: set[str] = set()  # files of which something was read, and those since the last look at `recent`
        self.recent: set[str] = set()
        self.lock = threading.Lock()

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        """The stored bytes of a tensor, as a read-only view."""
        whole = self.maps.get(tensor.file)
        if whole is None:
            with self.lock:  # one map of a file, whose mark tells of all that was read
                whole = self.maps[tensor.file] if tensor.file in self.maps else self._map(tensor.file)
        self._note(tensor.file)
        return whole[tensor.start : tensor.start + tensor.nbytes]

    def _map(self, file: str) -> np.ndarray:
        mapped = MappedFile(self.require_local(file), partial(self.source.checkpoint.store.expect, file))
        if self.guard is None:
            self.guard, self.faults = mapped.guard, mapped.guard.faults
        self.files[file] = mapped
        whole = self.maps[file] = np.asarray(mapped)
        return whole

    def part(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        """`size` bytes from `start` of a stored tensor, read by position into memory of their own."""
        return self.read(tensor, start, np.empty(size, np.uint8))

    def read(self, tensor: Tensor, start: int, into: np.ndarray) -> np.ndarray:
        """Fill `into` (uint8) with the bytes from `start` of a stored tensor, read by position."""
        self.require_local(tensor.file)
        self.source.checkpoint.store.fill(tensor.file, [(tensor.start + start, memoryview(into))])
        self._note(tensor.file)
        return into

    def _note(self, file: str) -> None:
        self.used.add(file)
        self.recent.add(file)

    def require_unchanged(self, *, recent: bool = False) -> None:
        """Raise `source-changed` where a file is not what it was when the source was opened.

        Of all files that were read, or of those since the last such call with `recent`.
        """
        files, self.recent = self.recent, set()
        for file in sorted(files if recent else self.used):
            if file in self.files:
                self.files[file].require_unchanged()
            else:
                self.source.checkpoint.store.expect(file, state(self.require_local(file)))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """What is done under it counts only if the files stay as they are; so does an error, as bytes that are gone read as zero."""
        if self.guard is not None:
            self.guard.stand()
        try:
            yield
        except Exception:
            self.require_unchanged()
            raise
        self.require_unchanged()

    def _stop_early(self) -> None:
        """Where a page was gone since the last look: no work for results that cannot count."""
        if self.guard is not None and self.guard.faults != self.faults:
            self.faults = self.guard.faults
            self.require_unchanged()

    def require_local(self, file: str = "config.json") -> Path:
        """The path of a file, or a refusal where the source is somewhere else."""
        path = self.source.checkpoint.store.path(file)
        if path is None:
            raise WeighbridgeError("not-local", "its weights are not on this machine", self.source.checkpoint.label,
                                   "download the checkpoint first; inspect and --dry-run need only headers")
        return path

    def matrix(self, bound: Bound, lead: int = 0) -> QTensor:
        """One matrix of a stored tensor (number `lead` of a stack) with its scales."""
        self._stop_early()
        placed = bound.stored.placement
        size = placed.rows * placed.cols * bound.encoding.itemsize
        raw = self.part(bound.weight, lead * size, size) if placed.vector else self.bytes_of(bound.weight)[lead * size : (lead + 1) * size]
        codes = _view(raw, CONTAINER[bound.encoding.dtype]).reshape(placed.rows, placed.cols)
        return QTensor(codes, self._scale(bound, lead), bound.encoding)

    def _scale(self, bound: Bound, lead: int) -> np.ndarray | None:
        if bound.scale is None:
            return None
        *_, rows, cols = bound.scale.shape
        size = rows * cols * bound.encoding.scale_itemsize
        grid = scale_values(self.bytes_of(bound.scale)[lead * size : (lead + 1) * size], bound.scale.dtype).reshape(rows, cols)
        return grid[:, list(bound.stored.scale_slots)] if bound.stored.scale_slots else grid

    def rect(self, fragment: Fragment, row: int, col: int, rows: int, cols: int) -> QTensor:
        """A logical rectangle inside `fragment`, turned to the logical axes [out, in]."""
        bound = self.source.bound[fragment.source]
        q = self.matrix(bound, fragment.lead)
        down, right = row - fragment.lrow, col - fragment.lcol
        if fragment.turned:
            return q.cut(fragment.row + right, fragment.col + down, cols, rows).T
        return q.cut(fragment.row + down, fragment.col + right, rows, cols)

    def scales(self, listed: Iterable[Bound]) -> Iterator[tuple[list[Bound], np.ndarray]]:
        """The scales of `listed`, read once: tensors that follow each other in a file, with their values float32, one behind the other."""
        due = sorted((b for b in listed if b.scale is not None), key=lambda b: (b.scale.file, b.scale.start))  # type: ignore[union-attr]
        for group in _runs(due):
            first = group[0].scale
            assert first is not None
            size = sum(b.scale.nbytes for b in group)  # type: ignore[union-attr]
            raw = self.part(first, 0, size) if size <= CHUNK else self.bytes_of(first)
            yield group, scale_values(raw, first.dtype)

    def scale_problems(self) -> list[Problem]:
        """Scales that are NaN, infinite, zero or negative, with the first place of each tensor, in the order of the layout."""
        found: dict[int, list[Problem]] = {}
        with self.unchanged():
            for group, values in self.scales(self.source.bound):
                # NaN fails both comparisons. Padding of a stored grid is zero by right: `_bad_scale` looks closer.
                if values.min(initial=1) > 0 and values.max(initial=1) < np.inf:
                    continue
                ends = np.cumsum([b.scale.parameters for b in group])  # type: ignore[union-attr]
                found |= {id(b): _bad_scale(b, part) for b, part in zip(group, np.split(values, ends[:-1]), strict=True)}
        return [problem for bound in self.source.bound for problem in found.get(id(bound), ())]


def _runs(due: list[Bound]) -> Iterator[list[Bound]]:
    """Scales in the order of the files, cut where there is a gap, another dtype, or more than CHUNK bytes."""
    group: list[Bound] = []
    for bound in due:
        own, first, last = bound.scale, group[0].scale if group else None, group[-1].scale if group else None
        assert own is not None
        if first is None or last is None or own.file != last.file or own.dtype != last.dtype or own.start != last.start + last.nbytes \
                or own.start + own.nbytes > first.start + CHUNK:
            if group:
                yield group
            group = []
        group.append(bound)
    if group:
        yield group


def scale_values(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored scale bytes as aligned float32."""
    return codec.from_bf16(_view(raw, np.uint16)) if dtype == "BF16" else _view(raw, np.float32)


def _view(raw: np.ndarray, dtype: type) -> np.ndarray:
    """Bytes as another type; a copy only where the file has them at an odd place."""
    if raw.size and raw.ctypes.data % np.dtype(dtype).itemsize:
        raw = raw.copy()
    return raw.view(dtype)


def _bad_scale(bound: Bound, values: np.ndarray) -> list[Problem]:
    assert bound.scale is not None
    grid = values.reshape(prod(bound.scale.shape[:-1]), bound.scale.shape[-1])
    if bound.stored.scale_slots:
        grid = grid[:, list(bound.stored.scale_slots)]
    bad = (~(grid > 0) | ~np.isfinite(grid)) & _under_parts(bound, grid.shape)
    if not bad.any():
        return []
    row, col = (int(i) for i in np.argwhere(bad)[0])
    value = float(grid[row, col])
    kind = "nan" if np.isnan(value) else "infinite" if np.isinf(value) else "zero" if value == 0 else "negative"
    return [Problem(f"scale-{kind}", f"{int(bad.sum()):,} of {grid.size:,} scales are not finite and positive; the first is {value} "
                    f"at [{row}, {col}]", f"{bound.scale.file}: {bound.stored.scale_name}",
                    "the block cannot be decoded: download the file again, or quantize again")]


def _under_parts(bound: Bound, shape: tuple[int, int]) -> np.ndarray:
    """Which cells of the flat grid belong to a real block, not to padding."""
    placed, (high, wide) = bound.stored.placement, bound.encoding.block  # type: ignore[misc]
    rows = shape[0] // placed.lead
    used = np.zeros(shape, bool)
    for part in placed.parts:
        top, down = part.at_row // high, -(-(part.at_row + part.extent[0]) // high)
        left, right = part.at_col // wide, -(-(part.at_col + part.extent[1]) // wide)
        used[part.lead * rows + top : part.lead * rows + down, left:right] = True
    return used


R = TypeVar("R", bound=Reader)


def require_scales(source: Source, kind: type[R] = Reader) -> R:  # type: ignore[assignment]
    """A reader of `source` (of the class `kind`), after its scales have been looked at. Its weights must be on this machine."""
    reader = kind(source)
    reader.require_local()
    problems = reader.scale_problems()
    if problems:
        raise Refused(problems)
    return reader
