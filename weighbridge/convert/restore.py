"""Kept scales on the way back: they are used for a weight only if each of its values is a code under them."""

from __future__ import annotations

import numpy as np

from weighbridge.convert.reading import Reading
from weighbridge.convert.requantize import quantized, restored
from weighbridge.formats import codec
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Role
from weighbridge.formats.values import Scratch
from weighbridge.plan.plan import Target

BAND = 1 << 21  # values that are looked at at a time


def kept_grids(reader: Reading, target: Target, scratch: Scratch) -> dict[str, np.ndarray]:
    """Own values of every factor of the matrix in stored axes, by suffix; empty where the weight changed. The whole weight is looked at, once."""
    unchanged, name = reader.wholes.unchanged, target.stored.name
    if unchanged.get(name) is False:
        return {}
    grids = _grids(reader, target)
    if name not in unchanged:
        unchanged[name] = _unchanged(reader, target, grids, scratch)
    return grids if unchanged[name] else {}


def _grids(reader: Reading, target: Target) -> dict[str, np.ndarray]:
    placed = target.stored.placement
    fields = [f for f in target.encoding.stored_fields[1:] if f.weighs and f.role is not Role.ORDER]
    return {f.suffix: codec.own_values(f, reader.source.read(target.kept[f.suffix]), (placed.rows, placed.cols)) for f in fields}


def _unchanged(reader: Reading, target: Target, grids: dict[str, np.ndarray], scratch: Scratch) -> bool:
    """Whether codes under the kept scales give every value back, bit for bit."""
    (part,) = target.stored.placement.parts
    encoding = target.encoding.turned() if part.turned else target.encoding
    unit = max([1, *(f.block[0] for f in encoding.factors if f.weighs)])
    step = max(unit, BAND // max(1, part.cols) // unit * unit)
    for fragment in target.pieces[0].fragments:
        if (fragment.lcol, fragment.lcols) != (part.col, part.cols) or fragment.lrow % unit:
            return False
        for row in range(fragment.lrow, fragment.lrow + fragment.lrows, step):
            rows = min(step, fragment.lrow + fragment.lrows - row)
            q = reader.rect(fragment, row, part.col, rows, part.cols)
            values = np.ascontiguousarray(q.decode())
            given = restored(grids, encoding, (row, part.col, rows, part.cols), part.turned)
            made, refused = quantized(values, encoding, given, reader, part.weight, scratch)
            if refused or not _same(made, q):
                return False
    return True


def _same(made: QTensor, q: QTensor) -> bool:
    back = codec.to_dtype(np.ascontiguousarray(made.decode()), q.encoding.dtype).reshape(-1).view(np.uint8)
    return np.array_equal(back, np.ascontiguousarray(q.codes_RC).reshape(-1).view(np.uint8))


__all__ = ["kept_grids"]
