"""The specification of codes, packings and fields: plain numpy, one idea per function, no speed wanted.

`formats.kernels` does the same at the speed of memory and must agree bit for bit. The rounding of small floats is `encoding.codec`'s.
Matrices have two axes, [rows, columns]; whoever has leading axes goes through them. Every scale is float32, rounded after each operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache

import ml_dtypes
import numpy as np

from weighbridge.encoding import codec as floats8
from weighbridge.formats.element import CODED, ELEMENTS, Element
from weighbridge.formats.packing import Packing
from weighbridge.formats.scheme import Field, Role

Fetch = Callable[[str], "np.ndarray | None"]
Unpack = Callable[[np.ndarray, Packing, int], np.ndarray]


@cache
def table(element: str) -> np.ndarray:
    """The value of every code, float32 [2**bits], read only. For elements of up to 8 bits."""
    form = ELEMENTS[element]
    if form.bits > 8:
        raise ValueError(f"{element} has {form.bits} bits: its values are read by `floats`, not by a table")
    values = _table(form)
    values.setflags(write=False)
    return values


def _table(form: Element) -> np.ndarray:
    code = np.arange(1 << form.bits, dtype=np.int32)
    if form.kind == "book":
        return np.array(form.book, np.float32)
    if form.kind == "int":
        return np.where(code >> form.bits - 1, code - (1 << form.bits), code).astype(np.float32)
    if form.kind == "offset":
        return (code - form.bias).astype(np.float32)
    return floats8.decode_table(form.name)


def encode(values: np.ndarray, element: str) -> np.ndarray:
    """The nearest code of each float32 value, uint8, any shape.

    Small floats: ties to the even code, beyond the largest saturates, NaN stays where the element has one (else 0). Integers: ties to the even
    integer, then clipped. Books: the nearest value, of two equally near the one with the smaller code. Powers (E8M0): exact powers of two and
    NaN; raises ValueError for any other value, since rounding a scale is a quantizer's decision.
    """
    form, values = ELEMENTS[element], np.asarray(values, np.float32)
    if form.kind == "float" and form.bits <= 8:
        return floats8.encode(values, element)
    if form.kind == "power":
        return _encode_power(values)
    if form.kind == "book":
        return _encode_book(values, table(element))
    if form.kind in ("int", "offset") and form.bits <= 8:
        low, high = table(element).min(), table(element).max()
        whole = np.clip(np.rint(np.nan_to_num(values, nan=0.0)), low, high).astype(np.int32)
        return ((whole + (form.bias if form.kind == "offset" else 0)) & (1 << form.bits) - 1).astype(np.uint8)
    raise ValueError(f"{element} has no codes of up to 8 bits")


def _encode_power(values: np.ndarray) -> np.ndarray:
    fraction, exponent = np.frexp(values)
    nan = np.isnan(values)
    code = np.where(nan, 255, exponent.astype(np.int32) + 126)
    wrong = ~nan & ((fraction != 0.5) | (code < 0) | (code > 254))
    if wrong.any():
        raise ValueError(f"{values[wrong].flat[0]:g} is no power of two from 2^-127 to 2^127")
    return code.astype(np.uint8)


def _encode_book(values: np.ndarray, book: np.ndarray) -> np.ndarray:
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=3.5e38, neginf=-3.5e38)
    order = np.argsort(book, kind="stable").astype(np.int32)  # of equal values the smaller code first
    ordered = book[order].astype(np.float64)
    right = np.clip(np.searchsorted(ordered, wide), 1, len(book) - 1)
    low, high = wide - ordered[right - 1], ordered[right] - wide
    first = order[np.searchsorted(ordered, ordered[right - 1])], order[np.searchsorted(ordered, ordered[right])]
    nearer = np.where(low < high, first[0], first[1])
    return np.where(low == high, np.minimum(*first), nearer).astype(np.uint8)


def unpack(raw: np.ndarray, packing: Packing, count: int) -> np.ndarray:
    """uint8 codes of stored bytes.

    `raw` is uint8 [rows, bytes]. Along columns: bytes of whole units, codes [rows, count]. Along rows: one row of words under the other, codes
    [count, columns]. Raises ValueError if the bytes are not those of `count` values.
    """
    raw = np.asarray(raw, np.uint8)
    if packing.axis == -2:
        return unpack(_columns_of(raw, packing), packing._replace(axis=-1), count).T
    units = packing.units(count)
    if raw.shape[1] != units * packing.size:
        raise ValueError(f"{count} values of {packing.width} bits fill {units * packing.size} bytes, not {raw.shape[1]}")
    bits = np.unpackbits(raw.reshape(raw.shape[0], units, packing.size), axis=-1, bitorder="little")
    places = np.array(packing.starts)[:, None] + np.arange(packing.width)
    code = (bits[..., places] << np.arange(packing.width, dtype=np.uint8)).sum(-1, dtype=np.uint8)
    return code.reshape(raw.shape[0], -1)[:, :count]


def pack(codes: np.ndarray, packing: Packing) -> np.ndarray:
    """Stored bytes of codes [rows, columns], uint8 [rows, bytes]: `unpack` the other way round. The last unit is filled up with zero bits."""
    codes = np.asarray(codes, np.uint8)
    if packing.axis == -2:
        return _rows_of(pack(codes.T, packing._replace(axis=-1)), packing)
    rows, count = codes.shape
    units = packing.units(count)
    whole = np.zeros((rows, units * packing.values), np.uint8)
    whole[:, :count] = codes
    bits = np.zeros((rows, units, packing.size * 8), np.uint8)
    places = np.array(packing.starts)[:, None] + np.arange(packing.width)
    bits[..., places] = whole.reshape(rows, units, packing.values, 1) >> np.arange(packing.width, dtype=np.uint8) & 1
    return np.packbits(bits, axis=-1, bitorder="little").reshape(rows, -1)


def packed_shape(shape: tuple[int, int], packing: Packing) -> tuple[int, int]:
    """[rows, bytes] of packed codes [rows, columns]."""
    if packing.axis == -2:
        return packing.units(shape[0]) * packing.size // packing.word, shape[1] * packing.word
    return shape[0], packing.units(shape[1]) * packing.size


def _columns_of(raw: np.ndarray, packing: Packing) -> np.ndarray:
    """Units that stand along the rows, word under word, as one row of bytes for each column."""
    words = packing.size // packing.word
    if raw.shape[0] % words or raw.shape[1] % packing.word:
        raise ValueError(f"[{raw.shape[0]}, {raw.shape[1]}] bytes are not whole units of {words} rows of {packing.word} bytes")
    cells = raw.reshape(raw.shape[0], -1, packing.word)
    return cells.transpose(1, 0, 2).reshape(cells.shape[1], -1)


def _rows_of(raw: np.ndarray, packing: Packing) -> np.ndarray:
    cells = raw.reshape(raw.shape[0], -1, packing.word)
    return np.ascontiguousarray(cells.transpose(1, 0, 2)).reshape(cells.shape[1], -1)


def floats(raw: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values of a tensor's bytes (uint8, one axis), by its safetensors dtype. F64 is rounded; a byte of U8 is an exponent (E8M0)."""
    raw = np.ascontiguousarray(raw, np.uint8).reshape(-1)
    if dtype == "BF16":
        return floats8.from_bf16(raw.view("<u2"))
    if dtype in ("F32", "F16", "F64"):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return raw.view({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).astype(np.float32)
    return table(_CODED[dtype])[raw]


_CODED = {**CODED, "U8": "e8m0"}


def to_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """The bytes of float32 values in a safetensors dtype, uint8 [rows, bytes] (any leading axes): rounded to nearest, ties to even.

    Raises ValueError where an exponent is asked for and a value is no power of two.
    """
    values = np.ascontiguousarray(values, np.float32)
    if dtype in _CODED:
        return encode(values, _CODED[dtype])
    if dtype == "BF16":
        return floats8.to_bf16(values).astype("<u2", copy=False).view(np.uint8)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype], copy=False).view(np.uint8)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values as a dtype holds them."""
    values = np.asarray(values, np.float32)
    if dtype == "F8_E4M3":  # the same as by way of the codes, and sooner: scales are many
        with np.errstate(invalid="ignore"):
            return np.clip(values, np.float32(-448), np.float32(448)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return values if dtype == "F32" else floats(to_dtype(values, dtype), dtype).reshape(values.shape)


def own_values(field: Field, raw: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What the field's own bytes say, without its `inner` fields: float32 [grid rows, grid columns]; an ORDER is int64.

    `raw` are all bytes of the field for a stored matrix of `shape` values. Raises ValueError if there are too few or too many.
    """
    raw = np.asarray(raw).reshape(-1).view(np.uint8)
    if field.role is Role.OFFSET:
        return np.full((1, 1), _number_in(raw, field.element), np.float32)
    grid = field.grid(*shape)
    check_size(field, raw, grid)
    return look(field, raw, grid)


def look(field: Field, raw: np.ndarray, grid: tuple[int, int], unpack: Unpack | None = None) -> np.ndarray:
    """The values that the field's bytes stand for, float32 (integers wider than a byte int64), for a grid of this size."""
    form = ELEMENTS[field.element]
    if form.bits > 8 and form.kind == "int":
        return raw.view(f"<i{form.bits // 8}").astype(np.int64).reshape(grid)
    values = floats(raw, field.dtype).reshape(grid) if form.bits > 8 else table(field.element)[codes_of(field, raw, grid, unpack)]
    return values / np.float32(field.over) if field.over != 1.0 else values


def check_size(field: Field, raw: np.ndarray, grid: tuple[int, int]) -> None:
    """Raise ValueError unless the bytes are those of a grid of this size."""
    high, wide = packed_shape(grid, field.packing)
    if raw.size != high * wide:
        raise ValueError(f"{field.suffix}: [{grid[0]}, {grid[1]}] values take {high * wide} bytes, not {raw.size}")


def codes_of(field: Field, raw: np.ndarray, grid: tuple[int, int], by: Unpack | None = None) -> np.ndarray:
    """uint8 codes of a field's grid, unpacked (by `unpack`, or a faster one). Where a unit holds one code, a view of the bytes."""
    if not field.packing.packed:
        return raw.reshape(grid)
    return (by or unpack)(raw.reshape(packed_shape(grid, field.packing)), field.packing, grid[field.packing.axis])


def _number_in(raw: np.ndarray, key: str) -> float:
    """A number of a JSON text (bitsandbytes' quant_state)."""
    try:
        value = json.loads(bytes(raw))[key]
        return float(value)
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"the JSON text of the quantization state has no number {key!r}") from problem


def combined(field: Field, own: np.ndarray, inner: Mapping[str, np.ndarray]) -> np.ndarray:
    """A field's values: its own, times its inner scales, over its divisors, plus its offsets; rounded to float32 after each."""
    values = own
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        for part in field.inner:
            if part.suffix not in inner:
                continue
            grid = inner[part.suffix]
            spread = grid if grid.size == 1 else spread_over(grid, part.block, values.shape)
            if part.role is Role.DIVISOR:
                values = values / spread
            elif part.role is Role.OFFSET:
                values = values + spread
            else:
                values = values * spread
    return values.astype(np.float32, copy=False)


def spread_over(grid: np.ndarray, block: tuple[int, int], shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A grid's value for each element of a region of `shape` that begins at `origin`; a size 0 of the block is the whole axis."""
    rows, cols = ((start + np.arange(length)) // size if size else np.zeros(length, np.int64)
                  for start, length, size in zip(origin, shape, block, strict=True))
    return grid[rows[:, None], cols[None, :]]


def field_values(field: Field, raw: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The values of a factor, float32 [grid rows, grid columns], for a stored matrix of `shape`: its own with all inner ones.

    `raw` holds the bytes of the field and of its inner fields, by suffix. An inner field's block counts values of the outer one.
    """
    own = own_values(field, raw[field.suffix], shape)
    return combined(field, own, {part.suffix: field_values(part, raw, own.shape) for part in field.inner if part.suffix in raw})
