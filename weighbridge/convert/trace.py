"""The way of one tensor through a plan, with the numbers of one block before and after."""

from __future__ import annotations

from typing import Any

import numpy as np

from weighbridge.convert.apply import apply
from weighbridge.convert.shape import bare
from weighbridge.convert.slab import container, new_slab
from weighbridge.formats.values import Scratch
from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.placement import Part, clip
from weighbridge.formats.match import split
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Field, Role
from weighbridge.plan.plan import Piece, Plan, Target
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Bound

SHOWN = 8  # values of a block that are shown


def trace(plan: Plan, name: str) -> dict[str, Any]:
    """The way of `name`: a stored name of either side, its module, its scale, or a logical name."""
    hits = find(plan, name)
    target, piece = hits[0]
    bounds = list({f.source: plan.source.bound[f.source] for _, p in hits for f in p.fragments}.values())
    places = list({(t.stored.name, p.part): (t, p.part) for t, p in hits}.values())
    return {
        "name": name, "to": plan.layout, "weight": piece.part.weight,
        "source": [row for b in bounds for row in _source_rows(b)],
        "steps": steps(plan, target, piece),
        "destination": [row for t, part in places for row in destination_rows(t, part)],
        "block": _numbers(plan, target, piece),
    }


def find(plan: Plan, name: str) -> list[tuple[Target, Piece]]:
    """Every (target, piece) that the name stands for; a stacked destination stands for all of its pieces."""
    wanted = _stem(name)
    by_source: list[tuple[Target, Piece]] = []
    by_target: list[tuple[Target, Piece]] = []
    for target in plan.targets:
        own = _stem(target.stored.stem)
        if wanted in (own, bare(own)) and target.pieces:
            by_target += [(target, p) for p in target.pieces]
            continue
        for piece in target.pieces:
            stems = {_stem(plan.source.bound[f.source].stored.stem) for f in piece.fragments}
            if wanted in stems or wanted == piece.part.weight or wanted in {bare(s) for s in stems}:
                by_source.append((target, piece))
    if not (by_source or by_target):
        close = sorted({_stem(b.stored.stem) for b in plan.source.bound if wanted.rsplit(".", 1)[-1] in b.stored.stem})[:3]
        raise WeighbridgeError("no-such-tensor", "is no tensor of the source, of the destination, and no logical weight", name,
                               f"near it: {', '.join(close)}" if close else "weighbridge inspect SRC --tensors lists all names")
    return by_source or by_target


def _stem(name: str) -> str:
    return split(name)[0].removeprefix("model.")


def _source_rows(bound: Bound) -> list[dict[str, Any]]:
    listed = [t for field in bound.encoding.stored_fields if (t := bound.tensor(field)) is not None]
    return [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "file": t.file} for t in listed]


def destination_rows(target: Target, part: Part) -> list[dict[str, Any]]:
    """Where a piece lies in the tensor that is written, and where its scales do: one row, or two. `slice` has [start, stop] for each stored axis."""
    stored, encoding = target.stored, target.encoding
    rows, cols = part.extent
    where = [[part.lead, part.lead + 1]] if stored.placement.stacked else []
    if not stored.placement.vector:
        where.append([part.at_row, part.at_row + rows])
    where.append([part.at_col, part.at_col + cols])
    return [{"name": bare(stored.field_name(field)), "dtype": field.dtype, "shape": list(stored.field_shape(field)),
             "slice": _field_slice(field, where, part, target), "file": stored.file} for field in target.fields]


def _field_slice(field: Field, where: list[list[int]], part: Part, target: Target) -> list[list[int]]:
    """[start, stop) along each stored axis of a field: of values where a stored element holds one, else of blocks or packed elements."""
    shape = target.stored.field_shape(field)
    if target.stored.dims is not None:  # no matrix: it goes along whole
        return [[0, size] for size in shape]
    if field.role is Role.CODE and not field.packing.packed:
        return where
    placed = target.stored.placement
    spans = []
    for axis, (start, length) in enumerate(zip((part.at_row, part.at_col), part.extent, strict=True)):
        size = field.block[axis] or (placed.rows, placed.cols)[axis]
        first, last = start // size, -(-(start + length) // size)
        if field.packing.packed and field.packing.axis == axis - 2:
            each = field.packing.size // field.packing.word
            first, last = first // field.packing.values * each, field.packing.units(last) * each
        spans.append([first, last])
    spans = [*where[:-2], *spans] if placed.stacked else spans
    return spans if len(shape) == len(spans) else [[0, size] for size in shape]


def steps(plan: Plan, target: Target, piece: Piece) -> list[dict[str, Any]]:
    """What happens to the first source of a piece on its way into `target`: op, detail, lossy."""
    source = plan.source.bound[piece.fragments[0].source]
    stored, part = target.stored, piece.part
    told = [{"op": "load", "detail": f"{source.weight.file}, bytes {source.weight.start:,} to {source.weight.start + source.weight.nbytes:,}, "
             f"{source.encoding.describe(source.stored.shape)}", "lossy": False}]

    def add(op: str, detail: str, lossy: bool = False) -> None:
        told.append({"op": op, "detail": detail, "lossy": lossy})

    old, new = source.stored.stem, bare(stored.stem)
    if old.startswith("model.") and not new.startswith("model."):
        add("strip", f"model. in front of {old.removeprefix('model.')}")
        old = old.removeprefix("model.")
    if old != new:
        add("rename", f"{old} -> {new}")
    one, two = source.encoding.scale, target.encoding.scale
    if one and two and one.suffix != two.suffix:
        same = one.role is two.role
        add("rename", f"{one.suffix} -> {two.suffix}: " + ("a multiplier on both sides, no reciprocal" if same else "a multiplier becomes a divisor"))
    add(piece.step.name, f"{source.encoding.describe(source.stored.shape)} -> {target.encoding.describe(stored.shape)}: {piece.step.says} "
        f"({piece.step.bound})", piece.step.lossy)
    _moves(target, piece, add)
    if plan.layout == "neuron" and ".self_attn." in new and new.endswith("_proj"):
        module = new.replace(".o_proj", ".o_proj.o_proj") if new.endswith("o_proj") else new.replace("self_attn.", "self_attn.qkv_proj.")
        add("loader", f"NxD's load hook copies it to {module} and pads or repeats heads; its warning about redundant keys is harmless")
    rows, cols = part.extent
    add("write", f"{stored.file}, rows {part.at_row}..{part.at_row + rows - 1}, columns {part.at_col}..{part.at_col + cols - 1}"
        + (f" of matrix {part.lead}" if stored.placement.stacked else ""))
    return told


def _moves(target: Target, piece: Piece, add: Any) -> None:
    placed, part = target.stored.placement, piece.part
    turned = piece.fragments[0].turned != part.turned
    if turned:
        add("swap", f"[{part.rows}, {part.cols}] -> [{part.cols}, {part.rows}], and the scale grid with it")
    rows, cols = part.extent
    if (rows, cols) != (placed.rows, placed.cols):
        add("place", f"[{rows}, {cols}] at [{part.at_row}, {part.at_col}] of [{placed.rows}, {placed.cols}]")
    if placed.stacked:
        add("stack", f"matrix {part.lead} of {placed.lead}")
    filled = sum(p.rows * p.cols for p in placed.parts)
    if filled < placed.lead * placed.rows * placed.cols:
        add("pad", "the rest is zero")


def _numbers(plan: Plan, target: Target, piece: Piece) -> dict[str, Any] | None:
    """The first values of the first block, as stored and as they are, on both sides."""
    if plan.source.checkpoint.store.path("config.json") is None or plan.source.checkpoint.files.get("config.json") is None:
        return None
    reader, scratch = Reader(plan.source), Scratch()
    unit = min(piece.part.extent[0], max(128, target.encoding.block[0] if target.encoding.block else 1, target.encoding.unit[0]))
    part = clip(piece.part, 0, piece.part.at_row, piece.part.at_row + unit, 0)
    assert part is not None
    start = piece.part.at_row
    encoding, placed = target.encoding, target.stored.placement
    slab = new_slab(target.stored.name, encoding, (placed.rows, placed.cols), piece.part.lead, start, np.zeros((unit, placed.cols), container(encoding)))
    with reader.unchanged():
        apply(reader, piece, part, slab, scratch)
        before = _shown(_before(reader, piece, part))
    after = slab.written_part(part, 1).cut(0, 0, 1, min(SHOWN, part.extent[1]))
    return {"of": f"row 0, first {after.shape[1]} columns of the rectangle, in the destination's axes",
            "before": before, "after": _shown(after)}


def _before(reader: Reader, piece: Piece, part: Part) -> QTensor:
    count = min(SHOWN, part.extent[1])
    rows, cols = (count, 1) if part.turned else (1, count)
    fragment = next(f for f in piece.fragments
                    if f.lrow <= part.row < f.lrow + f.lrows and f.lcol <= part.col < f.lcol + f.lcols)
    q = reader.rect(fragment, part.row, part.col, rows, cols)
    return q.T if part.turned else q


def _shown(q: QTensor) -> dict[str, Any]:
    values = [float(v) for v in q.decode().ravel()]
    scale = float(q.scales_at(np.arange(1), np.arange(1))[0, 0]) if q.encoding.quantized else None
    width = 2 * q.codes_RC.itemsize
    raw = [f"0x{int(c):0{width}X}" for c in np.ascontiguousarray(q.codes_RC).ravel().view(f"u{q.codes_RC.itemsize}")]
    return {"dtype": q.encoding.dtype, "scale": scale, "codes": raw, "values": values}
