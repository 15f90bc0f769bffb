"""One pass over the codes of a weight: how often each occurs, what each block holds, and what other ways of storing it would cost.

A value is (code - zero point) x scale. Errors of steps on codes (halving, 448/240) are those of the exact products: sums over codes of a block, times its
scale squared. Errors of steps on values (BF16, new scales) compare float32 values, as `codec.decode` gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from weighbridge.encoding import codec, kernels
from weighbridge.formats import fast
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons.tensor_read import Form, Matrix

BLOCK = (128, 128)  # the block that a tensor without one is quantized with, for comparison
CODED = ("e4m3fn", "e4m3")


class Way(NamedTuple):
    """Another way to store the same values. `codes` gives new codes for old ones; `values` new float32 values for old ones."""

    name: str
    says: str
    codes: np.ndarray | None = None
    factor: float = 1.0  # what the scale is multiplied by
    values: Callable[[np.ndarray], np.ndarray] | None = None


def to_bf16(value: np.ndarray) -> np.ndarray:
    return codec.from_bf16(codec.to_bf16(value))


def requantized(value: np.ndarray, block: tuple[int, int], peak: float) -> np.ndarray:
    """float32 values after they are quantized to FP8 with new scales amax/peak (448 or 240), one for each block."""
    value = np.ascontiguousarray(value, np.float32)
    block = min(block[0], value.shape[0]), min(block[1], value.shape[1])
    encoding = filled(SCHEMES["fp8-block" if peak == 448.0 else "neuron-fp8"], block)
    made = fast.quantize_stored(value, encoding)
    return fast.decode(QTensor(made.codes, encoding, made.grids), "F32")


def ways(matrix: Matrix) -> list[Way]:
    """The ways that are worth a comparison, by the kind of code."""
    row = Way("row-240", "decoded, one new scale amax/240 for each row, codes rounded again: how attention is published for Neuron",
              values=lambda v: requantized(v, (1, v.shape[1]), 240.0))
    bf16 = Way("bf16", "decoded and rounded to BF16, no scale", values=to_bf16)
    if matrix.form.fmt == "e4m3fn":
        return [Way("halve", "codes halved, scales doubled: Neuron's form, as convert --to neuron makes it", codec.HALVE, 2.0),
                Way("legacy-448-240", "codes divided by 448/240 through BF16 and rounded again, scales times 448/240: what public scripts do",
                    codec.LEGACY, codec.LEGACY_FACTOR), row, bf16]
    if not matrix.plain and matrix.form.fmt == "e4m3":
        return [Way("double", "codes doubled, scales halved: the way back to OCP e4m3fn", codec.DOUBLE, 0.5), bf16]
    blocks = [Way("block-448", f"FP8 e4m3fn, one scale amax/448 for each block of {BLOCK[0]}x{BLOCK[1]}", values=lambda v: requantized(v, BLOCK, 448.0)),
              Way("block-240", "the same for a reader that ends at 240: scale amax/240", values=lambda v: requantized(v, BLOCK, 240.0))]
    return ([] if matrix.form.fmt == "bf16" else [bf16]) + blocks + [row]


def half_step(form: Form) -> np.ndarray:
    """Half the distance from each code's value to the next larger magnitude: the most that rounding to that code can have changed."""
    assert form.table is not None
    if len(form.fields) == 1:
        ordered = np.unique(np.abs(form.table)).astype(np.float64)
        gaps = np.diff(ordered, append=2 * ordered[-1] - ordered[-2])  # after the last one: the last distance again
        return gaps[np.searchsorted(ordered, np.abs(form.table))] / 2
    exponent = (np.arange(len(form.table)) >> form.fields[2]) & ((1 << form.fields[1]) - 1)
    return np.ldexp(0.5, np.maximum(exponent, 1) - form.bias - form.fields[2])


class Pass:
    """What one pass found. Arrays by block have one row for each row of the grid that was looked at (`rows`, counted through all matrices)."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix, self.ways = matrix, ways(matrix)
        coded = not matrix.plain
        self.counts = np.zeros(len(matrix.form.table) if coded else 1 << matrix.form.fields[1], np.int64)  # type: ignore[arg-type]
        self.rows = self._grid_rows()
        shape = (len(self.rows), matrix.grid_cols)
        self.scale = np.ones(shape, np.float32)
        self.zero = np.zeros(shape, np.float32)
        self.amax = np.zeros(shape)  # largest magnitude of a code's value less its zero point, scale not in it
        self.ends = np.zeros((*shape, 2), bool)  # whether the least and the largest code occur
        self.zeros = 0  # weights that are zero
        self.by_block = {name: np.zeros(shape) for name in ("signal", "bound", *(w.name for w in self.ways if w.codes is not None))} if coded else {}
        self.by_block["inexact"] = np.zeros(shape)
        self.totals = {w.name: [0.0, 0.0, 0] for w in self.ways if w.values is not None}  # signal, error, changed values
        self.plain = {"largest": 0.0, "nan": 0, "infinite": 0, "zero": 0, "subnormal": 0}
        for row, count in matrix.bands():
            self._band(row, count)

    def _grid_rows(self) -> np.ndarray:
        m = self.matrix
        return np.unique(np.concatenate([self._numbers(row, count) for row, count in m.bands()])) if m.runs else np.zeros(0, np.int64)

    def _numbers(self, row: int, count: int) -> np.ndarray:
        """The row of the grid of each flat row of a band, counted through all matrices."""
        return row // self.matrix.rows * self.matrix.grid_rows + self.matrix.groups(row, count)

    def _band(self, row: int, count: int) -> None:
        m = self.matrix
        q = m.rows_of(row, count)
        if m.plain:
            self._plain(q.codes_RC)
        else:
            self._codes(q, row)
        if self.totals and (m.scaled or m.plain):
            value = np.ascontiguousarray(m.decode(q), np.float32)
            for way in self.ways:
                if way.values is not None:
                    self._compare(way, value)

    def _codes(self, q: QTensor, row: int) -> None:
        """Histogram of each block of the band, and from it all sums over codes."""
        m, size = self.matrix, len(self.counts)
        numbers, first, block_row = np.unique(self._numbers(row, q.shape[0]), return_index=True, return_inverse=True)
        block_col = np.arange(m.cols, dtype=np.int64) // m.block[1]
        index = (block_row.reshape(-1, 1) * m.grid_cols + block_col) * size + q.codes_RC
        held = np.bincount(index.ravel(), minlength=len(numbers) * m.grid_cols * size).reshape(len(numbers), m.grid_cols, size)
        self.counts += held.sum((0, 1))
        at = np.searchsorted(self.rows, numbers)
        zero = None
        if m.scaled:
            self.scale[at], zero = m.factors_at(q, first)
        if zero is None:
            magnitude: np.ndarray = np.broadcast_to(self.magnitude, held.shape)
        else:
            self.zero[at] = zero
            magnitude = np.abs(m.form.table - zero[..., None]).astype(np.float64)  # type: ignore[operator]
        known = np.isfinite(m.form.table)  # type: ignore[arg-type]
        self.zeros += int(held[(magnitude == 0) & known].sum())
        self.amax[at] = np.maximum(self.amax[at], np.where(held > 0, magnitude, 0).max(-1))
        self.by_block["signal"][at] += (held * magnitude**2).sum(-1)
        low, high = m.form.ends
        for place, end in enumerate((low, high)):
            self.ends[at, :, place] |= (held[..., m.form.table == end] > 0).any(-1)
        for name, weight in self.weights.items():
            self.by_block[name][at] += held @ weight

    @cached_property
    def magnitude(self) -> np.ndarray:
        """|value| of each code, 0 where it is no number."""
        table = self.matrix.form.table.astype(np.float64)  # type: ignore[union-attr]
        return np.where(np.isfinite(table), np.abs(table), 0.0)

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """For each sum over the codes of a block, what one code adds."""
        known = np.isfinite(self.matrix.form.table)  # type: ignore[arg-type]
        out = {"bound": np.where(known, half_step(self.matrix.form), 0.0) ** 2}
        for way in self.ways:
            if way.codes is not None:
                out[way.name] = np.where(known, code_error(self.matrix.form, way), 0.0) ** 2
        main = next((w for w in self.ways if w.codes is not None), None)
        out["inexact"] = changes(self.matrix.form, main).astype(np.float64) if main else np.zeros(len(known))
        return out

    def _plain(self, raw: np.ndarray) -> None:
        """Histogram of exponent fields, and the values that are no numbers."""
        form, kind = self.matrix.form, self.plain
        bits = raw.view(f"u{raw.itemsize}").ravel()
        exponent = ((bits >> form.fields[2]) & ((1 << form.fields[1]) - 1)).astype(np.int64)
        self.counts += np.bincount(exponent, minlength=len(self.counts))
        nothing = (bits & ((1 << form.fields[2]) - 1)) == 0
        top, bottom = exponent == len(self.counts) - 1, exponent == 0
        kind["infinite"] += int((top & nothing).sum())
        kind["nan"] += int((top & ~nothing).sum())
        kind["zero"] += int((bottom & nothing).sum())
        kind["subnormal"] += int((bottom & ~nothing).sum())
        value = np.abs(QTensor(raw, self.matrix.encoding).decode().ravel())
        kind["largest"] = max(kind["largest"], float(value.max(initial=0, where=~top)))

    def _compare(self, way: Way, value: np.ndarray) -> None:
        assert way.values is not None
        with np.errstate(all="ignore"):
            after = np.ascontiguousarray(way.values(value), np.float32)
        out = np.array([0, 0, 0, 0, 0, -1], np.float64)
        rows, cols = value.shape
        kernels.compare_f32(value.ctypes.data, cols, after.ctypes.data, cols, rows, cols, 0, 0, 0, 0, 1, 1, np.inf, 0.0, out.ctypes.data)
        total = self.totals[way.name]
        total[0] += float(out[0])
        total[1] += float(out[1])
        total[2] += value.size - int(out[3])

    @property
    def usable(self) -> np.ndarray:
        """Blocks whose scale is finite and above zero."""
        return np.isfinite(self.scale) & (self.scale > 0)

    @property
    def codes_but_zero(self) -> int:
        return int(self.counts.sum()) - self.zeros

    def cost(self, way: Way) -> tuple[float, float, int]:
        """(signal power, error power, values that change) of a way over all that was looked at."""
        if way.values is not None:
            return tuple(self.totals[way.name])  # type: ignore[return-value]
        square = np.where(self.usable, self.scale, 0).astype(np.float64) ** 2
        changed = int(self.counts[changes(self.matrix.form, way)].sum())
        return float((self.by_block["signal"] * square).sum()), float((self.by_block[way.name] * square).sum()), changed


def code_error(form: Form, way: Way) -> np.ndarray:
    """New value minus old value of each code, in units of the old scale, float64; the factor of the scale is exact or rounded to float32."""
    assert form.table is not None and way.codes is not None
    old = form.table.astype(np.float64)
    new = codec.decode_table("e4m3fn").astype(np.float64)[way.codes] * float(np.float32(way.factor))
    with np.errstate(invalid="ignore"):
        return new - old


def changes(form: Form, way: Way) -> np.ndarray:
    """Which codes a way changes by more than the rounding of its scale to float32."""
    assert form.table is not None
    with np.errstate(invalid="ignore"):
        return np.abs(code_error(form, way)) > np.abs(form.table) * 2.0**-20
