"""Which bytes of a stored matrix hold some of its rows: so that a few rows can be read where they lie, here or elsewhere."""

from __future__ import annotations

from math import gcd, lcm
from typing import NamedTuple

from weighbridge.formats.scheme import Encoding, Field, Role


class Place(NamedTuple):
    """Bits `low` to `high` of the stored element `index` of a field, in an element of `word` bytes that begins at byte `start`."""

    index: int
    start: int
    word: int
    low: int
    high: int


def code_rows(field: Field, cols: int) -> int:
    """Rows after which the codes begin a new unit."""
    values = field.packing.values
    if field.flat:
        return values // gcd(values, max(1, cols))
    return values if field.packing.axis == -2 else 1


def factor_rows(encoding: Encoding, rows: int, cols: int) -> int:
    """Rows after which all blocks of all factors begin anew, and the units of their bytes."""
    period = 1
    for field in encoding.factors:
        if not field.weighs:
            continue
        if field.flat:
            run = field.block[1] * max([1, *(part.block[1] for part in field.inner if part.flat)])
            period = lcm(period, run // gcd(run, max(1, cols)))
        elif field.block[0]:
            inner = lcm(*(part.block[0] for part in field.inner if part.block[0]))
            period = lcm(period, field.block[0] * inner * (field.packing.values if field.packing.axis == -2 else 1))
    return min(period, max(1, rows))


def span(field: Field, size: int, shape: tuple[int, int], start: int, stop: int) -> tuple[int, int]:
    """(first byte, bytes) that hold rows [start, stop) of a field of `size` bytes in all, for a matrix of `shape` values.

    `start` begins a period; `stop` does, too, or is the end. A field whose rows cannot be told apart is read whole.
    """
    rows, cols = shape
    if field.role is Role.OFFSET or not size:
        return 0, size
    if field.flat:
        run, values, unit = field.block[1], field.packing.values, field.packing.size
        first = start * cols // run // values * unit
        last = size if stop >= rows else -(-(-(-stop * cols // run)) // values) * unit
        return first, last - first
    high, values = field.block[0], field.packing.values if field.packing.axis == -2 else 1
    if not high or high >= rows:
        return 0, size
    units = -(-field.grid(*shape)[0] // values)
    first, last = start // high // values, -(-(-(-stop // high)) // values)
    return first * (size // units), (last - first) * (size // units)


def places(field: Field, shape: tuple[int, int], row: int, col: int) -> tuple[Place, ...]:
    """Where the bits of the value at (row, col) of a field's grid of `shape` lie: one place, or two where a code runs on in the next word."""
    packing = field.packing
    rows, cols = shape
    words, bits = packing.size // packing.word, 8 * packing.word
    if field.flat:
        number, line = row * cols + col, 0
    else:
        number, line = (col, row) if packing.axis == -1 else (row, col)
    unit, inside = divmod(number, packing.values)
    low = packing.starts[inside]
    found = []
    for word in range(low // bits, (low + packing.width - 1) // bits + 1):
        along = unit * words + word
        index = along if field.flat else line * packing.units(cols) * words + along if packing.axis == -1 else along * cols + line
        found.append(Place(index, index * packing.word, packing.word, max(low - word * bits, 0), min(low + packing.width - word * bits, bits) - 1))
    return tuple(found)
