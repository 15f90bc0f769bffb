"""Fragments of a source as QTensors over mapped files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.header import Tensor
from weighbridge.checkpoint.identity import state
from weighbridge.errors import Problem, Refused, WeighbridgeError
from weighbridge.formats import codec
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Field, Role
from weighbridge.formats.fast import read
from weighbridge.plan.cover import Fragment
from weighbridge.plan.guard import Guard
from weighbridge.plan.mapping import MappedFile
from weighbridge.layouts.source import Bound, Source
from weighbridge.plan.wholes import Wholes

CHUNK = 8 << 20  # bytes of scales that are read together
SMALL = 1 << 14  # bytes: vectors and single scales; mapping reads more around them


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

    def span(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        """`size` bytes from `start` of a stored tensor: mapped, or read by position where they are few."""
        return self.part(tensor, start, size) if size <= SMALL else self.bytes_of(tensor)[start : start + size]

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

    @cached_property
    def wholes(self) -> Wholes:
        """What is known of whole weights."""
        return Wholes(self.source)

    def matrix(self, bound: Bound, lead: int = 0) -> QTensor:
        """One matrix of a stored tensor (number `lead` of a stack) with its scales."""
        return self.rows(bound, lead, 0, bound.stored.placement.rows)

    def rows(self, bound: Bound, lead: int, start: int, stop: int) -> QTensor:
        """Rows [start, stop) of a matrix, in stored axes, with the scales of the blocks that they touch."""
        self._stop_early()
        placed = bound.stored.placement
        try:
            return read(bound.encoding, (placed.rows, placed.cols), lambda suffix: self.field_bytes(bound, suffix, lead), (start, stop))
        except ValueError as error:
            raise WeighbridgeError("encoding", str(error), f"{bound.weight.file}: {bound.weight.name}", "weighbridge inspect SRC shows its headers") from error

    def field_bytes(self, bound: Bound, suffix: str, lead: int) -> np.ndarray | None:
        """All bytes of one field of one matrix; None where the file has none."""
        field = next(f for f in bound.encoding.stored_fields if f.suffix == suffix)
        tensor = bound.tensor(field)
        if tensor is None:
            return None
        placed, share = bound.stored.placement, tensor.nbytes
        if placed.lead > 1 and tensor.nbytes == field.nbytes(placed.shape):
            share //= placed.lead
        raw = self.span(tensor, lead * share if share < tensor.nbytes else 0, share)
        if bound.stored.scale_slots and field.role is Role.SCALE:
            raw = np.ascontiguousarray(raw.reshape(placed.rows, -1, BITS[tensor.dtype] // 8)[:, list(bound.stored.scale_slots)])
        return _aligned(raw, tensor)

    def rect(self, fragment: Fragment, row: int, col: int, rows: int, cols: int) -> QTensor:
        """A logical rectangle inside `fragment`, turned to the logical axes [out, in]."""
        bound = self.source.bound[fragment.source]
        down, right = row - fragment.lrow, col - fragment.lcol
        if fragment.turned:
            top = fragment.row + right
            return self.rows(bound, fragment.lead, top, top + cols).cut(0, fragment.col + down, cols, rows).T
        top = fragment.row + down
        return self.rows(bound, fragment.lead, top, top + rows).cut(0, fragment.col + right, rows, cols)

    def scales(self, listed: Iterable[tuple[Bound, Field]]) -> Iterator[tuple[list[tuple[Bound, Field]], np.ndarray]]:
        """Fields of `listed` weights, read once: tensors that follow each other in a file, with all their bytes, one behind the other."""
        due = sorted(((b.tensor(f), (b, f)) for b, f in listed), key=lambda pair: (pair[0].file, pair[0].start))  # type: ignore[union-attr]
        for group in _runs([(tensor, pair) for tensor, pair in due if tensor is not None]):
            first = group[0][0]
            size = sum(tensor.nbytes for tensor, _ in group)
            yield [pair for _, pair in group], self.part(first, 0, size) if size <= CHUNK else self.bytes_of(first)

    def scale_problems(self) -> list[Problem]:
        """Scales that are NaN, infinite or zero (negative, too, where codes have a sign of their own), with the first place of each tensor."""
        found: dict[int, list[Problem]] = {}
        listed = [(b, f) for b in self.source.bound if b.encoding.quantized for f in b.encoding.stored_fields
                  if f.role in (Role.SCALE, Role.DIVISOR) and b.tensor(f) is not None and not any(i.role is Role.OFFSET for i in f.inner)]
        with self.unchanged():
            for group, raw in self.scales(listed):
                if _all_good(group, raw):
                    continue
                start = 0
                for bound, field in group:
                    tensor = bound.tensor(field)
                    assert tensor is not None
                    found.setdefault(id(bound), []).extend(_bad_values(bound, field, tensor, raw[start : start + tensor.nbytes]))
                    start += tensor.nbytes
        return [problem for bound in self.source.bound for problem in found.get(id(bound), ())]


Run = list[tuple[Tensor, tuple[Bound, Field]]]


def _runs(due: Run) -> Iterator[Run]:
    """Tensors in the order of the files, cut where there is a gap, another kind of value, or more than CHUNK bytes."""
    group: Run = []
    for own, pair in due:
        first, last = (group[0][0], group[-1][0]) if group else (own, None)
        same = not group or (own.dtype, pair[1].element) == (group[0][0].dtype, group[0][1][1].element)
        if last is None or not same or own.file != last.file or own.start != last.start + last.nbytes or own.start + own.nbytes > first.start + CHUNK:
            if group:
                yield group
            group = []
        group.append((own, pair))
    if group:
        yield group


def _aligned(raw: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Bytes where values of their dtype can be read; a copy only where the file has them at an odd place."""
    size = BITS[tensor.dtype] // 8
    return raw.copy() if size > 1 and raw.size and raw.ctypes.data % size else raw


def field_values(field: Field, tensor: Tensor, raw: np.ndarray) -> np.ndarray:
    """The values that stored bytes of a field stand for, float32 [1, n], without its inner fields."""
    return codec.look(field, _aligned(raw, tensor), (1, len(raw) * 8 // BITS[tensor.dtype]))


def _all_good(group: list[tuple[Bound, Field]], raw: np.ndarray) -> bool:
    """Whether every value of a run is finite and positive: nearly always, so it is asked first. NaN fails both comparisons."""
    bound, field = group[0]
    tensor = bound.tensor(field)
    assert tensor is not None
    values = field_values(field, tensor, raw)
    return bool(values.min(initial=1) > 0 and values.max(initial=1) < np.inf)


def _bad_values(bound: Bound, field: Field, tensor: Tensor, raw: np.ndarray) -> list[Problem]:
    values = field_values(field, tensor, raw)
    low = np.abs(values) if ELEMENTS[bound.encoding.element].kind in ("int", "offset") else values
    # NaN fails both comparisons. Padding of a stored grid is zero by right: `_bad_scale` looks closer.
    if low.min(initial=1) > 0 and values.max(initial=1) < np.inf:
        return []
    return _bad_scale(bound, tensor, low)


def _bad_scale(bound: Bound, tensor: Tensor, values: np.ndarray) -> list[Problem]:
    width = tensor.shape[-1] if tensor.shape else 1
    grid = values.reshape(-1, width)
    bad = ~(grid > 0) | ~np.isfinite(grid)
    placed = bound.stored.placement
    if bound.stored.scale_slots or sum(p.rows * p.cols for p in placed.parts) < placed.lead * placed.rows * placed.cols:
        grid, bad = _real_cells(bound, grid, bad)
    if not bad.any():
        return []
    row, col = (int(i) for i in np.argwhere(bad)[0])
    value = float(grid[row, col])
    kind = "nan" if np.isnan(value) else "infinite" if np.isinf(value) else "zero" if value == 0 else "negative"
    return [Problem(f"scale-{kind}", f"{int(bad.sum()):,} of {grid.size:,} scales are not finite and positive; the first is {value} "
                    f"at [{row}, {col}]", f"{tensor.file}: {tensor.name}",
                    "the block cannot be decoded: look whether the file is whole, or quantize again")]


def _real_cells(bound: Bound, grid: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a flat grid that belong to real blocks, not to padding."""
    placed, block = bound.stored.placement, bound.encoding.block
    assert block is not None
    if bound.stored.scale_slots:
        grid, bad = (a[:, list(bound.stored.scale_slots)] for a in (grid, bad))
    high, wide = block[0] or placed.rows, block[1] or placed.cols
    rows = grid.shape[0] // placed.lead
    if (rows, grid.shape[1]) != (-(-placed.rows // high), -(-placed.cols // wide)):
        return grid, bad  # an inner scale, or one for the whole stack
    used = np.zeros(grid.shape, bool)
    for part in placed.parts:
        top, down = part.at_row // high, -(-(part.at_row + part.extent[0]) // high)
        left, right = part.at_col // wide, -(-(part.at_col + part.extent[1]) // wide)
        used[part.lead * rows + top : part.lead * rows + down, left:right] = True
    return grid, bad & used


R = TypeVar("R", bound=Reader)


def require_scales(source: Source, kind: type[R] = Reader) -> R:  # type: ignore[assignment]
    """A reader of `source` (of the class `kind`), after its scales have been looked at. Its weights must be on this machine."""
    reader = kind(source)
    reader.require_local()
    problems = reader.scale_problems()
    if problems:
        raise Refused(problems)
    return reader
