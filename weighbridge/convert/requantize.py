"""New scales: values of a source as codes of another scheme, whole blocks at a time."""

from __future__ import annotations

import numpy as np

from weighbridge.convert.reading import Reading
from weighbridge.convert.slab import Loss, Slab
from weighbridge.encoding import codec as fp8
from weighbridge.encoding import kernels
from weighbridge.errors import Problem, Refused
from weighbridge.formats import fast, quantize
from weighbridge.formats.bounds import window
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.rules import RULES, Blocks
from weighbridge.formats.scheme import Encoding, Field, Role
from weighbridge.formats.values import Scratch, address, values
from weighbridge.layouts.placement import Part
from weighbridge.plan.cover import Fragment, Rect
from weighbridge.plan.plan import Piece
from weighbridge.plan.steps import RESTORE, Kind


def new_scales(reader: Reading, piece: Piece, part: Part, slab: Slab, scratch: Scratch) -> None:
    """Decode whole blocks to float32, quantize them, and take the rectangle that belongs here."""
    encoding = slab.encoding.turned() if part.turned else slab.encoding
    row, col, rows, cols = _whole_blocks(piece.fragments, part, encoding)
    region = scratch.array("region", (rows, cols), np.float32)
    source = _decoded(reader, piece.fragments, (row, col, rows, cols), region, slab, scratch)
    shift = piece.step.kind is Kind.SHIFT
    if slab.kept:
        given = restored(slab.kept, encoding, (row, col, rows, cols), part.turned)
    else:
        given = _shifted(reader, piece, (row, col, rows, cols), encoding) if shift else _whole_scale(reader, part.weight, encoding)
    q, refused = quantized(source, encoding, given, reader, part.weight, scratch)
    if refused:
        raise Refused([Problem("not-finite", f"{refused:,} blocks hold NaN or infinity, or no scale fits them", slab.name, "the weights are damaged")])
    down, right = part.row - row, part.col - col
    taken = _rect(q.codes_RC, down, right, part)
    slab.view(part)[...] = taken.T if part.turned else taken
    for grid in q.grids:
        _new_grid(grid, (down, right), part, slab)
    loss = slab.loss(piece.step.name) if piece.step.lossy else Loss()
    loss.values += part.rows * part.cols
    loss.inexact += part.rows * part.cols if piece.step.name == RESTORE and not slab.kept else 0
    back = scratch.array("back", (rows, cols), np.float32)
    values(q, back, scratch)
    if source is not region:
        region[...] = fp8.from_bf16(source)
    loss.compare(_rect(region, down, right, part), _rect(back, down, right, part))
    if not piece.step.lossy and loss.error:
        raise Refused([Problem("not-exact", f"values that should fit {slab.encoding.scheme} exactly do not", slab.name, "add --inexact to round them")])


def restored(kept: dict[str, np.ndarray], encoding: Encoding, rect: Rect, turned: bool) -> dict[str, np.ndarray]:
    """The kept values of each factor for the whole blocks of a logical rectangle, by suffix; `kept` is in stored axes."""
    found = {}
    for factor in encoding.factors:
        for field in (factor, *factor.inner):
            if field.suffix in kept:
                own = kept[field.suffix].T if turned else kept[field.suffix]
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
        slab.place_whole(inner.field, inner.own)


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
            raise slab.not_numbers(1)
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
