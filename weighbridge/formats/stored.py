"""Stored bytes to QTensors: any rows of one matrix, without a copy where a byte is a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd, lcm
from typing import NamedTuple

import numpy as np

from weighbridge.formats import codec
from weighbridge.formats.codec import Fetch, Unpack
from weighbridge.formats.qtensor import CONTAINER, Grid, QTensor, is_plain
from weighbridge.formats.scheme import Encoding, Field, Role


Give = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


class Source(NamedTuple):
    """One stored matrix of `shape` values: where its bytes come from, and who takes codes out of them (`codec.unpack`, or `fast.unpack`)."""

    shape: tuple[int, int]
    fetch: Fetch
    unpack: Unpack = codec.unpack

    def bytes_of(self, field: Field) -> np.ndarray | None:
        """All bytes of a field, uint8 with one axis; None where the file has none and need not."""
        raw = self.fetch(field.suffix)
        if raw is None and not field.optional:
            raise ValueError(f"{field.suffix} is not there")
        return None if raw is None else np.asarray(raw).reshape(-1).view(np.uint8)


def read(encoding: Encoding, shape: tuple[int, int], fetch: Fetch, rows: tuple[int, int] | None = None, unpack: Unpack = codec.unpack) -> QTensor:
    """Rows [start, stop) of one stored matrix of `shape` values.

    `fetch(suffix)` gives all bytes of a field of this matrix, uint8, or None where the file has none; `suffix` is the field's first one. Raises
    ValueError where a field is absent that must be there, where its bytes are too few or too many, and where an index points outside its grid.
    """
    source = Source(shape, fetch, unpack)
    start, stop = rows or (0, shape[0])
    if not 0 <= start <= stop <= shape[0]:
        raise ValueError(f"rows {start} to {stop} of a matrix of {shape[0]} rows")
    codes = _codes(encoding, source, start, stop)
    return QTensor(codes, encoding) if not encoding.quantized else with_factors(codes, encoding, source, start, stop)


def with_factors(codes: np.ndarray, encoding: Encoding, source: Source, start: int, stop: int) -> QTensor:
    """Codes of rows [start, stop) with the values of the factors for these rows."""
    if any(f.flat for f in encoding.factors):
        encoding, grids = _unrolled(encoding, source, start, stop)
        return QTensor(codes, encoding, grids)
    fields = [f for f in encoding.factors if _in_value(f) and f.role is not Role.ORDER]
    order = _order(encoding, source, start, stop)
    period = lcm(*(f.block[0] for f in fields if f.block[0]))
    begin, end = (0, source.shape[0]) if order else (start // period * period, stop)
    grids = tuple(g for f in fields if (g := _grid(f, source, source.shape, begin, end)) is not None)
    if order:
        _inside(order, grids)
        grids = (*grids, order)
    return QTensor(codes, encoding, grids, (0 if order else start - begin, 0))


def _in_value(field: Field) -> bool:
    return field.weighs and field.role is not Role.CODE


def _codes(encoding: Encoding, source: Source, start: int, stop: int) -> np.ndarray:
    field, shape, raw = encoding.code, source.shape, source.bytes_of(encoding.code)
    assert raw is not None
    if not encoding.quantized and (is_plain(encoding) or field.packing.size > 1):
        kind = np.dtype(CONTAINER.get(encoding.dtype, f"<u{field.packing.size}"))  # integers go along as they are
        size = shape[0] * shape[1] * kind.itemsize
        if raw.size != size:
            raise ValueError(f"{field.suffix}: [{shape[0]}, {shape[1]}] of {encoding.dtype} takes {size} bytes, not {raw.size}")
        return raw.view(kind).reshape(shape)[start:stop]
    if field.flat:
        return _flat_codes(field, raw, source, start, stop)
    return _rows(field, raw, shape, start, stop, lambda part, grid: codec.codes_of(field, part, grid, source.unpack))


def _rows(field: Field, raw: np.ndarray, shape: tuple[int, int], first: int, last: int, give: Give) -> np.ndarray:
    """Grid rows [first, last) of a field: only their bytes are looked at. `give(bytes, grid)` makes the array."""
    rows, cols = field.grid(*shape)
    codec.check_size(field, raw, (rows, cols))
    along = field.packing.axis == -2
    values, words = (field.packing.values, field.packing.size // field.packing.word) if along else (1, 1)
    low, high = first // values, -(-last // values)
    whole = raw.reshape(field.packing.units(rows) * words if along else rows, -1) if raw.size else raw.reshape(rows, 0)
    part = whole[low * words : high * words].reshape(-1)
    made = give(part, (min(high * values, rows) - low * values, cols))
    return made[first - low * values : last - low * values]


def _flat_codes(field: Field, raw: np.ndarray, source: Source, start: int, stop: int) -> np.ndarray:
    """Codes that run on from row to row."""
    shape = source.shape
    codec.check_size(field, raw, field.grid(*shape))
    first, last, values, size = start * shape[1], stop * shape[1], field.packing.values, field.packing.size
    low, high = first // values, -(-last // values)
    codes = source.unpack(raw[low * size : high * size].reshape(1, -1), field.packing, (high - low) * values)[0]
    return codes[first - low * values : last - low * values].reshape(stop - start, shape[1])


def _grid(field: Field, source: Source, shape: tuple[int, int], begin: int, stop: int) -> Grid | None:
    """The grid of a factor of `shape` values for the rows [begin, stop), whose blocks begin at `begin`."""
    raw = source.bytes_of(field)
    if raw is None:
        return None
    high = field.block[0]
    first, last = (begin // high, -(-stop // high)) if high else (0, 1)
    own = _rows(field, raw, shape, first, last, lambda part, grid: codec.look(field, part, grid, source.unpack))
    inner = tuple(g for f in field.inner if (g := _grid(f, source, field.grid(*shape), first, last)) is not None)
    return Grid(field, own, inner)


def _order(encoding: Encoding, source: Source, start: int, stop: int) -> Grid | None:
    """The groups of the input channels, where they are not simply one after the other."""
    field = next((f for f in encoding.factors if f.role is Role.ORDER), None)
    raw = source.bytes_of(field) if field else None
    if field is None or raw is None:
        return None
    group = encoding.block[0] if encoding.block else 0
    own = _rows(field, raw, source.shape, start, stop, lambda part, grid: codec.look(field, part, grid))
    in_a_row = (np.arange(start, stop) // group if group else np.zeros(stop - start, np.int64)) == own[:, 0]
    return None if in_a_row.all() else Grid(field, own)


def _inside(order: Grid, grids: tuple[Grid, ...]) -> None:
    """Raise ValueError if an index of the order points outside a grid."""
    count = min(g.own.shape[0] for g in grids if g.field.block[0])
    low, high = int(order.own.min()), int(order.own.max())
    if low < 0 or high >= count:
        raise ValueError(f"{order.field.suffix} holds groups {low} to {high}, and there are {count}")


def _unrolled(encoding: Encoding, source: Source, start: int, stop: int) -> tuple[Encoding, tuple[Grid, ...]]:
    """Flat factors as blocks of rows: a run of n values over rows of K is one block, or several equal ones, of gcd(n, K) values in each row."""
    grids, factors, columns = [], [], source.shape[1]
    for field in encoding.factors:
        raws = {f.suffix: raw for f in (field, *field.inner) if (raw := source.bytes_of(f)) is not None} if _in_value(field) else {}
        if field.suffix in raws:
            values, run = codec.field_values(field, raws, source.shape), field.block[1]
            step = gcd(run, columns)
            places = np.arange(start, stop)[:, None] * columns + np.arange(0, columns, step)
            field = field._replace(block=(1, step), flat=False, inner=())
            grids.append(Grid(field, values[0, places // run]))
        factors.append(field)
    return replace(encoding, factors=tuple(factors)), tuple(grids)
