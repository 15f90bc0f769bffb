"""What `convert` would write from the one side, compared byte for byte with what the other side holds.

A side that says it was made from the other, by this version of the tool, must be what this version makes of it: a flipped bit that lies
within the bound of a rounding shows here. Nothing is permitted by it; without such a manifest the bounds alone judge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from weighbridge import __version__
from weighbridge.convert.apply import Scratch, scale_rows
from weighbridge.convert.fill import fill, first_scale_row, straight
from weighbridge.convert.shape import SlabPlan, file_shape, slabs
from weighbridge.encoding import kernels
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.layouts.placement import Part
from weighbridge.plan.bind import Source
from weighbridge.plan.plan import Plan, Target, make_plan
from weighbridge.plan.reader import Reader
from weighbridge.verify.hops import hop_of


class Unlike(NamedTuple):
    """A rectangle of a weight (None: padding) whose codes or scales are not what `convert` writes; `tensor` is where it lies."""

    tensor: str
    part: Part | None
    count: int
    first: str


def replay_of(first: Source, made: Source) -> tuple[Plan | None, str]:
    """The plan that `made` says it was made by, or why there is none to be repeated."""
    checkpoint = made.checkpoint
    last = checkpoint.hops[-1] if checkpoint.hops else {}
    if last.get("from") != first.checkpoint.digest:
        return None, ""
    hop = hop_of(last)
    if hop is None or hop.layout != made.layout:
        return None, "its manifest names a layout or options that are not those of its files"
    if checkpoint.manifest.get("version") != __version__:
        return None, f"another version made it ({str(checkpoint.manifest.get('version'))[:40]}); this is {__version__}"
    try:
        plan = make_plan(first, hop.layout, hop.options)
    except WeighbridgeError as error:
        return None, f"the conversion that its manifest names is refused: {error.first.message}"
    if plan.open_problems:
        return None, f"the conversion that its manifest names is refused: {plan.open_problems[0].message}"
    odd = next((name for target in plan.targets for name in _unfit(target, made)), None)
    return (None, f"the conversion that its manifest names writes other tensors: {odd}") if odd else (plan, "")


def _unfit(target: Target, made: Source) -> list[str]:
    """The tensors of a target that are not there with its dtype and shape."""
    stored, encoding = target.stored, target.encoding
    wanted = [(stored.name, encoding.dtype, stored.shape)]
    if encoding.quantized:
        wanted.append((stored.scale_name, encoding.scale_dtype, stored.scale_shape(encoding)))
    held = made.checkpoint.tensors
    return [name for name, dtype, shape in wanted if name not in held or (held[name].dtype, held[name].shape) != (dtype, shape)]


class Replay:
    """Repeats a plan slab by slab in memory."""

    def __init__(self, plan: Plan, first: Reader, made: Reader) -> None:
        self.plan, self.first, self.made = plan, first, made

    def slabs(self, weights: set[str] | None = None) -> list[SlabPlan]:
        """The work: all slabs, or those that hold one of `weights`."""
        return [slab for name, targets in self.plan.files.items() for slab in slabs(file_shape(name, targets))
                if slab.place.target.stored.constant is None and (weights is None or any(part.weight in weights for _, part in slab.work))]

    @staticmethod
    def size(slab: SlabPlan) -> int:
        """Bytes of codes."""
        target = slab.place.target
        return (slab.stop - slab.start) * target.stored.placement.cols * target.encoding.itemsize

    def compare(self, slab: SlabPlan, scratch: Scratch) -> list[Unlike]:
        """Where the slab that is there is not the one that the plan writes."""
        target = slab.place.target
        try:
            codes, scale = straight(self.first, slab), None
            if codes is None:
                filled = fill(self.first, slab, scratch)
                codes = filled.codes_RC
                if filled.scale_RbCb is not None:
                    scale = np.ascontiguousarray(scale_rows(target.stored, target.encoding, filled.scale_RbCb))
        except Refused as error:
            says = f"convert refuses to write it: {error.first.message}"
            return [Unlike(target.stored.name, part, part.rows * part.cols, says) for _, part in slab.work]
        return self._unlike(slab, codes, scale)

    def _unlike(self, slab: SlabPlan, codes: np.ndarray, scale: np.ndarray | None) -> list[Unlike]:
        held_codes, held_scale = self._held(slab, codes, scale)
        if _equal(codes, held_codes) and (scale is None or _equal(scale, held_scale)):
            return []
        differ = _mask(codes, held_codes)
        cells = _mask(scale, held_scale) if scale is not None else None
        found = []
        for piece, part in slab.work:
            found += self._in_part(slab, part, None if piece.scale_only else differ, cells)
        rest = int(differ.sum()) + (int(cells.sum()) if cells is not None else 0)
        if rest:
            found.append(Unlike(slab.place.target.stored.name, None, rest, f"{rest:,} codes or scales of padding are not what convert writes"))
        return found

    def _in_part(self, slab: SlabPlan, part: Part, differ: np.ndarray | None, cells: np.ndarray | None) -> list[Unlike]:
        """What differs inside one rectangle; it is taken out of the two masks, so that padding is what stays."""
        stored, encoding = slab.place.target.stored, slab.place.target.encoding
        rows, cols = part.extent
        area = (slice(part.at_row, part.at_row + rows), slice(part.at_col, part.at_col + cols))
        count, first = 0, ""
        if differ is not None and differ[area].any():
            row, col = (int(i) for i in np.argwhere(differ[area])[0])
            count += int(differ[area].sum())
            first = f"stored row {slab.start + part.at_row + row}, column {part.at_col + col}"
            differ[area] = False
        if cells is not None:
            high, wide = encoding.block  # type: ignore[misc]
            down = slice(part.at_row // high, -(-(part.at_row + rows) // high))
            across = np.arange(part.at_col // wide, -(-(part.at_col + cols) // wide))
            if stored.scale_slots and cells.shape[1] == stored.scale_cols:
                across = np.asarray(stored.scale_slots)[across]
            hit = cells[down][:, across]
            if hit.any():
                row = int(np.argwhere(hit)[0][0]) + down.start
                first = first or f"the scale of stored row {slab.start + row * high}"
                count += int(hit.sum())
                cells[down, across] = False
        says = f"{part.weight}: {first}: not what convert writes from the other side ({count:,} codes and scales)"
        return [Unlike(stored.name, part, count, says)] if count else []

    def _held(self, slab: SlabPlan, codes: np.ndarray, scale: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The bytes that are there for the same slab, and for its scales."""
        stored, encoding = slab.place.target.stored, slab.place.target.encoding
        tensors, placed = self.made.source.checkpoint.tensors, stored.placement
        start = (slab.lead * placed.rows + slab.start) * placed.cols * encoding.itemsize
        held = self.made.bytes_of(tensors[stored.name])[start : start + codes.nbytes]
        if scale is None:
            return held, held[:0]
        start = first_scale_row(slab) * scale.shape[1] * scale.itemsize
        return held, self.made.bytes_of(tensors[stored.scale_name])[start : start + scale.nbytes]


def _equal(ours: np.ndarray, held: np.ndarray) -> bool:
    return ours.nbytes == held.nbytes and kernels.same_bytes(ours.ctypes.data, held.ctypes.data, held.nbytes) == -1


def _mask(ours: np.ndarray, held: np.ndarray) -> np.ndarray:
    """bool, in the shape of our side: the elements whose bits differ."""
    mine = np.ascontiguousarray(ours).reshape(-1).view(np.uint8)
    return (mine != held).reshape(-1, ours.itemsize).any(axis=1).reshape(ours.shape)
