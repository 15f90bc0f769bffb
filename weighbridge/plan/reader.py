"""Fragments of a source as QTensors over mapped files."""

from __future__ import annotations

import mmap
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import Problem, Refused, WeighbridgeError
from weighbridge.formats import codec
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Field, Role
from weighbridge.formats.stored import read
from weighbridge.plan.cover import Fragment
from weighbridge.plan.source import Bound, Source
from weighbridge.plan.wholes import Wholes

SCALE_LIMIT = 1 << 30  # bytes of scales that are looked at before a conversion starts


class Reader:
    """Maps each file once; nothing is copied until a kernel reads it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.maps: dict[str, np.ndarray] = {}

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        """The stored bytes of a tensor, as a read-only view."""
        whole = self.maps.get(tensor.file)
        if whole is None:
            whole = self.maps[tensor.file] = self._map(tensor.file)
        return whole[tensor.start : tensor.start + tensor.nbytes]

    def _map(self, file: str) -> np.ndarray:
        path = self.require_local(file)
        try:
            with open(path, "rb") as handle:
                return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except OSError as error:
            raise WeighbridgeError("io", f"cannot be mapped: {error.strerror}", str(path)) from error

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
        return Wholes(self.source, self.rect)

    def matrix(self, bound: Bound, lead: int = 0) -> QTensor:
        """One matrix of a stored tensor (number `lead` of a stack) with its scales."""
        return self.rows(bound, lead, 0, bound.stored.placement.rows)

    def rows(self, bound: Bound, lead: int, start: int, stop: int) -> QTensor:
        """Rows [start, stop) of a matrix, in stored axes, with the scales of the blocks that they touch."""
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
        raw = self.bytes_of(tensor)
        placed = bound.stored.placement
        if placed.lead > 1 and field.weighs and tensor.nbytes == field.nbytes(placed.shape):
            share = tensor.nbytes // placed.lead
            raw = raw[lead * share : (lead + 1) * share]
        if bound.stored.scale_slots and field.role is Role.SCALE:
            raw = np.ascontiguousarray(raw.reshape(placed.rows, -1, BITS[tensor.dtype] // 8)[:, list(bound.stored.scale_slots)])
        return self._aligned(raw, tensor)

    def rect(self, fragment: Fragment, row: int, col: int, rows: int, cols: int) -> QTensor:
        """A logical rectangle inside `fragment`, turned to the logical axes [out, in]."""
        bound = self.source.bound[fragment.source]
        down, right = row - fragment.lrow, col - fragment.lcol
        if fragment.turned:
            top = fragment.row + right
            return self.rows(bound, fragment.lead, top, top + cols).cut(0, fragment.col + down, cols, rows).T
        top = fragment.row + down
        return self.rows(bound, fragment.lead, top, top + rows).cut(0, fragment.col + right, rows, cols)

    def scale_problems(self) -> list[Problem]:
        """Scales that are NaN, infinite or zero (negative, too, where the format has no negative ones), with the first place of each tensor."""
        listed = [b for b in self.source.bound if b.scale is not None]
        if sum(b.scale.nbytes for b in listed) > SCALE_LIMIT:  # type: ignore[union-attr]
            return []
        problems = []
        for bound in listed:
            for field in bound.encoding.stored_fields:
                if field.role in (Role.SCALE, Role.DIVISOR):
                    problems += self._bad_values(bound, field)
        return problems

    def _bad_values(self, bound: Bound, field: Field) -> list[Problem]:
        tensor = bound.tensor(field)
        assert tensor is not None
        values = codec.look(field, self._aligned(self.bytes_of(tensor), tensor), (1, tensor.nbytes * 8 // BITS[tensor.dtype]))
        signed = bound.encoding.zero is not None or bound.encoding.element.startswith(("int", "uint"))
        low = np.abs(values) if signed else values
        # NaN fails both comparisons. Padding of a stored grid is zero by right: `_bad_scale` looks closer.
        if low.min(initial=1) > 0 and values.max(initial=1) < np.inf:
            return []
        return _bad_scale(bound, tensor, low)

    @staticmethod
    def _aligned(raw: np.ndarray, tensor: Tensor) -> np.ndarray:
        size = BITS[tensor.dtype] // 8
        return raw.copy() if size > 1 and raw.size and raw.ctypes.data % size else raw


def _bad_scale(bound: Bound, tensor: Tensor, values: np.ndarray) -> list[Problem]:
    width = tensor.shape[-1] if tensor.shape else 1
    grid = values.reshape(-1, width)
    bad = ~(grid > 0) | ~np.isfinite(grid)
    if bound.stored.scale_slots or len(bound.stored.placement.parts) > 1 or bound.stored.placement.stacked:
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
