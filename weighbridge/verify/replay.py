"""What `convert` would write from the one side, compared byte for byte with what the other side holds.

A side that says it was made from the other, by this version of the tool, must be what this version makes of it: a flipped bit that lies
within the bound of a rounding shows here. Nothing is permitted by it; without such a manifest the bounds alone judge.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from weighbridge.version import __version__
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.convert.fill import slab_bytes
from weighbridge.convert.shape import SlabPlan, file_shape, slabs
from weighbridge.encoding import kernels
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.formats import codec
from weighbridge.formats.scheme import Field, Role
from weighbridge.formats.values import Scratch
from weighbridge.layouts.placement import Part
from weighbridge.plan.plan import Plan, Target, make_plan
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Source
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
        if hop.options.activations:
            return None, "its scales of activations came from a file that is not here"
        plan = make_plan(first, hop.layout, hop.options)
    except WeighbridgeError as error:
        return None, f"the conversion that its manifest names is refused: {error.first.message}"
    if plan.open_problems:
        return None, f"the conversion that its manifest names is refused: {plan.open_problems[0].message}"
    odd = next((name for target in plan.targets for name in _unfit(target, made)), None)
    return (None, f"the conversion that its manifest names writes other tensors: {odd}") if odd else (plan, "")


def _unfit(target: Target, made: Source) -> list[str]:
    """The tensors of a target that are not there with its dtype and shape."""
    stored, held = target.stored, made.checkpoint.tensors
    wanted = [(stored.field_name(f), f.dtype, stored.field_shape(f)) for f in target.fields]
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
        return target.encoding.bytes_of((slab.stop - slab.start) * target.stored.placement.cols)

    def compare(self, slab: SlabPlan, scratch: Scratch) -> list[Unlike]:
        """Where the slab that is there is not the one that the plan writes."""
        target = slab.place.target
        try:
            written, _ = slab_bytes(self.first, slab, scratch)
        except Refused as error:
            says = f"convert refuses to write it: {error.first.message}"
            return [Unlike(target.stored.name, part, part.rows * part.cols, says) for _, part in slab.work]
        unlike = []
        for offset, data in written:
            number = max(n for n, start in enumerate(slab.place.offsets) if start <= offset and offset < start + target.field_bytes(target.fields[n]))
            field = target.fields[number]
            held = self._held(target, field, offset - slab.place.offsets[number], data.nbytes)
            if not _equal(data, held):
                unlike += self._unlike(slab, field, np.ascontiguousarray(data).reshape(-1).view(np.uint8), held)
        return unlike

    def _held(self, target: Target, field: Field, start: int, size: int) -> np.ndarray:
        """The bytes that are there in the same place."""
        return self.made.bytes_of(self.made.source.checkpoint.tensors[target.stored.field_name(field)])[start : start + size]

    def _unlike(self, slab: SlabPlan, field: Field, ours: np.ndarray, held: np.ndarray) -> list[Unlike]:
        """Which rectangles the bytes that differ belong to; what belongs to none is padding."""
        differ = _cells(slab, field, ours) != _cells(slab, field, held)
        found = []
        for piece, part in slab.work:
            if field.role is Role.CODE and piece.scale_only:
                continue
            area = _area(slab, field, part)
            hit = differ[area]
            if hit.any():
                row, col = (int(i) for i in np.argwhere(hit)[0])
                where = f"stored row {slab.start + part.at_row + row}, column {part.at_col + col}" if field.role is Role.CODE else \
                    f"the {field.role} of stored row {slab.start + part.at_row}"
                says = f"{part.weight}: {where}: not what convert writes from the other side ({int(hit.sum()):,} of {field.suffix.lstrip('.') or 'its values'})"
                found.append(Unlike(slab.place.target.stored.name, part, int(hit.sum()), says))
                differ[area] = False
        rest = int(differ.sum())
        if rest:
            found.append(Unlike(slab.place.target.stored.name, None, rest, f"{rest:,} values of padding are not what convert writes"))
        return found


def _cells(slab: SlabPlan, field: Field, raw: np.ndarray) -> np.ndarray:
    """The bits of each value of a field's rows of a slab, [rows, columns] of its grid."""
    placed = slab.place.target.stored.placement
    if not field.weighs or (field.block == (0, 0)):
        return raw.reshape(1, -1)
    if field.packing.packed:
        high = field.block[0] or placed.rows
        rows = -(-slab.stop // high) - slab.start // high
        return codec.codes_of(field, raw, (rows, field.grid(placed.rows, placed.cols)[1]))
    width = slab.place.target.stored.field_shape(field)[-1] if slab.place.target.stored.scale_slots else field.grid(placed.rows, placed.cols)[1]
    return raw.view(f"u{BITS[field.dtype] // 8}").reshape(-1, width)


def _area(slab: SlabPlan, field: Field, part: Part) -> tuple[Any, Any]:
    """The cells of a field that belong to a rectangle of a slab."""
    placed, stored = slab.place.target.stored.placement, slab.place.target.stored
    if not field.weighs or field.block == (0, 0):
        return slice(None), slice(None)
    spans = []
    for axis, (start, length) in enumerate(zip((part.at_row, part.at_col), part.extent, strict=True)):
        size = field.block[axis] or (placed.rows, placed.cols)[axis]
        spans.append(slice(start // size, -(-(start + length) // size)))
    if stored.scale_slots and field.role is Role.SCALE and stored.field_shape(field)[-1] == stored.scale_cols:
        across = np.asarray(stored.scale_slots)[spans[1]]
        return spans[0], (slice(int(across.min()), int(across.max()) + 1) if len(across) else slice(0, 0))
    return spans[0], spans[1]


def _equal(ours: np.ndarray, held: np.ndarray) -> bool:
    ours = np.ascontiguousarray(ours)
    return ours.nbytes == held.nbytes and kernels.same_bytes(ours.ctypes.data, held.ctypes.data, held.nbytes) == -1
