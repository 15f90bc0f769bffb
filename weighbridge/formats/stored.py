"""Stored bytes to QTensors: any rows of one matrix, without a copy where a byte is a code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd

import numpy as np

from weighbridge.formats import codec
from weighbridge.formats.codec import Fetch
from weighbridge.formats.qtensor import CONTAINER, Grid, QTensor, is_plain
from weighbridge.formats.scheme import Encoding, Field, Role


def read(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, rows: tuple[int, int] | None = None) -> QTensor:
    """Rows [start, stop) of one stored matrix of `shape` values.

    `fetch(suffix)` gives all bytes of a field of this matrix, uint8, or None where the file has none; `suffix` is the field's first one. Raises
    ValueError where a field is absent that must be there, where its bytes are too few or too many, and where an index points outside its grid.
    """
    start, stop = rows or (0, shape[0])
    if not 0 <= start <= stop <= shape[0]:
        raise ValueError(f"rows {start} to {stop} of a matrix of {shape[0]} rows")
    codes = _codes(encoding, shape, fetch, start, stop)
    if not encoding.quantized:
        return QTensor(codes, encoding)
    flat = [f for f in encoding.factors if f.flat]
    if flat:
        encoding, grids = _unrolled(encoding, shape, fetch, start, stop)
        return QTensor(codes, encoding, grids)
    order = _order(encoding, shape, fetch, start, stop)
    q = QTensor(codes, encoding, tuple(_blank(f) for f in encoding.factors if _in_value(f) and f.role is not Role.ORDER))
    period = q.period(0)
    begin = 0 if order else start // period * period
    grids = tuple(g for f in encoding.factors if _in_value(f) and f.role is not Role.ORDER
                  if (g := _grid(f, shape, fetch, begin, shape[0] if order else stop)) is not None)
    if order:
        _inside(order, grids)
        grids = (*grids, order)
    return QTensor(codes, encoding, grids, (0 if order else start - begin, 0))


def _in_value(field: Field) -> bool:
    return field.weighs and field.role is not Role.CODE


def _blank(field: Field) -> Grid:
    return Grid(field, np.empty((0, 0), np.float32))


def _bytes(field: Field, fetch: Fetch) -> np.ndarray | None:
    raw = fetch(field.suffix)
    if raw is None and not field.optional:
        raise ValueError(f"{field.suffix} is not there")
    return None if raw is None else np.asarray(raw).reshape(-1).view(np.uint8)


def _codes(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, start: int, stop: int) -> np.ndarray:
    field, raw = encoding.code, _bytes(encoding.code, fetch)
    assert raw is not None
    if is_plain(encoding):
        kind = np.dtype(CONTAINER[encoding.dtype])
        size = shape[0] * shape[1] * kind.itemsize
        if raw.size != size:
            raise ValueError(f"{field.suffix}: [{shape[0]}, {shape[1]}] of {encoding.dtype} takes {size} bytes, not {raw.size}")
        return raw.view(kind).reshape(shape)[start:stop]
    if field.flat:
        return _flat_codes(field, raw, shape, start, stop)
    return _rows(field, raw, shape, start, stop, codec.codes_of)


def _rows(field: Field, raw: np.ndarray, shape: tuple[int, int], first: int, last: int, give) -> np.ndarray:
    """Grid rows [first, last) of a field: only their bytes are looked at. `give(field, bytes, grid)` makes the array."""
    rows, cols = field.grid(*shape)
    codec.check_size(field, raw, (rows, cols))
    along = field.packing.axis == -2
    values, words = (field.packing.values, field.packing.size // field.packing.word) if along else (1, 1)
    low, high = first // values, -(-last // values)
    whole = raw.reshape(field.packing.units(rows) * words if along else rows, -1) if raw.size else raw.reshape(rows, 0)
    part = whole[low * words : high * words].reshape(-1)
    made = give(field, part, (min(high * values, rows) - low * values, cols))
    return made[first - low * values : last - low * values]


def _flat_codes(field: Field, raw: np.ndarray, shape: tuple[int, int], start: int, stop: int) -> np.ndarray:
    """Codes that run on from row to row."""
    codec.check_size(field, raw, field.grid(*shape))
    first, last, values, size = start * shape[1], stop * shape[1], field.packing.values, field.packing.size
    low, high = first // values, -(-last // values)
    codes = codec.unpack(raw[low * size : high * size].reshape(1, -1), field.packing, (high - low) * values)[0]
    return codes[first - low * values : last - low * values].reshape(stop - start, shape[1])


def _grid(field: Field, shape: tuple[int, int], fetch: Fetch, begin: int, stop: int) -> Grid | None:
    """The grid of a factor for the rows [begin, stop), whose blocks begin at `begin`."""
    raw = _bytes(field, fetch)
    if raw is None:
        return None
    high = field.block[0]
    first, last = (begin // high, -(-stop // high)) if high else (0, 1)
    own = _rows(field, raw, shape, first, last, codec.look)
    inner = tuple(g for part in field.inner if (g := _grid(part, field.grid(*shape), fetch, first, last)) is not None)
    return Grid(field, own, inner)


def _order(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, start: int, stop: int) -> Grid | None:
    """The groups of the input channels, where they are not simply one after the other."""
    field = next((f for f in encoding.factors if f.role is Role.ORDER), None)
    raw = _bytes(field, fetch) if field else None
    if field is None or raw is None:
        return None
    group = encoding.block[0] if encoding.block else 0
    own = _rows(field, raw, shape, start, stop, codec.look)
    in_a_row = (np.arange(start, stop) // group if group else np.zeros(stop - start, np.int64)) == own[:, 0]
    return None if in_a_row.all() else Grid(field, own)


def _inside(order: Grid, grids: tuple[Grid, ...]) -> None:
    """Raise ValueError if an index of the order points outside a grid."""
    count = min(g.own.shape[0] for g in grids if g.field.block[0])
    low, high = int(order.own.min()), int(order.own.max())
    if low < 0 or high >= count:
        raise ValueError(f"{order.field.suffix} holds groups {low} to {high}, and there are {count}")


def _unrolled(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, start: int, stop: int) -> tuple[Encoding, tuple[Grid, ...]]:
    """Flat factors as blocks of rows: a run of n values over rows of K is one block, or several equal ones, of gcd(n, K) values in each row."""
    grids, factors = [], []
    for field in encoding.factors:
        if not _in_value(field):
            factors.append(field)
            continue
        raws = _all_bytes(field, fetch)
        if field.suffix not in raws:
            continue
        values, run = codec.field_values(field, raws, shape), field.block[1]
        step = gcd(run, shape[1])
        places = np.arange(start, stop)[:, None] * shape[1] + np.arange(0, shape[1], step)
        field = field._replace(block=(1, step), flat=False, inner=())
        factors.append(field)
        grids.append(Grid(field, values[0, places // run]))
    return replace(encoding, factors=tuple(factors)), tuple(grids)


def _all_bytes(field: Field, fetch: Fetch) -> Mapping[str, np.ndarray]:
    found = {}
    for part in (field, *field.inner):
        raw = _bytes(part, fetch)
        if raw is not None:
            found[part.suffix] = raw
    return found
