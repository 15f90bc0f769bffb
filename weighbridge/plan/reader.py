"""Fragments of a source as QTensors over mapped files."""

from __future__ import annotations

import mmap
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import CONTAINER, QTensor
from weighbridge.errors import Problem, Refused, WeighbridgeError
from weighbridge.plan.bind import Bound, Source
from weighbridge.plan.cover import Fragment

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
        from weighbridge.convert.wholes import Wholes

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
        size = BITS[tensor.dtype] // 8
        return raw.copy() if size > 1 and raw.size and raw.ctypes.data % size else raw

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
        """Scales that are NaN, infinite, zero or negative, with the first place of each tensor."""
        listed = [b for b in self.source.bound if b.scale is not None]
        if sum(b.scale.nbytes for b in listed) > SCALE_LIMIT:  # type: ignore[union-attr]
            return []
        problems = []
        for bound in listed:
            values = scale_values(self.bytes_of(bound.scale), bound.scale.dtype)  # type: ignore[arg-type, union-attr]
            # NaN fails both comparisons. Padding of a stored grid is zero by right: `_bad_scale` looks closer.
            if not (values.min(initial=1) > 0 and values.max(initial=1) < np.inf):
                problems += _bad_scale(bound, values)
        return problems


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
