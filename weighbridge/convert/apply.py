"""One piece, from source bytes to a slab of the destination: the only place where values change."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from weighbridge.convert.slab import Loss, Slab, stored_values
from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.values import Scratch, above_240, address, row_major, single_grid, values
from weighbridge.plan.wholes import Wholes
from weighbridge.encoding import codec as fp8
from weighbridge.encoding import kernels
from weighbridge.errors import Problem, Refused
from weighbridge.formats import codec, fast, quantize
from weighbridge.formats.bounds import window
from weighbridge.formats.element import ELEMENTS, difference
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.rules import RULES, Blocks
from weighbridge.formats.scheme import Encoding, Field, Role
from weighbridge.layouts.source import Source
from weighbridge.layouts.placement import Part
from weighbridge.plan.cover import Fragment, Rect
from weighbridge.plan.plan import Piece
from weighbridge.plan.steps import Kind

MODES = {"halve": kernels.HALVE, "double": kernels.DOUBLE, "legacy-448-240": kernels.LEGACY}
SAMPLE = 16  # one block row of this many is measured where measuring all would cost more than the step


class Reading(Protocol):
    """Where source rectangles come from, and what is known of whole weights."""

    source: Source

    @property
    def wholes(self) -> Wholes: ...

    def rect(self, fragment: Fragment, row: int, col: int, rows: int, cols: int) -> QTensor:
        """A logical rectangle inside `fragment`, in logical axes."""
        ...

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        """All stored bytes of a tensor, uint8."""
        ...


def apply(reader: Reading, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Fill the rectangle `part` (a clip of `piece.part`, rows relative to the slab) of `slab`."""
    if piece.scale_only:
        _only_scales(reader, piece, part, slab, scratch)
        return
    kind = piece.step.kind
    if kind in (Kind.QUANTIZE, Kind.SHIFT):
        _new_scales(reader, piece, part, slab, scratch)
        return
    q = reader.rect(piece.fragments[0], part.row, part.col, part.rows, part.cols)
    q = q.T if part.turned else q
    out = slab.view(part)
    if kind is Kind.COPY:
        np.copyto(out, q.codes_RC)
    elif kind is Kind.FLOAT:
        _to_float(q, out, piece.step.lossy, slab)
    elif kind is Kind.DECODE:
        _decode(q, out, piece.step.lossy, slab, scratch)
    elif kind is Kind.KEEP:
        _keep(q, out, part, slab)
        if piece.step.lossy:
            _measure(q, part, slab, slab.loss(piece.step.name), scratch)
    else:
        _mapped(q, out, piece.step.name, piece.step.lossy, part, slab, scratch)


def _only_scales(reader: Reading, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Make the rectangle beside the slab and take its scales: the values belong to another rank."""
    codes = np.empty((slab.codes_RC.shape[0], part.at_col + part.extent[1]), slab.codes_RC.dtype)
    beside = Slab(slab.name, slab.encoding, slab.shape, slab.lead, slab.start, codes, slab.grids)
    apply(reader, piece._replace(scale_only=False), part, beside, scratch)


def _nan(slab: Slab, count: int) -> Refused:
    return Refused([Problem("nan-code", f"{count:,} values are NaN or infinite in rows {slab.start}.. of matrix {slab.lead}", slab.name,
                            "the weights are damaged; the unfinished folder says so, remove it")])


def _to_float(q: QTensor, out: np.ndarray, lossy: bool, slab: Slab) -> None:
    """One plain dtype to another."""
    wide = q.decode()
    out[...] = codec.to_dtype(np.ascontiguousarray(wide), slab.encoding.dtype).view(out.dtype).reshape(out.shape)
    if lossy:
        loss = slab.loss("round")
        loss.values += out.size
        compare(wide, QTensor(out, slab.encoding).decode(), loss)


def _decode(q: QTensor, out: np.ndarray, lossy: bool, slab: Slab, scratch: Scratch) -> None:
    """Codes to a plain dtype, turned through scratch where the stored axes differ."""
    scaled = single_grid(q)
    dtype = slab.encoding.dtype
    if scaled is not None and dtype in ("BF16", "F32"):
        q = row_major(q, scratch)
        grid, block = scaled
        kernel = kernels.decode_f32 if dtype == "F32" else kernels.decode_bf16
        nans = kernel(*address(q.codes_RC), *q.shape, grid.ctypes.data, grid.shape[1], *q.origin, *block, *address(out))
    else:
        nans = _decode_by_table(q, out, dtype)
    if nans:
        raise _nan(slab, nans)
    if lossy:
        loss = slab.loss("decode")
        loss.values += out.size
        before = scratch.array("before", (min(out.shape[0], 128 // SAMPLE), out.shape[1]), np.float32)
        values(q.cut(0, 0, *before.shape), before, scratch)
        compare(before, QTensor(out[: before.shape[0]], slab.encoding).decode(), loss)


def _decode_by_table(q: QTensor, out: np.ndarray, dtype: str) -> int:
    fast.decode(q, dtype, out)
    if dtype == "BF16":
        return int(np.count_nonzero((out & np.uint16(0x7F80)) == 0x7F80))
    return int(np.count_nonzero(~np.isfinite(out)))


def _keep(q: QTensor, out: np.ndarray, part: Part, slab: Slab) -> None:
    """The same codes, in the order of the destination; scales and zero points for its blocks."""
    _move(q.codes_RC, out)
    source, target = q.encoding.element, slab.encoding.element
    moved = difference(source, target) or 0
    if "int" in (ELEMENTS[source].kind, ELEMENTS[target].kind) and source != target:
        np.bitwise_xor(out, np.uint8(1 << ELEMENTS[target].bits - 1), out=out)  # two's complement and offset codes differ in the highest bit
    for factor in slab.encoding.factors:
        if factor.suffix in slab.grids:
            _kept_grid(q, factor, moved, part, slab)


def _move(codes: np.ndarray, out: np.ndarray) -> None:
    turned = codes.strides[1] != codes.itemsize
    source = codes.T if turned else codes
    kernels.move(*address(source), *source.shape, *address(out), turned, kernels.COPY, 1, 1, 0)


def _kept_grid(q: QTensor, factor: Field, moved: int, part: Part, slab: Slab) -> None:
    rows, cols = block_starts(q.shape, factor, part, slab)
    if factor.role is Role.ZERO:
        zeros = q.grid(Role.ZERO)
        own = np.zeros((len(rows), len(cols)), np.float32) if zeros is None else q.factor_at(zeros, rows, cols)
        slab.place(factor, own + np.float32(moved), part)
        return
    scale = q.scale
    assert scale is not None
    if not factor.inner:
        slab.place(factor, q.scales_at(rows, cols), part)
        return
    slab.place(factor, q.factor_at(Grid(scale.field, scale.own), rows, cols), part)
    (inner,), (whole,) = factor.inner, scale.inner
    value = whole.values.reshape(1, 1)
    _place_whole(inner, value if inner.role is whole.field.role else np.float32(1) / value, slab)


def _place_whole(field: Field, value: np.ndarray, slab: Slab) -> None:
    """The one value of a field for the whole weight; pieces that share it must bring the same."""
    cell = slab.grids[field.suffix]
    if not (np.isnan(cell) | (cell == value)).all():
        raise Refused([Problem("scale-grid", f"parts of one weight have different {field.suffix.lstrip('.')}: {cell[0, 0]:g} and {value[0, 0]:g}", slab.name,
                               "the destination stores one for all of them: choose a layout that keeps them apart")])
    cell[...] = value


def block_starts(shape: tuple[int, int], field: Field, part: Part, slab: Slab) -> tuple[np.ndarray, np.ndarray]:
    """Positions inside the piece of the first value of each destination block that it touches, along rows and columns."""
    rows, cols = (_starts(size, at, block) for size, at, block in zip(shape, (part.at_row + slab.start, part.at_col), slab.block(field), strict=True))
    return rows, cols


def _starts(size: int, at: int, block: int) -> np.ndarray:
    first = -(-at // block) * block - at
    starts = np.arange(first, size, block)
    return starts if first == 0 else np.concatenate(([0], starts))


def _mapped(q: QTensor, out: np.ndarray, step: str, lossy: bool, part: Part, slab: Slab, scratch: Scratch) -> None:
    """FP8 to FP8 of another range: codes through a table, scales times a number."""
    if q.encoding.element == "e4m3" and (above := int(above_240(q).sum())):
        raise Refused([Problem("above-240", f"{above:,} codes are 0x78 or above, which Neuron's E4M3 reads as infinity or NaN",
                               slab.name, "this checkpoint was never brought below 240; convert the published one")])
    turned = q.codes_RC.strides[1] != q.codes_RC.itemsize
    source = q.codes_RC.T if turned else q.codes_RC
    scale = q.scale
    assert scale is not None
    high, wide = (size or length for size, length in zip(scale.field.block, q.shape, strict=True))
    high, wide = (wide, high) if turned else (high, wide)
    high, wide = min(high, source.shape[0]), min(wide, source.shape[1])
    counts = scratch.array("counts", (-(-source.shape[0] // high), -(-source.shape[1] // wide)), np.int32)
    counting = step in ("halve", "double")
    nans = kernels.move(*address(source), *source.shape, *address(out), turned, MODES.get(step, kernels.COPY), high, wide,
                        counts.ctypes.data if counting else 0)
    if nans:
        raise _nan(slab, nans)
    factor = slab.encoding.factors[0]
    slab.place(factor, _regrid(q, step, factor, part, slab), part)
    if step == "double" and counts.any():
        raise Refused([Problem("double-overflow", f"{int(counts.sum()):,} codes above 224 cannot be doubled", slab.name,
                               "this checkpoint was not made by halving; convert without its manifest")])
    if lossy:
        loss = slab.loss(step)
        loss.values += out.size
        loss.inexact += int(counts.sum()) if step == "halve" else 0
        _measure(q, part, slab, loss, scratch, count=False)


def _regrid(q: QTensor, step: str, factor: Field, part: Part, slab: Slab) -> np.ndarray:
    """The scales of the destination's blocks inside the piece, after the step."""
    rows, cols = block_starts(q.shape, factor, part, slab)
    scale = q.scales_at(rows, cols)
    if step == "double":
        _require_uniform(q, rows, cols, scale, slab.block(factor), slab)
        return scale * np.float32(0.5)
    if step == "halve":
        return scale * np.float32(2)
    if step == "legacy-448-240":
        return fp8.legacy_scale(scale)
    return np.float32(1) / scale if step == "reciprocal" else scale


def _require_uniform(q: QTensor, rows: np.ndarray, cols: np.ndarray, scale: np.ndarray, block: tuple[int, int], slab: Slab) -> None:
    """Doubling may join finer blocks only where their scales are equal, as an exact conversion left them."""
    own = q.scale
    assert own is not None
    high = own.field.block[0] or q.shape[0]
    if high >= block[0]:
        return
    every = np.arange(0, q.shape[0], high)
    joined = scale[np.searchsorted(rows, every, side="right") - 1]
    if not np.array_equal(q.scales_at(every, cols), joined):
        raise Refused([Problem("scale-grid", "rows of one block have different scales, so the block has no single one", slab.name,
                               "this checkpoint was not made by an exact conversion")])


def _new_scales(reader: Reading, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Decode whole blocks to float32, quantize them, and take the rectangle that belongs here."""
    encoding = slab.encoding.turned() if part.turned else slab.encoding
    row, col, rows, cols = _whole_blocks(piece.fragments, part, encoding)
    region = scratch.array("region", (rows, cols), np.float32)
    source = _decoded(reader, piece.fragments, (row, col, rows, cols), region, slab, scratch)
    shift = piece.step.kind is Kind.SHIFT
    given = restored(slab, encoding, (row, col, rows, cols), part.turned) if slab.kept else _shifted(reader, piece, (row, col, rows, cols), encoding) if shift else _whole_scale(reader, part.weight, encoding)
    q, refused = quantized(source, encoding, given, reader, part.weight, scratch)
    if refused and not slab.kept:
        raise Refused([Problem("not-finite", f"{refused:,} blocks hold NaN or infinity, or no scale fits them", slab.name, "the weights are damaged")])
    down, right = part.row - row, part.col - col
    taken = _rect(q.codes_RC, down, right, part)
    slab.view(part)[...] = taken.T if part.turned else taken
    for grid in q.grids:
        _new_grid(grid, (down, right), part, slab)
    loss = slab.loss(piece.step.name) if piece.step.lossy else Loss()
    loss.values += part.rows * part.cols
    loss.inexact += part.rows * part.cols if piece.step.name == "restore" and not slab.kept else 0
    back = scratch.array("back", (rows, cols), np.float32)
    values(q, back, scratch)
    if source is not region:
        region[...] = fp8.from_bf16(source)
    compare(_rect(region, down, right, part), _rect(back, down, right, part), loss)
    if not piece.step.lossy and loss.error:
        raise Refused([Problem("not-exact", f"values that should fit {slab.encoding.scheme} exactly do not", slab.name, "add --inexact to round them")])


def restored(slab: Slab, encoding: Encoding, rect: Rect, turned: bool) -> dict[str, np.ndarray]:
    """The kept values of each factor for the whole blocks of a logical rectangle, by suffix."""
    found = {}
    for factor in encoding.factors:
        for field in (factor, *factor.inner):
            if field.suffix in slab.kept:
                own = slab.kept[field.suffix]
                own = own.T if turned else own
                spans = [slice(start // size, -(-(start + length) // size)) if size else slice(None)
                         for start, length, size in zip(rect[:2], rect[2:], field.block, strict=True)]
                found[field.suffix] = own[spans[0], spans[1]]
    return found


def _whole_scale(reader: Reading, weight: str, encoding: Encoding) -> dict[str, np.ndarray]:
    """The scale of a weight that has one for all its values, so that every slab uses the same."""
    if encoding.block != (0, 0):
        return {}
    assert encoding.scale is not None
    largest = np.float32(reader.wholes.largest(reader.rect, weight, False))
    block = Blocks(np.full((1, 1), -largest), np.full((1, 1), largest), largest)
    (grid,), _ = quantize.grids_of(block, encoding, {}, quantize.rule_of(encoding))
    return {encoding.scale.suffix: grid.own}


def _shifted(reader: Reading, piece: Piece, rect: Rect, encoding: Encoding) -> dict[str, np.ndarray]:
    """Scales under which values of the source are codes of the destination: powers of two, as high as its largest code allows."""
    field, source = encoding.scale, reader.rect(piece.fragments[0], *_corner(piece.fragments[0], rect)).encoding
    assert field is not None
    highest = window(source.element, encoding.element)
    assert highest is not None
    if field.inner:  # the block's scale is a code itself, up to 2^8: the scale of the tensor takes the rest
        (inner,) = field.inner
        top = np.float32(2.0 ** (reader.wholes.exponent(reader.rect, piece.part.weight, True) - 8))
        powers = _largest_scales(reader, piece.fragments, rect, field.block)
        return {field.suffix: powers / top, inner.suffix: np.full((1, 1), top if inner.role is Role.SCALE else 1 / top, np.float32)}
    if encoding.block == (0, 0):
        powers = np.full((1, 1), 2.0 ** reader.wholes.exponent(reader.rect, piece.part.weight, False), np.float32)
    else:
        powers = _largest_scales(reader, piece.fragments, rect, field.block)
    return {field.suffix: (powers * np.float32(2.0 ** -highest[1])).astype(np.float32)}


def _corner(fragment: Fragment, rect: Rect) -> Rect:
    row, col = max(rect[0], fragment.lrow), max(rect[1], fragment.lcol)
    return row, col, 1, 1


def _largest_scales(reader: Reading, fragments: tuple[Fragment, ...], rect: Rect, block: tuple[int, int]) -> np.ndarray:
    """The largest scale of the source inside each block of a rectangle, float32 [block rows, block columns]."""
    row, col, rows, cols = rect
    scale = np.zeros((rows, cols), np.float32)
    for f in fragments:
        hit = _intersection(f, rect)
        if hit is not None:
            q = reader.rect(f, *hit)
            scale[hit[0] - row : hit[0] - row + hit[2], hit[1] - col : hit[1] - col + hit[3]] = q.scales_at(np.arange(hit[2]), np.arange(hit[3]))
    starts = [np.arange(0, length, size or length) for length, size in zip((rows, cols), block, strict=True)]
    return np.maximum.reduceat(np.maximum.reduceat(scale, starts[0], axis=0), starts[1], axis=1)


def quantized(source: np.ndarray, encoding: Encoding, given: dict[str, np.ndarray], reader: Reading, weight: str, scratch: Scratch) -> tuple[QTensor, int]:
    """Codes and scales of a region of whole blocks: float32 values, or BF16 bits (uint16)."""
    assert encoding.scale is not None and encoding.block is not None
    rule = quantize.rule_of(encoding)
    if encoding.element in ("e4m3fn", "e4m3") and not given and encoding.scale.element == "f32" and rule is RULES["amax"]:
        rows, cols = source.shape
        high, wide = encoding.block[0] or rows, encoding.block[1] or cols
        codes = scratch.array("codes", (rows, cols), np.uint8)
        scale = np.empty((-(-rows // high), -(-cols // wide)), np.float32)
        kernel = kernels.quantize_bf16 if source.dtype == np.uint16 else kernels.quantize_f32
        refused = kernel(*address(source), rows, cols, high, wide, encoding.peak, codes.ctypes.data, cols, scale.ctypes.data, scale.shape[1])
        return QTensor(codes, encoding, (Grid(encoding.scale, scale),)), refused
    largest = reader.wholes.largest(reader.rect, weight, True) if encoding.scale.inner and not given else None
    blocks = fast.blocks_of(source, encoding, largest)
    grids, rule = quantize.grids_of(blocks, encoding, given, rule)
    codes = scratch.array("codes", source.shape, np.uint8)
    codes[...] = 0
    q = QTensor(codes, encoding, grids)
    fast.encode_into(source, q, rule, fast.PLAIN, codes)
    return q, int(np.count_nonzero(quantize.refused_blocks(q, blocks)))


def _new_grid(grid: Grid, corner: tuple[int, int], part: Part, slab: Slab) -> None:
    """The values of a factor for the blocks under `part`; `grid` is in logical axes."""
    spans = []
    for axis, (start, length) in enumerate(zip(corner, (part.rows, part.cols), strict=True)):
        size = grid.field.block[axis]
        spans.append(slice(start // size, -(-(start + length) // size)) if size else slice(0, 1))
    cut = grid.own[spans[0], spans[1]]
    slab.place(_own(grid.field, slab), cut.T if part.turned else cut, part)
    for inner in grid.inner:
        _place_whole(inner.field, inner.own, slab)


def _own(factor: Field, slab: Slab) -> Field:
    """The same field in the slab's stored axes."""
    return next(f for f in slab.encoding.factors if f.suffix == factor.suffix)


def _decoded(reader: Reading, fragments: tuple[Fragment, ...], rect: Rect, region: np.ndarray, slab: Slab, scratch: Scratch) -> np.ndarray:
    """Fill `region` with the real values of a logical rectangle; returns what is to be quantized.

    That is `region` itself, or the BF16 bits in the mapped file where they are the whole rectangle: half the bytes to read.
    """
    row, col, rows, cols = rect
    for f in fragments:
        hit = _intersection(f, rect)
        if hit is None:
            continue
        q = reader.rect(f, *hit)
        if values(q, region[hit[0] - row : hit[0] - row + hit[2], hit[1] - col : hit[1] - col + hit[3]], scratch):
            raise _nan(slab, 1)
        if q.encoding.dtype == "BF16" and q.shape == (rows, cols) and not f.turned:
            return q.codes_RC
    return region


def _intersection(f: Fragment, rect: Rect) -> Rect | None:
    """What a fragment holds of a logical rectangle."""
    row, col, rows, cols = rect
    top, left = max(row, f.lrow), max(col, f.lcol)
    end, edge = min(row + rows, f.lrow + f.lrows), min(col + cols, f.lcol + f.lcols)
    return (top, left, end - top, edge - left) if top < end and left < edge else None


def _rect(array: np.ndarray, row: int, col: int, part: Part) -> np.ndarray:
    return array[row : row + part.rows, col : col + part.cols]


def _whole_blocks(fragments: tuple[Fragment, ...], part: Part, encoding: Encoding) -> Rect:
    """The logical rectangle of whole blocks around `part`, inside what the fragments hold. An axis that one scale spans needs no more rows:
    that scale is known beforehand."""
    end = max(f.lrow + f.lrows for f in fragments)
    edge = max(f.lcol + f.lcols for f in fragments)
    high, wide = encoding.block or (1, 1)
    if encoding.block == (0, 0):
        return part.row, part.col, part.rows, part.cols
    row, col = part.row // high * high if high else 0, part.col // wide * wide if wide else 0
    bottom = min(end, -(-(part.row + part.rows) // high) * high) if high else end
    right = min(edge, -(-(part.col + part.cols) // wide) * wide) if wide else edge
    return row, col, bottom - row, right - col


def _measure(q: QTensor, part: Part, slab: Slab, loss: Loss, scratch: Scratch, count: bool = True) -> None:
    """Compare a few rows of what was written with what was read."""
    few, cols = min(q.shape[0], 128 // SAMPLE), q.shape[1]
    written = slab.written_part(part, few)
    before, after = scratch.array("before", (few, cols), np.float32), scratch.array("after", (few, cols), np.float32)
    values(q.cut(0, 0, few, cols), before, scratch)
    values(written, after, scratch)
    compare(before, after, loss)
    if count:
        loss.values += q.shape[0] * q.shape[1]


def compare(before: np.ndarray, after: np.ndarray, loss: Loss) -> None:
    """Add signal and error power. The sums run in float64 over whole rows, so that they do not depend on the threads."""
    before, after = np.ascontiguousarray(before), np.ascontiguousarray(after)
    out = np.array([0, 0, 0, 0, 0, -1], np.float64)
    kernels.compare_f32(*address(before), *address(after), *before.shape, 0, 0, 0, 0, 1, 1, np.inf, 0.0, out.ctypes.data)
    loss.measured += before.size
    loss.signal += float(out[0])
    loss.error += float(out[1])


__all__ = ["Loss", "Scratch", "Slab", "apply", "compare", "stored_values"]
