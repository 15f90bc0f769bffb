"""One slab of a destination tensor, in memory: what `convert` writes, and what `verify` compares with what is there."""

from __future__ import annotations

import numpy as np

from weighbridge.convert.apply import Scratch, Slab, apply
from weighbridge.convert.shape import SlabPlan
from weighbridge.encoding.qtensor import CONTAINER
from weighbridge.plan.reader import Reader


def straight(reader: Reader, plan: SlabPlan) -> np.ndarray | None:
    """The mapped source bytes of a slab that does not change, or None where something must be done."""
    target = plan.place.target
    if target.encoding.quantized or len(plan.work) != 1:
        return None
    piece, part = plan.work[0]
    if piece.step.name != "copy" or part.turned or part.extent != (plan.stop - plan.start, target.stored.placement.cols):
        return None
    q = reader.rect(piece.fragments[0], part.row, part.col, part.rows, part.cols)
    return q.codes_RC if q.codes_RC.flags.c_contiguous else None


def fill(reader: Reader, plan: SlabPlan, scratch: Scratch) -> Slab:
    """The slab with all its pieces in place; padding is zero, and scales under no piece are NaN until `scale_rows` has them."""
    target = plan.place.target
    encoding, placed = target.encoding, target.stored.placement
    rows = plan.stop - plan.start
    codes = scratch.array("slab", (rows, placed.cols), CONTAINER[encoding.dtype])
    if sum(part.rows * part.cols for piece, part in plan.work if not piece.scale_only) < rows * placed.cols:
        codes[...] = 0
    scale = np.full(encoding.grid((rows, placed.cols)), np.nan, np.float32) if encoding.quantized else None
    slab = Slab(target.stored.name, encoding, plan.lead, plan.start, codes, scale)
    for piece, part in plan.work:
        apply(reader, piece, part, slab, scratch)
    return slab


def first_scale_row(plan: SlabPlan) -> int:
    """Number of the slab's first row in the stored scale tensor, its leading axes flattened."""
    target = plan.place.target
    grid = target.stored.scale_shape(target.encoding)
    return plan.lead * grid[-2] + plan.start // target.encoding.block[0]  # type: ignore[index]
