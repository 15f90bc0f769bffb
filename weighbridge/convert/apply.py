"""One piece, from source bytes to a slab of the destination: the only place where values change."""

from __future__ import annotations

import numpy as np

from weighbridge.convert.reading import Reading
from weighbridge.convert.requantize import new_scales
from weighbridge.convert.slab import Loss, Slab
from weighbridge.encoding import codec as fp8
from weighbridge.encoding import kernels
from weighbridge.errors import Problem, Refused
from weighbridge.formats import codec, fast
from weighbridge.formats.element import ELEMENTS, difference
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.scheme import Field, Role
from weighbridge.formats.values import Scratch, above_240, address, row_major, single_grid, values
from weighbridge.layouts.placement import Part
from weighbridge.plan.plan import Piece
from weighbridge.plan.steps import Kind

MODES = {"halve": kernels.HALVE, "double": kernels.DOUBLE, "legacy-448-240": kernels.LEGACY}
SAMPLE = 16  # one block row of this many is measured where measuring all would cost more than the step


def apply(reader: Reading, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Fill the rectangle `part` (a clip of `piece.part`, rows relative to the slab) of `slab`."""
    if piece.scale_only:
        _only_scales(reader, piece, part, slab, scratch)
        return
    kind = piece.step.kind
    if kind in (Kind.QUANTIZE, Kind.SHIFT):
        new_scales(reader, piece, part, slab, scratch)
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


def _to_float(q: QTensor, out: np.ndarray, lossy: bool, slab: Slab) -> None:
    """One plain dtype to another. Values beyond the largest of the new one have no place in it."""
    with np.errstate(over="ignore"):
        wide = q.decode()
    out[...] = codec.to_dtype(np.ascontiguousarray(wide), slab.encoding.dtype).view(out.dtype).reshape(out.shape)
    if lossy:
        before = q.codes_RC if q.codes_RC.dtype.kind == "f" else wide
        beyond = int(np.count_nonzero(np.isfinite(before) & ~np.isfinite(QTensor(out, slab.encoding).decode())))
        if beyond:
            raise Refused([Problem("not-finite", f"{beyond:,} values of up to {np.abs(before[np.isfinite(before)]).max():g} have no place in {slab.encoding.dtype}",
                                   slab.name, "choose a layout with a wider type, such as hf-bf16")])
        loss = slab.loss("round")
        loss.values += out.size
        loss.compare(wide, QTensor(out, slab.encoding).decode())


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
        raise slab.not_numbers(nans)
    if lossy:
        loss = slab.loss("decode")
        loss.values += out.size
        before = scratch.array("before", (min(out.shape[0], 128 // SAMPLE), out.shape[1]), np.float32)
        values(q.cut(0, 0, *before.shape), before, scratch)
        loss.compare(before, QTensor(out[: before.shape[0]], slab.encoding).decode())


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
    slab.place_whole(inner, value if inner.role is whole.field.role else np.float32(1) / value)


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
        raise slab.not_numbers(nans)
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


def _measure(q: QTensor, part: Part, slab: Slab, loss: Loss, scratch: Scratch, count: bool = True) -> None:
    """Compare a few rows of what was written with what was read."""
    few, cols = min(q.shape[0], 128 // SAMPLE), q.shape[1]
    written = slab.written_part(part, few)
    before, after = scratch.array("before", (few, cols), np.float32), scratch.array("after", (few, cols), np.float32)
    values(q.cut(0, 0, few, cols), before, scratch)
    values(written, after, scratch)
    loss.compare(before, after)
    if count:
        loss.values += q.shape[0] * q.shape[1]
