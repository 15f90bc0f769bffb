"""A stored weight is one value: codes, scales, zero points and their grids travel together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from weighbridge.formats import codec
from weighbridge.formats.scheme import Encoding, Field, Role


@dataclass(frozen=True, slots=True)
class Grid:
    """The values of one factor: `own` [rows, columns] as its bytes say them (float32; an ORDER int64), and the grids that scale these again."""

    field: Field
    own: np.ndarray
    inner: tuple[Grid, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """float32 [rows, columns]: what the codes are multiplied by (SCALE), divided by (DIVISOR) or lessened by (ZERO)."""
        return codec.combined(self.field, self.own, {g.field.suffix: g.values for g in self.inner})

    @property
    def T(self) -> Grid:  # noqa: N802 - numpy's name
        return Grid(self.field.turned(), self.own.T, tuple(g.T for g in self.inner))


@dataclass(frozen=True, slots=True)
class QTensor:
    """A rectangle of a stored matrix with its factors.

    `codes_RC`: uint8 codes, one for each value, unpacked (a view of the bytes where a byte holds one); of plain dtypes the array itself: uint16 bits
    (BF16), float16, float32 or float64. `grids`: one for each factor that has a part in the value. `origin`: the corner of the rectangle, in values
    of the stored matrix, less whole periods of its blocks; the grids begin where the period begins. Blocks are in the axes of `codes_RC`.

    Where the groups of the input channels are given by an ORDER, the other grids are whole along that axis.
    """

    codes_RC: np.ndarray
    encoding: Encoding
    grids: tuple[Grid, ...] = ()
    origin: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes_RC.shape  # type: ignore[return-value]

    @property
    def T(self) -> QTensor:  # noqa: N802 - numpy's name
        return QTensor(self.codes_RC.T, self.encoding.turned(), tuple(g.T for g in self.grids), self.origin[::-1])

    def grid(self, *roles: Role) -> Grid | None:
        """The first grid of one of these roles."""
        return next((g for g in self.grids if g.field.role in roles), None)

    @property
    def scale(self) -> Grid | None:
        return self.grid(Role.SCALE, Role.DIVISOR)

    @property
    def order(self) -> tuple[int, np.ndarray] | None:
        """(axis, group of each position along it), where the groups are not in a row."""
        grid = self.grid(Role.ORDER)
        return (0 if grid.own.shape[1] == 1 and grid.field.block[0] == 1 else 1, grid.own.reshape(-1)) if grid else None

    def period(self, axis: int) -> int:
        """Values after which all blocks begin anew along an axis."""
        return lcm(*(g.field.block[axis] for g in self.grids if g.field.role is not Role.ORDER and g.field.block[axis]))

    def cut(self, row: int, col: int, rows: int, cols: int) -> QTensor:
        """The rectangle at (row, col), with the values of the factors for the blocks that it touches."""
        spans = (row, row + rows), (col, col + cols)
        starts = [start + low for start, (low, _) in zip(self.origin, spans, strict=True)]
        ends = [start + high for start, (_, high) in zip(self.origin, spans, strict=True)]
        ordered = self.order[0] if self.order else None
        origin, grids = [0, 0], [g.own for g in self.grids]
        for axis in (0, 1):
            period = self.period(axis)
            origin[axis] = starts[axis] % period
            for i, grid in enumerate(self.grids):
                size = grid.field.block[axis]
                if grid.field.role is Role.ORDER:
                    take = slice(*spans[axis]) if axis == ordered else slice(None)
                else:
                    take = slice(None) if axis == ordered or not size else slice(starts[axis] // period * (period // size), -(-ends[axis] // size))
                grids[i] = grids[i][take] if axis == 0 else grids[i][:, take]
        cut = tuple(replace(g, own=own) for g, own in zip(self.grids, grids, strict=True))
        return QTensor(self.codes_RC[row : row + rows, col : col + cols], self.encoding, cut, (origin[0], origin[1]))

    def factor_at(self, grid: Grid, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The values of one factor for the elements at `rows` x `cols` of this rectangle, float32 [rows, columns]."""
        order = self.order
        index = []
        for axis, places in enumerate((rows, cols)):
            size = grid.field.block[axis]
            if order and order[0] == axis and size:
                index.append(order[1][places])
            else:
                index.append((self.origin[axis] + places) // size if size else np.zeros(len(places), np.int64))
        return grid.values[np.ix_(*index)]

    def scales_at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """What the codes at `rows` x `cols` are multiplied by; 1 where nothing scales."""
        total = np.ones((len(rows), len(cols)), np.float32)
        for grid in self.grids:
            if grid.field.role is Role.SCALE:
                total = total * self.factor_at(grid, rows, cols)
            elif grid.field.role is Role.DIVISOR:
                total = total / self.factor_at(grid, rows, cols)
        return total

    def decode(self) -> np.ndarray:
        """Real values as float32 [rows, columns]: the specification, not the fast way.

        (look(code) - zero) x scale, rounded to float32 after each. Raises ValueError for codes without a scale.
        """
        if not self.encoding.quantized:
            codes = self.codes_RC
            if not is_plain(self.encoding):
                raise ValueError(f"codes of {self.encoding.dtype} have no value without a scale")
            return codec.floats8.from_bf16(codes) if codes.dtype == np.uint16 else np.asarray(codes, np.float32)
        value = codec.table(self.encoding.element)[self.codes_RC]
        rows, cols = (np.arange(n) for n in self.shape)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for grid in sorted(self.grids, key=lambda g: g.field.role is not Role.ZERO):
                if grid.field.role is Role.ZERO:
                    value = value - self.factor_at(grid, rows, cols)
                elif grid.field.role is Role.SCALE:
                    value = value * self.factor_at(grid, rows, cols)
                elif grid.field.role is Role.DIVISOR:
                    value = value / self.factor_at(grid, rows, cols)
        return value


CONTAINER = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}  # what `codes_RC` of a plain dtype is


def is_plain(encoding: Encoding) -> bool:
    """Whether the tensor holds its values themselves, as floats of 16 bits or more."""
    return not encoding.quantized and encoding.dtype in CONTAINER
