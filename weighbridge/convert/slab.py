"""A slab: some rows of one destination weight in memory, with what its fields hold for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from weighbridge.encoding import kernels
from weighbridge.errors import Problem, Refused
from weighbridge.formats import codec
from weighbridge.formats.qtensor import CONTAINER, Grid, QTensor
from weighbridge.formats.scheme import Encoding, Field, Role
from weighbridge.formats.values import address
from weighbridge.layouts.placement import Part


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

    def compare(self, before: np.ndarray, after: np.ndarray) -> None:
        """Add signal and error power of float32 matrices. The sums run in float64 over whole rows, so that they do not depend on the threads."""
        before, after = np.ascontiguousarray(before), np.ascontiguousarray(after)
        out = np.array([0, 0, 0, 0, 0, -1], np.float64)
        kernels.compare_f32(*address(before), *address(after), *before.shape, 0, 0, 0, 0, 1, 1, np.inf, 0.0, out.ctypes.data)
        self.measured += before.size
        self.signal += float(out[0])
        self.error += float(out[1])


@dataclass
class Slab:
    """Rows [start, start + len(codes_RC)) of matrix `lead` of a destination weight whose matrices have `shape` values.

    `codes_RC` holds one code for each value (uint8), or the values themselves. `grids` holds, by suffix, the float32 values of each other field for
    the blocks of these rows, NaN until a piece brings them.
    """

    name: str
    encoding: Encoding
    shape: tuple[int, int]
    lead: int
    start: int
    codes_RC: np.ndarray
    grids: dict[str, np.ndarray] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)  # own values of all factors of the matrix, where they are to be used again

    def loss(self, step: str) -> Loss:
        return self.losses.setdefault(step, Loss())

    def not_numbers(self, count: int) -> Refused:
        return Refused([Problem("nan-code", f"{count:,} values are NaN or infinite in rows {self.start}.. of matrix {self.lead}", self.name,
                                "the weights are damaged; the unfinished folder says so, remove it")])

    def place_whole(self, field: Field, value: np.ndarray) -> None:
        """Write the one value [1, 1] of a field for the whole weight; pieces that share it must bring the same."""
        cell = self.grids[field.suffix]
        if not (np.isnan(cell) | (cell == value)).all():
            raise Refused([Problem("scale-grid", f"parts of one weight have different {field.suffix.lstrip('.')}: {cell[0, 0]:g} and {value[0, 0]:g}", self.name,
                                   "the destination stores one for all of them: choose a layout that keeps them apart")])
        cell[...] = value

    def place(self, field: Field, values: np.ndarray, part: Part) -> None:
        """Write a field's values for the blocks of `part`, as they will be stored; two pieces that share a block must bring the same."""
        grid = self.grids[field.suffix]
        values = stored_values(field, values)
        top, left = self.block_of(field, part.at_row, part.at_col)
        cells = grid[top : top + values.shape[0], left : left + values.shape[1]]
        if not (np.isnan(cells) | (cells == values)).all():
            raise Refused([Problem("scale-grid", "two pieces of one block bring different scales", self.name,
                                   "the source has scales of its own inside this block: choose a layout with finer blocks")])
        cells[...] = values

    def block_of(self, field: Field, row: int, col: int) -> tuple[int, int]:
        """The cell of the slab's grid that holds the block of a value (rows relative to the slab)."""
        high, wide = self.block(field)
        return (row + self.start) // high - self.start // high, col // wide

    def block(self, field: Field) -> tuple[int, int]:
        """(rows, columns) of values that share one of the field's, whole axes filled in."""
        return field.block[0] or self.shape[0], field.block[1] or self.shape[1]

    def view(self, part: Part) -> np.ndarray:
        """The codes under `part`."""
        rows, cols = part.extent
        return self.codes_RC[part.at_row : part.at_row + rows, part.at_col : part.at_col + cols]

    def written_part(self, part: Part, rows: int) -> QTensor:
        """The first `rows` of the rectangle `part`, as they will be read."""
        grids = []
        for own in self.encoding.factors:
            if own.suffix in self.grids:
                inner = tuple(Grid(f, self.grids[f.suffix]) for f in own.inner if f.suffix in self.grids)
                grids.append(Grid(own, self.grids[own.suffix], inner))
        whole = QTensor(self.codes_RC, self.encoding, tuple(grids))
        return whole.cut(part.at_row, part.at_col, rows, part.extent[1])


def stored_values(field: Field, values: np.ndarray) -> np.ndarray:
    """A field's values as the file holds them, in float32."""
    values = np.asarray(values, np.float32)
    if field.role is Role.ZERO or field.dtype == "F32":
        return values
    known = np.isfinite(values)
    return np.where(known, codec.rounded(np.where(known, values, np.float32(1)), field.dtype), values)


def new_slab(name: str, encoding: Encoding, shape: tuple[int, int], lead: int, start: int, codes_RC: np.ndarray) -> Slab:
    """A slab with empty grids."""
    slab = Slab(name, encoding, shape, lead, start, codes_RC)
    for factor in encoding.factors:
        if factor.weighs and factor.role is not Role.ORDER:
            high, wide = slab.block(factor)
            rows = -(-(start + codes_RC.shape[0]) // high) - start // high
            slab.grids[factor.suffix] = np.full((rows, -(-shape[1] // wide)), np.nan, np.float32)
            for inner in factor.inner:
                slab.grids[inner.suffix] = np.full((1, 1), np.nan, np.float32)
    return slab


def container(encoding: Encoding) -> np.dtype:
    """The dtype of a slab's `codes_RC`."""
    return np.dtype(np.uint8) if encoding.quantized else np.dtype(CONTAINER.get(encoding.dtype, f"<u{encoding.code.packing.size}"))
