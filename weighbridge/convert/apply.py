"""One piece, from source bytes to a slab of the destination: the only place where values change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from weighbridge.encoding import codec, kernels
from weighbridge.encoding.qtensor import QTensor
from weighbridge.encoding.scheme import Encoding
from weighbridge.errors import Problem, Refused
from weighbridge.layouts.placement import Part, Stored
from weighbridge.plan.cover import Fragment, Rect
from weighbridge.plan.plan import Piece
from weighbridge.plan.reader import Reader

MODES = {"copy": kernels.COPY, "round-scales": kernels.COPY, "reciprocal": kernels.COPY, "halve": kernels.HALVE,
         "double": kernels.DOUBLE, "legacy-448-240": kernels.LEGACY}
SAMPLE = 16  # one block row of this many is measured where measuring all would cost more than the step


@dataclass
class Loss:
    """What a lossy step did, as sums: `signal` and `error` are powers of the `measured` values."""

    values: int = 0
    inexact: int = 0
    measured: int = 0
    signal: float = 0.0
    error: float = 0.0

    def add(self, other: Loss) -> None:
        for name in ("values", "inexact", "measured", "signal", "error"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Slab:
    """Rows [start, stop) of matrix `lead` of one destination tensor, in memory."""

    name: str
    encoding: Encoding
    lead: int
    start: int
    codes_RC: np.ndarray
    scale_RbCb: np.ndarray | None
    losses: dict[str, Loss] = field(default_factory=dict)

    def loss(self, step: str) -> Loss:
        return self.losses.setdefault(step, Loss())


class Scratch:
    """Buffers of one thread, grown once and used again."""

    def __init__(self) -> None:
        self.held: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        held = self.held.get(name)
        if held is None or held.size < size:
            held = self.held[name] = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)


def apply(reader: Reader, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Fill the rectangle `part` (a clip of `piece.part`, rows relative to the slab) of `slab`."""
    name = piece.step.name
    if piece.scale_only:
        _only_scales(reader, piece, part, slab, scratch)
        return
    if name in ("requantize", "quantize"):
        _new_scales(reader, piece, part, slab, scratch)
        return
    q = reader.rect(piece.fragments[0], part.row, part.col, part.rows, part.cols)
    q = q.T if part.turned else q
    rows, cols = q.shape
    out = slab.codes_RC[part.at_row : part.at_row + rows, part.at_col : part.at_col + cols]
    if name == "decode":
        _decode(q, out, slab, scratch)
    elif q.encoding.quantized:
        _codes(q, out, name, piece.step.lossy, part, slab, scratch)
    elif name in ("round", "round-f16"):
        _round(q, out, name, slab)
    elif name == "widen":
        out[...] = q.decode()
    else:
        np.copyto(out, q.codes_RC)


def _round(q: QTensor, out: np.ndarray, name: str, slab: Slab) -> None:
    """Plain values to BF16 or F16. Beyond 65504 float16 has infinity only: such a weight is refused."""
    before = q.decode()
    with np.errstate(over="ignore"):
        out[...] = codec.to_bf16(before) if name == "round" else before
    after = codec.from_bf16(out) if name == "round" else out.astype(np.float32)
    beyond = int(np.count_nonzero(np.isinf(after) & np.isfinite(before)))
    if beyond:
        largest = float(np.abs(before[np.isfinite(before)]).max())
        raise Refused([Problem("overflow", f"{beyond:,} values have no place in {slab.encoding.dtype}: the largest is {largest:.6g}", slab.name,
                               "keep these weights in a wider type")])
    loss = slab.loss(name)
    loss.values += out.size
    _compare(before, after, loss)


def _only_scales(reader: Reader, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Make the rectangle beside the slab and take its scales: the values belong to another rank."""
    codes = np.empty((slab.codes_RC.shape[0], part.at_col + part.extent[1]), slab.codes_RC.dtype)
    beside = Slab(slab.name, slab.encoding, slab.lead, slab.start, codes, slab.scale_RbCb)
    apply(reader, piece._replace(scale_only=False), part, beside, scratch)


def address(array: np.ndarray) -> tuple[int, int]:
    """Where a row-major view begins, and its row stride in elements."""
    return array.ctypes.data, array.strides[0] // array.itemsize


def _nan(slab: Slab, count: int) -> Refused:
    return Refused([Problem("nan-code", f"{count:,} codes are NaN (0x7F or 0xFF) in rows {slab.start}.. of matrix {slab.lead}", slab.name,
                            "the weights are damaged; the unfinished folder says so, remove it")])


def _codes(q: QTensor, out: np.ndarray, step: str, lossy: bool, part: Part, slab: Slab, scratch: Scratch) -> None:
    """FP8 to FP8 with the same grid or a finer one."""
    rows, cols = q.shape
    if q.encoding.peak == 240.0 and above_240(q).any():
        raise Refused([Problem("above-240", f"{int(above_240(q).sum()):,} codes are 0x78 or above, which Neuron's E4M3 reads as infinity or NaN",
                               slab.name, "this checkpoint was never brought below 240; convert the published one")])
    turned = q.codes_RC.strides[1] != q.codes_RC.itemsize
    source = q.codes_RC.T if turned else q.codes_RC
    high, wide = q.encoding.block[::-1] if turned else q.encoding.block  # type: ignore[index]
    high, wide = min(high, source.shape[0]), min(wide, source.shape[1])
    counts = scratch.array("counts", (-(-source.shape[0] // high), -(-source.shape[1] // wide)), np.int32)
    counting = step in ("halve", "double")
    src, src_ld = address(source)
    dst, dst_ld = address(out)
    nans = kernels.move(src, src_ld, *source.shape, dst, dst_ld, turned, MODES[step], high, wide, counts.ctypes.data if counting else 0)
    if nans:
        raise _nan(slab, nans)
    _place_scales(_regrid(q, step, part, slab), part, slab)
    if step == "double" and counts.any():
        raise Refused([Problem("double-overflow", f"{int(counts.sum()):,} codes above 224 cannot be doubled", slab.name,
                               "this checkpoint was not made by halving; convert without its manifest")])
    if lossy:
        loss = slab.loss(step)
        loss.values += rows * cols
        loss.inexact += int(counts.sum()) if step == "halve" else 0
        _measure(q, out, part, slab, loss, scratch)


def _regrid(q: QTensor, step: str, part: Part, slab: Slab) -> np.ndarray:
    """The scales of the destination's blocks inside the piece, after the step."""
    rows, cols = (_block_starts(size, at, block) for size, at, block in
                  zip(q.shape, (part.at_row + slab.start, part.at_col), slab.encoding.block, strict=True))  # type: ignore[arg-type]
    scale = q.scales_at(rows, cols)
    if step == "double":
        _require_uniform(q, rows, cols, scale, slab)
        return scale * np.float32(0.5)
    if step == "halve":
        return scale * np.float32(2)
    if step == "legacy-448-240":
        return codec.legacy_scale(scale)
    return np.float32(1) / scale if step == "reciprocal" else scale


def _block_starts(size: int, at: int, block: int) -> np.ndarray:
    """Position inside the piece of the first element of each destination block that it touches."""
    first = -(-at // block) * block - at
    starts = np.arange(first, size, block)
    return starts if first == 0 else np.concatenate(([0], starts))


def _require_uniform(q: QTensor, rows: np.ndarray, cols: np.ndarray, scale: np.ndarray, slab: Slab) -> None:
    """Doubling may join finer blocks only where their scales are equal, as an exact conversion left them."""
    high = q.encoding.block[0]  # type: ignore[index]
    if high >= slab.encoding.block[0]:  # type: ignore[index]
        return
    every = np.arange(0, q.shape[0], high)
    joined = scale[np.searchsorted(rows, every, side="right") - 1]
    if not np.array_equal(q.scales_at(every, cols), joined):
        raise Refused([Problem("scale-grid", "rows of one block have different scales, so the block has no single one", slab.name,
                               "this checkpoint was not made by an exact conversion")])


def _place_scales(scale: np.ndarray, part: Part, slab: Slab) -> None:
    """Write scales into the slab's grid as they will be stored; two pieces that share a block must bring the same."""
    scale = stored_scale(scale, slab.encoding)
    high, wide = slab.encoding.block  # type: ignore[misc]
    top, left = (part.at_row + slab.start) // high - slab.start // high, part.at_col // wide
    cells = slab.scale_RbCb[top : top + scale.shape[0], left : left + scale.shape[1]]  # type: ignore[index]
    if not (np.isnan(cells) | (cells == scale)).all():
        raise Refused([Problem("scale-grid", "two pieces of one block bring different scales", slab.name, "this is a fault of the layout")])
    cells[...] = scale


def stored_scale(scale: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Scales as the file holds them, in float32: rounded where they are stored in BF16."""
    return codec.from_bf16(codec.to_bf16(scale)) if encoding.scale_dtype == "BF16" else scale


def scale_rows(stored: Stored, encoding: Encoding, scale: np.ndarray) -> np.ndarray:
    """A slab's grid as it goes into the file: padding is zero, and padded columns stand where the reader wants them."""
    grid = np.nan_to_num(scale, nan=0.0, posinf=np.inf)
    width = stored.scale_shape(encoding)[-1]
    if stored.scale_slots and width != grid.shape[1]:
        wide = np.zeros((grid.shape[0], width), np.float32)
        wide[:, list(stored.scale_slots)] = grid
        grid = wide
    return codec.to_bf16(grid) if encoding.scale_dtype == "BF16" else grid


def _decode(q: QTensor, out: np.ndarray, slab: Slab, scratch: Scratch) -> None:
    """FP8 to BF16 or F32, turned through scratch where the stored axes differ."""
    q = _row_major(q, scratch)
    src, src_ld = address(q.codes_RC)
    dst, dst_ld = address(out)
    scale = np.ascontiguousarray(q.scale_RbCb)
    kernel = kernels.decode_f32 if slab.encoding.dtype == "F32" else kernels.decode_bf16
    nans = kernel(src, src_ld, *q.shape, scale.ctypes.data, scale.shape[1], *q.origin, *q.encoding.block, dst, dst_ld)
    if nans:
        raise _nan(slab, nans)
    if slab.encoding.dtype == "BF16":
        loss = slab.loss("decode")
        loss.values += out.size
        before = scratch.array("before", (min(out.shape[0], 128 // SAMPLE), out.shape[1]), np.float32)
        values(q.cut(0, 0, *before.shape), before, scratch)
        _compare(before, codec.from_bf16(out[: before.shape[0]]), loss)


def _row_major(q: QTensor, scratch: Scratch) -> QTensor:
    if q.codes_RC.strides[1] == q.codes_RC.itemsize:
        return q
    turned = scratch.array("turned", q.shape, q.codes_RC.dtype.type)
    if q.codes_RC.itemsize == 1:
        src, src_ld = address(q.codes_RC.T)
        dst, dst_ld = address(turned)
        kernels.move(src, src_ld, *q.codes_RC.T.shape, dst, dst_ld, True, kernels.COPY, 1, 1, 0)
    else:
        np.copyto(turned, q.codes_RC)
    return QTensor(turned, q.scale_RbCb, q.encoding, q.origin)


def values(q: QTensor, out: np.ndarray, scratch: Scratch) -> int:
    """Real values of `q` into the float32 region `out`; returns the number of NaN codes."""
    if not q.encoding.quantized:
        out[...] = codec.from_bf16(q.codes_RC) if q.encoding.dtype == "BF16" else q.codes_RC
        return 0
    q = _row_major(q, scratch)
    scale = np.ascontiguousarray(q.scale_RbCb)
    src, src_ld = address(q.codes_RC)
    dst, dst_ld = address(out)
    nans = kernels.decode_f32(src, src_ld, *q.shape, scale.ctypes.data, scale.shape[1], *q.origin, *q.encoding.block, dst, dst_ld)
    if q.encoding.peak == 240.0 and (above := above_240(q)).any():
        out[above] = np.where(q.codes_RC[above] & 0x80, -np.inf, np.inf)  # what the device makes of these bytes
    return nans


def above_240(q: QTensor) -> np.ndarray:
    """Which codes mean infinity or NaN to a reader of Neuron's E4M3: 0x78 and above, and their negatives."""
    return (q.codes_RC & 0x7F) >= 0x78


def _new_scales(reader: Reader, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Decode whole blocks to float32, quantize them, and take the rectangle that belongs here."""
    block = slab.encoding.block[::-1] if part.turned else slab.encoding.block  # type: ignore[index]
    row, col, rows, cols = _whole_blocks(piece.fragments, part, block)
    region = scratch.array("region", (rows, cols), np.float32)
    source = _decoded(reader, piece.fragments, (row, col, rows, cols), region, slab, scratch)
    codes, scale = quantize(source, block, slab.encoding.peak, slab.name, scratch)
    down, right = part.row - row, part.col - col
    taken = _rect(codes, down, right, part)
    rows_out, cols_out = part.extent
    out = slab.codes_RC[part.at_row : part.at_row + rows_out, part.at_col : part.at_col + cols_out]
    out[...] = taken.T if part.turned else taken
    grid = scale[down // block[0] : -(-(down + part.rows) // block[0]), right // block[1] : -(-(right + part.cols) // block[1])]
    _place_scales(grid.T if part.turned else grid, part, slab)
    loss = slab.loss(piece.step.name)
    loss.values += part.rows * part.cols
    back = scratch.array("back", (rows, cols), np.float32)
    scale = stored_scale(scale, slab.encoding)
    values(QTensor(codes, scale, Encoding("F8_E4M3", block, "F32", slab.encoding.peak)), back, scratch)
    _compare(_rect(region, down, right, part), _rect(back, down, right, part), loss)


def _decoded(reader: Reader, fragments: tuple[Fragment, ...], rect: Rect, region: np.ndarray, slab: Slab, scratch: Scratch) -> np.ndarray:
    """Fill `region` with the real values of a logical rectangle; returns what is to be quantized.

    That is `region` itself, or the BF16 bits in the mapped file where they are the whole rectangle: half the bytes to read.
    """
    row, col, rows, cols = rect
    for f in fragments:
        top, left = max(row, f.lrow), max(col, f.lcol)
        end, edge = min(row + rows, f.lrow + f.lrows), min(col + cols, f.lcol + f.lcols)
        if top >= end or left >= edge:
            continue
        q = reader.rect(f, top, left, end - top, edge - left)
        if values(q, region[top - row : end - row, left - col : edge - col], scratch):
            raise _nan(slab, 1)
        if q.encoding.dtype == "BF16" and q.shape == (rows, cols) and not f.turned:
            return q.codes_RC
    return region


def _rect(array: np.ndarray, row: int, col: int, part: Part) -> np.ndarray:
    return array[row : row + part.rows, col : col + part.cols]


def _whole_blocks(fragments: tuple[Fragment, ...], part: Part, block: tuple[int, int]) -> tuple[int, int, int, int]:
    """The logical rectangle of whole blocks around `part`, inside what the fragments hold."""
    end = max(f.lrow + f.lrows for f in fragments)
    edge = max(f.lcol + f.lcols for f in fragments)
    row, col = part.row // block[0] * block[0], part.col // block[1] * block[1]
    bottom = min(end, -(-(part.row + part.rows) // block[0]) * block[0])
    right = min(edge, -(-(part.col + part.cols) // block[1]) * block[1])
    return row, col, bottom - row, right - col


def quantize(region: np.ndarray, block: tuple[int, int], peak: float, name: str, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of a region of whole blocks: float32 values, or BF16 bits (uint16)."""
    rows, cols = region.shape
    codes = scratch.array("codes", (rows, cols), np.uint8)
    scale = np.empty((-(-rows // block[0]), -(-cols // block[1])), np.float32)
    src, src_ld = address(region)
    kernel = kernels.quantize_bf16 if region.dtype == np.uint16 else kernels.quantize_f32
    refused = kernel(src, src_ld, rows, cols, *block, peak, codes.ctypes.data, cols, scale.ctypes.data, scale.shape[1])
    if refused:
        raise Refused([Problem("not-finite", f"{refused:,} blocks hold NaN or infinity", name, "the weights are damaged")])
    return codes, scale


def _measure(q: QTensor, out: np.ndarray, part: Part, slab: Slab, loss: Loss, scratch: Scratch) -> None:
    """Compare a few rows of what was written with what was read."""
    few, cols = min(out.shape[0], 128 // SAMPLE), q.shape[1]
    high, wide = slab.encoding.block  # type: ignore[misc]
    top = (part.at_row + slab.start) // high - slab.start // high
    written = QTensor(out, slab.scale_RbCb[top:, part.at_col // wide :], slab.encoding,  # type: ignore[index]
                      ((part.at_row + slab.start) % high, part.at_col % wide))
    before, after = scratch.array("before", (few, cols), np.float32), scratch.array("after", (few, cols), np.float32)
    values(q.cut(0, 0, few, cols), before, scratch)
    values(written.cut(0, 0, few, cols), after, scratch)
    _compare(before, after, loss)


def _compare(before: np.ndarray, after: np.ndarray, loss: Loss) -> None:
    """Add signal and error power. The sums run in float64 over whole rows, so that they do not depend on the threads."""
    before, after = np.ascontiguousarray(before), np.ascontiguousarray(after)
    out = np.array([0, 0, 0, 0, 0, -1], np.float64)
    kernels.compare_f32(*address(before), *address(after), *before.shape, 0, 0, 0, 0, 1, 1, np.inf, 0.0, out.ctypes.data)
    loss.measured += before.size
    loss.signal += float(out[0])
    loss.error += float(out[1])
