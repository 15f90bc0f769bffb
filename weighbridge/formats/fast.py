"""The codec by the kernels: the same functions as `codec`, `qtensor` and `quantize` have, at the speed of memory, and without the GIL.

What a kernel does not do, the specification does: nothing here decides what a value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from weighbridge.encoding import kernels
from weighbridge.formats import codec, quantize, stored
from weighbridge.formats.codec import Fetch
from weighbridge.formats.element import ELEMENTS, Element
from weighbridge.formats.kernels import load
from weighbridge.formats.packing import AWQ_ORDER, Packing, ordered, whole
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.rules import RULES, Blocks, Rule
from weighbridge.formats.scheme import Encoding, Role

RESULTS = {"F32": (4, np.dtype("<f4")), "BF16": (2, np.dtype("<u2")), "F16": (1, np.dtype("<f2"))}  # the kernel's word, what an array of it is
FOREVER = 1 << 40  # a block as long as the axis
PLAIN = whole(8)
AWQ = ordered(4, AWQ_ORDER)


class Bits(NamedTuple):
    """A packing as the kernels take it. `starts` keeps alive what its address points to."""

    kind: int
    width: int
    values: int
    size: int
    word: int
    starts: np.ndarray

    @property
    def words(self) -> tuple[int, ...]:
        return (*self[:5], self.starts.ctypes.data)


@cache
def bits_of(packing: Packing) -> Bits:
    from weighbridge.formats.kernels import bits

    in_a_row = packing.starts == tuple(packing.width * i for i in range(packing.values))
    if packing.axis == -2 and packing.packed:
        kind = bits.ROWS
    elif not packing.packed or (packing.width == 8 and in_a_row):
        kind = bits.BYTES
    elif packing.width == 4 and in_a_row:
        kind = bits.LOW_FIRST
    elif packing.width == 4 and packing.starts == (4, 0):
        kind = bits.HIGH_FIRST
    elif packing.starts == AWQ.starts and packing.width == 4:
        kind = bits.AWQ
    else:
        kind = bits.STREAM if in_a_row else bits.UNITS
    return Bits(kind, packing.width, packing.values, packing.size, packing.word, np.array(packing.starts, np.int64))


def unpack(raw: np.ndarray, packing: Packing, count: int) -> np.ndarray:
    """`codec.unpack`."""
    raw = np.ascontiguousarray(raw, np.uint8)
    rows, cols = (count, raw.shape[1] // packing.word) if packing.axis == -2 else (raw.shape[0], count)
    _check(raw, packing, rows, cols)
    codes = np.empty((rows, cols), np.uint8)
    load("unpack")(raw.ctypes.data, raw.shape[1], *bits_of(packing).words, rows, cols, codes.ctypes.data, cols)
    return codes


def pack(codes: np.ndarray, packing: Packing) -> np.ndarray:
    """`codec.pack`."""
    codes = np.ascontiguousarray(codes, np.uint8)
    out = np.zeros(codec.packed_shape(codes.shape, packing), np.uint8)
    load("pack")(codes.ctypes.data, codes.shape[1], *bits_of(packing).words, *codes.shape, out.ctypes.data, out.shape[1])
    return out


def _check(raw: np.ndarray, packing: Packing, rows: int, cols: int) -> None:
    if raw.shape != codec.packed_shape((rows, cols), packing):
        raise ValueError(f"[{rows}, {cols}] values of {packing.width} bits fill {codec.packed_shape((rows, cols), packing)} bytes, not {raw.shape}")


@cache
def _element(name: str) -> tuple[int, int, int, int, int]:
    """An element as `decode` takes it."""
    from weighbridge.formats.kernels import decode

    form = ELEMENTS[name]
    if form.kind == "offset":
        return decode.OFFSET, form.bits, 0, form.bias, 0
    if form.kind == "int":
        return decode.SIGNED, form.bits, 0, 0, 0
    if form.kind == "float" and form.finite or name == "e4m3fn":
        return (decode.FLOAT if form.finite else decode.FLOAT_NAN), form.bits, form.mantissa, form.bias, 0
    return decode.TABLE, form.bits, 0, 0, codec.table(name).ctypes.data  # the table lives as long as the process


def read(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, rows: tuple[int, int] | None = None) -> QTensor:
    """`stored.read`."""
    return stored.read(encoding, shape, fetch, rows, unpack)


def decode(q: QTensor, dtype: str, out: np.ndarray | None = None) -> np.ndarray:
    """The values of `q` as F32, BF16 (uint16 bits) or F16, [rows, columns]: as `q.decode()`, rounded once to nearest, ties to even.

    `out` takes them, if given; its columns must lie side by side.
    """
    item, kind = RESULTS[dtype]
    out = np.empty(q.shape, kind) if out is None else out
    if not q.encoding.quantized or not _simple(q):
        out[...] = codec.to_dtype(q.decode(), dtype).view(kind).reshape(q.shape)
    elif q.codes_RC.strides[1] != 1:
        out[...] = decode(q.T, dtype).T
    else:
        _run(q, q.codes_RC, q.codes_RC.strides[0], PLAIN, 0, out, item)
    return out


def decode_stored(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, dtype: str, rows: tuple[int, int] | None = None,
                  out: np.ndarray | None = None) -> np.ndarray:
    """The values of rows [start, stop) of a stored matrix: as `decode(read(...))`, without the codes as an array of their own."""
    (start, stop), field, source = rows or (0, shape[0]), encoding.code, stored.Source(shape, fetch, unpack)
    if field.flat or not field.packing.packed or not encoding.quantized:
        return decode(read(encoding, shape, fetch, rows), dtype, out)
    q = stored.with_factors(np.broadcast_to(np.uint8(0), (stop - start, shape[1])), encoding, source, start, stop)  # codes that take no memory
    if not _simple(q):
        return decode(read(encoding, shape, fetch, rows), dtype, out)
    item, kind = RESULTS[dtype]
    raw = source.bytes_of(field)
    assert raw is not None
    codec.check_size(field, raw, shape)
    raw = raw.reshape(codec.packed_shape(shape, field.packing))
    out = np.empty((stop - start, shape[1]), kind) if out is None else out
    _run(q, raw, raw.shape[1], field.packing, start, out, item)
    return out


def _simple(q: QTensor) -> bool:
    """Whether the kernel does it: one scale, zero points on the same blocks, no order of columns."""
    scales, zero = [g for g in q.grids if g.field.role is Role.SCALE], q.grid(Role.ZERO)
    others = [g for g in q.grids if g.field.role not in (Role.SCALE, Role.ZERO, Role.ORDER)]
    ordered_columns = q.order is not None and q.order[0] == 1
    return len(scales) == 1 and not others and not ordered_columns and (zero is None or zero.field.block == scales[0].field.block)


def _run(q: QTensor, raw: np.ndarray, src_ld: int, packing: Packing, first_row: int, out: np.ndarray, item: int) -> None:
    scale, zero = q.grid(Role.SCALE), q.grid(Role.ZERO)
    assert scale is not None
    _check_out(out, q.shape, 4 if item == RESULTS["F32"][0] else 2)
    scales, zeros = np.ascontiguousarray(scale.values), np.ascontiguousarray(zero.values, np.float32) if zero else None
    order = np.ascontiguousarray(q.order[1], np.int32) if q.order else None
    _check_grids(q, scales, zeros)
    if zero is None and order is None and _wide_fp8(q.encoding) and item != RESULTS["F16"][0]:
        name = "decode_bf16" if item == RESULTS["BF16"][0] else "decode_f32"
        kernels.load(name)(raw.ctypes.data + first_row * src_ld, src_ld, *q.shape, scales.ctypes.data, scales.shape[1], *q.origin,
                           *(b or FOREVER for b in scale.field.block), out.ctypes.data, out.strides[0] // out.itemsize)
        return
    load("decode")(raw.ctypes.data, src_ld, *bits_of(packing).words, *_element(q.encoding.element), scales.ctypes.data, scales.shape[1],
                   zeros.ctypes.data if zeros is not None else 0, zeros.shape[1] if zeros is not None else 0,
                   order.ctypes.data if order is not None else 0, *q.shape, *q.origin, *(b or FOREVER for b in scale.field.block), first_row,
                   out.ctypes.data, out.strides[0] // out.itemsize, item)


def _check_out(out: np.ndarray, shape: tuple[int, int], size: int) -> None:
    """Kernels write to addresses: what they write to must be as large as they take it to be."""
    if out.shape != shape or out.itemsize != size or (out.size and out.strides[1] != size) or not out.flags.writeable:
        raise ValueError(f"the result is {[*shape]} of {size} bytes each, side by side in a row, not {[*out.shape]} of {out.itemsize}")


def _check_grids(q: QTensor, scales: np.ndarray, zeros: np.ndarray | None) -> None:
    """Raise ValueError where a region reaches beyond its grid."""
    scale = q.grid(Role.SCALE)
    assert scale is not None
    needed = []
    for axis, size in enumerate(scale.field.block):
        whole_axis = q.order is not None and q.order[0] == axis
        last = int(q.order[1].max(initial=0)) if whole_axis and q.order else (q.origin[axis] + q.shape[axis] - 1) // (size or FOREVER)
        needed.append(last + 1 if q.shape[axis] else 0)
    for grid in (scales, scales if zeros is None else zeros):
        if grid.shape[0] < needed[0] or grid.shape[1] < needed[1]:
            raise ValueError(f"a region of {[*q.shape]} from {[*q.origin]} on needs a grid of {needed}, not {[*grid.shape]}")


def _wide_fp8(encoding: Encoding) -> bool:
    """Whether `encoding.kernels` has the faster way: E4M3 codes, and blocks that are long in a row."""
    return encoding.element == "e4m3fn" and encoding.block is not None and (encoding.block[1] == 0 or encoding.block[1] >= 64)


def blocks_of(values: np.ndarray, encoding: Encoding, largest: float | None = None) -> Blocks:
    """`quantize.blocks_of`, of float32 values or of bfloat16 bits (uint16)."""
    assert encoding.block is not None
    values = _values(values)
    high, wide = (size or max(1, length) for size, length in zip(encoding.block, values.shape, strict=True))
    shape = -(-values.shape[0] // high), -(-values.shape[1] // wide)
    low, top = np.empty(shape, np.float32), np.empty(shape, np.float32)
    load("ranges")(values.ctypes.data, values.strides[0] // values.itemsize, values.itemsize, *values.shape, high, wide, low.ctypes.data,
                   top.ctypes.data, shape[1])
    return quantize.with_largest(low, top, encoding, largest)


def _values(values: np.ndarray) -> np.ndarray:
    values = values if values.dtype == np.uint16 else np.asarray(values, np.float32)
    return values if values.strides[1] == values.itemsize else np.ascontiguousarray(values)


class Stored(NamedTuple):
    """What is written: the bytes of the codes [rows, bytes], the factors' grids, and the blocks that were refused."""

    codes: np.ndarray
    grids: tuple[Grid, ...]
    refused: int


def quantize_stored(values: np.ndarray, encoding: Encoding, given: Mapping[str, np.ndarray] | None = None, largest: float | None = None,
                    rule: str = "", out: np.ndarray | None = None) -> Stored:
    """`quantize.quantize` and `codec.pack` in one, of float32 values or bfloat16 bits. `out`, if given, takes the bytes; it must be zero."""
    values, given = _values(values), given or {}
    if not given and largest is None and _wide_fp8(encoding) and quantize.rule_of(encoding, rule) is RULES["amax"] and _scale_is_f32(encoding):
        return _quantize_fp8(values, encoding, out)
    chosen = quantize.rule_of(encoding, rule)
    blocks = blocks_of(values, encoding, largest)
    grids, chosen = quantize.grids_of(blocks, encoding, given, chosen)
    q = QTensor(np.empty((0, 0), np.uint8), encoding, grids)
    packing = encoding.code.packing
    out = np.zeros(codec.packed_shape(values.shape, packing), np.uint8) if out is None else out
    _check_out(out, codec.packed_shape(values.shape, packing), 1)
    encode_into(values, q, chosen, packing, out)
    return Stored(out, grids, int(np.count_nonzero(quantize.refused_blocks(q, blocks))))


def _scale_is_f32(encoding: Encoding) -> bool:
    return encoding.scale is not None and encoding.scale.element == "f32"


def _quantize_fp8(values: np.ndarray, encoding: Encoding, out: np.ndarray | None) -> Stored:
    assert encoding.scale is not None
    high, wide = (size or max(1, length) for size, length in zip(encoding.scale.block, values.shape, strict=True))
    scale = np.empty((-(-values.shape[0] // high), -(-values.shape[1] // wide)), np.float32)
    out = np.empty(values.shape, np.uint8) if out is None else out
    _check_out(out, (values.shape[0], values.shape[1]), 1)
    refused = kernels.load("quantize_bf16" if values.itemsize == 2 else "quantize_f32")(
        values.ctypes.data, values.strides[0] // values.itemsize, *values.shape, high, wide, encoding.peak, out.ctypes.data, out.strides[0],
        scale.ctypes.data, scale.shape[1])
    return Stored(out, (Grid(encoding.scale, scale),), refused)


def encode_into(values: np.ndarray, q: QTensor, rule: Rule, packing: Packing, out: np.ndarray) -> None:
    """The codes of values with the grids of `q`, packed into bytes that are zero."""
    scale, zero = q.grid(Role.SCALE), q.grid(Role.ZERO)
    assert scale is not None and (zero is None or zero.field.block == scale.field.block)
    scales, zeros = np.ascontiguousarray(scale.values), np.ascontiguousarray(zero.values, np.float32) if zero else None
    powers = scale.field.element == "e8m0" and not scale.inner
    if powers:  # to divide by a power of two and to multiply by its reciprocal rounds alike, and multiplying is sooner done
        with np.errstate(divide="ignore", invalid="ignore"):
            scales = np.float32(1) / scales
    load("encode")(values.ctypes.data, values.strides[0] // values.itemsize, values.itemsize, *values.shape, scales.ctypes.data, scales.shape[1],
                   zeros.ctypes.data if zeros is not None else 0, zeros.shape[1] if zeros is not None else 0,
                   *(b or FOREVER for b in scale.field.block), *bits_of(packing).words, *_target(ELEMENTS[q.encoding.element], rule),
                   int(rule.rounds_first), int(rule.signed_zero), *_limits(q.encoding), out.ctypes.data, out.strides[0], *q.origin, int(powers))


def _target(form: Element, rule: Rule) -> tuple[int, int, int, int]:
    from weighbridge.formats.kernels import encode

    if form.kind == "float":
        kind = encode.FLOAT if form.name != "e2m1" else encode.E2M1_UP if rule.half_up else encode.E2M1
        return kind, form.bits, form.mantissa, form.bias
    return (encode.OFFSET if form.kind == "offset" else encode.SIGNED), form.bits, 0, form.bias


def _limits(encoding: Encoding) -> tuple[float, float]:
    if ELEMENTS[encoding.element].kind == "float":
        return -encoding.peak, encoding.peak
    values = codec.table(encoding.element)
    return float(values.min()), float(values.max())
