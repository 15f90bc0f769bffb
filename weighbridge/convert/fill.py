"""One slab of a destination: filled piece by piece, then packed into the bytes of its fields."""

from __future__ import annotations

import numpy as np

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.convert.apply import apply
from weighbridge.convert.reading import Reading
from weighbridge.convert.restore import kept_grids
from weighbridge.convert.shape import SlabPlan
from weighbridge.convert.slab import Loss, Slab, container, new_slab
from weighbridge.formats.values import Scratch
from weighbridge.formats import codec, fast
from weighbridge.formats.scheme import Field, Role
from weighbridge.plan.plan import Target
from weighbridge.plan.steps import Kind

Written = tuple[int, np.ndarray]  # place in the file, and the bytes


def slab_bytes(reader: Reading, plan: SlabPlan, scratch: Scratch) -> tuple[list[Written], dict[str, Loss]]:
    """The bytes of one slab with their places in the file, and what was lost on the way. They are good until `scratch` is used again."""
    if plan.place.target.stored.constant is not None:
        return [(plan.place.offsets[0], np.asarray(plan.place.target.stored.constant, np.int32))], {}
    straight = _straight(reader, plan)
    return ([straight], {}) if straight is not None else _filled(reader, plan, scratch)


def _straight(reader: Reading, plan: SlabPlan) -> Written | None:
    """The mapped source bytes of a slab of plain values that does not change."""
    target = plan.place.target
    if target.encoding.quantized or len(plan.work) != 1:
        return None
    piece, part = plan.work[0]
    if piece.step.kind is not Kind.COPY or part.turned or part.extent != (plan.stop - plan.start, target.stored.placement.cols):
        return None
    q = reader.rect(piece.fragments[0], part.row, part.col, part.rows, part.cols)
    if not q.codes_RC.flags.c_contiguous:
        return None
    return plan.place.offsets[0] + _before(target.encoding.code, target, plan, plan.start), q.codes_RC


def _filled(reader: Reading, plan: SlabPlan, scratch: Scratch) -> tuple[list[Written], dict[str, Loss]]:
    target = plan.place.target
    encoding, placed = target.encoding, target.stored.placement
    rows = plan.stop - plan.start
    codes = scratch.array("slab", (rows, placed.cols), container(encoding).type)
    if sum(part.rows * part.cols for piece, part in plan.work if not piece.scale_only) < rows * placed.cols:
        codes[...] = 0
    slab = new_slab(target.stored.name, encoding, (placed.rows, placed.cols), plan.lead, plan.start, codes)
    slab.kept = kept_grids(reader, target, Scratch()) if target.kept else {}
    for piece, part in plan.work:
        apply(reader, piece, part, slab, scratch)
    return [w for field, offset in zip(target.fields, plan.place.offsets, strict=True) if (w := _bytes(field, offset, target, plan, slab, reader)) is not None], slab.losses


def _bytes(field: Field, offset: int, target: Target, plan: SlabPlan, slab: Slab, reader: Reading) -> Written | None:
    """The slab's rows of one field as stored, with their place; None where another slab writes it."""
    placed = target.stored.placement
    if field.role is Role.CODE:
        data = packed(field, slab.codes_RC) if target.encoding.quantized else slab.codes_RC
        return offset + _before(field, target, plan, plan.start), data
    first = plan.start == 0 and plan.lead == 0
    if field.role is Role.SHAPE:
        return (offset, np.array([placed.rows, placed.cols], np.int64 if BITS[field.dtype] == 64 else np.int32)) if first else None
    if field.role is Role.ORDER:
        group = target.encoding.block[0] or placed.rows  # type: ignore[index]
        return offset + plan.start * 4, (np.arange(plan.start, plan.stop) // group).astype(np.int32)
    if field.suffix in target.carried:
        if not first:
            return None
        own = target.carried[field.suffix]
        value = np.array([own], np.float32) if isinstance(own, float) else codec.floats(reader.source.read(own) if own in target.kept.values() else reader.bytes_of(own), own.dtype)
        return offset, codec.to_dtype(value, field.dtype)
    if not field.block[0] and plan.start:
        return None  # one block spans all rows: the first slab writes it
    return offset + _before(field, target, plan, plan.start // slab.block(field)[0]), _grid_bytes(field, target, slab)


def _before(field: Field, target: Target, plan: SlabPlan, row: int) -> int:
    """Bytes of the field before grid row `row` of matrix `lead`."""
    placed = target.stored.placement
    matrix = target.field_bytes(field) // placed.lead
    high = field.packed_grid(placed.rows, placed.cols)[0]
    values = field.grid(placed.rows, placed.cols)[0]
    stored = row if field.packing.axis == -1 else row // field.packing.values * (field.packing.size // field.packing.word)
    return plan.lead * matrix + (stored * (matrix // high) if values else 0)


def _grid_bytes(field: Field, target: Target, slab: Slab) -> np.ndarray:
    """A slab's grid as it goes into the file: padding is zero, and padded columns stand where the reader wants them."""
    grid = slab.grids[field.suffix]
    if field.role is Role.ZERO:
        return packed(field, codec.encode(np.nan_to_num(grid, nan=0.0), field.element))
    absent = 1.0 if field.element == "e8m0" else 0.0  # an exponent has no zero
    grid = np.nan_to_num(grid, nan=absent, posinf=np.inf)
    stored = target.stored
    if stored.scale_slots and stored.field_shape(field)[-1] != grid.shape[1]:
        wide = np.zeros((grid.shape[0], stored.scale_cols), np.float32)
        wide[:, list(stored.scale_slots)] = grid
        grid = wide
    return np.ascontiguousarray(codec.to_dtype(grid, field.dtype))


def packed(field: Field, codes: np.ndarray) -> np.ndarray:
    """Codes [rows, columns] as the field's bytes."""
    return fast.pack(codes, field.packing) if field.packing.packed else np.ascontiguousarray(codes)
