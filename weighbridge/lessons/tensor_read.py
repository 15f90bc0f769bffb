"""The bytes of one weight as QTensors, a band of rows at a time; never the whole of a large tensor.

A weight is seen as `lead` matrices of [rows, cols] values, in stored axes; "flat" rows count through all of them. What codes and scales mean is
`formats`' knowledge: here is only which bytes are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import WeighbridgeError
from weighbridge.formats import codec, fast, stored
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.qtensor import QTensor, is_plain
from weighbridge.formats.scheme import Encoding, Field, Role
from weighbridge.formats.window import Place, code_rows, factor_rows, places, span
from weighbridge.lessons.tensor_source import Found

LOOK = 24 << 20  # values that are looked at in a file on this machine: all of a [6144, 3072] weight
LOOK_FAR = 2 << 20  # values that are fetched from elsewhere
SCALES = 8 << 20  # scales that are read at once; of more, those of the rows that are looked at
BANDS = 32  # places that a sample comes from
BAND = 1 << 19  # values of one band
COUNTS = 1 << 22  # counters of one band: its blocks times the codes of the element
SMALL = 1 << 14  # values: smaller matrices of a stack without scales are seen as the rows of one
STACK = 1 << 14  # matrices of a stack; the most that a published model has is 512 experts


class Form(NamedTuple):
    """An element as pages show it: the value of each code (float32), None for wide floats; its fields from the highest bit down; its largest magnitude."""

    fmt: str
    table: np.ndarray | None
    fields: tuple[int, ...]  # bits of sign, exponent, mantissa; of integers and codebooks all in one
    bias: int
    max: float

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest finite value of a code."""
        assert self.table is not None
        good = self.table[np.isfinite(self.table)]
        return float(good.min()), float(good.max())


def form_of(element: str) -> Form:
    """The element `element` of `formats`."""
    own = ELEMENTS[element]
    fields = (1, own.exponent, own.mantissa) if own.kind == "float" else (own.bits,)
    return Form(own.name, codec.table(element) if own.bits <= 8 else None, fields, own.bias, own.largest)


class Part(NamedTuple):
    """One field at one place: its stored bytes or code, its value, and where it lies. `role` says what is done with the value."""

    field: Field
    tensor: Tensor
    stored: str
    value: float
    index: int


class Matrix:
    """A weight with its factors, read from the store by rows."""

    def __init__(self, checkpoint: Checkpoint, found: Found) -> None:
        self.checkpoint, self.found = checkpoint, found
        self.encoding: Encoding = found.encoding
        self.form = form_of(self.encoding.element)
        self.problem = found.problem
        self.near = checkpoint.store.path(found.weight.file) is not None
        self.lead, self.rows, self.cols = self._sizes()
        if not self.values and not self.problem and self.encoding.quantized:
            self.problem = "the tensor is empty"
        self.order = self._order()
        self.block = self._block()
        self.grid_rows, self.grid_cols = -(-self.rows // self.block[0]), -(-self.cols // self.block[1])

    @property
    def plain(self) -> bool:
        """Whether the tensor holds its values themselves."""
        return is_plain(self.encoding)

    @property
    def scaled(self) -> bool:
        """Whether a scale that fits goes with the codes."""
        return self.encoding.scale is not None and not self.problem

    @property
    def values(self) -> int:
        return self.lead * self.rows * self.cols

    @cached_property
    def zero(self) -> bool:
        """Whether a zero point is subtracted from the codes."""
        return self.scaled and self.encoding.zero is not None

    def _sizes(self) -> tuple[int, int, int]:
        shape, slices = self.found.shape, self.found.slices
        lead, rows, cols = (prod(shape[:-2]), *((1, 1, *shape)[-2:]))
        rows, cols = self._true_size(rows, cols)
        if not self.encoding.quantized and self.found.scale is None and rows * cols < SMALL:
            return 1, lead * rows, cols  # a convolution is a stack of tiny matrices
        lead, rows = lead * slices, rows // slices
        if lead > STACK:
            raise WeighbridgeError("stack-too-high", f"{lead:,} matrices of {rows:,} x {cols:,}; the limit is {STACK:,}",
                                   f"{self.found.weight.file}: {self.found.key}", "weighbridge inspect SRC shows its headers")
        return lead, rows, cols

    def _true_size(self, rows: int, cols: int) -> tuple[int, int]:
        """Packed rows can be filled up; a field of the format holds the true size."""
        field = next((f for f in self.encoding.factors if f.role is Role.SHAPE), None)
        held = self.found.tensor(field) if field else None
        packing = self.encoding.code.packing
        if held is None or held.shape != (2,) or packing.axis != -1:
            return rows, cols
        size = np.frombuffer(self.read(held, 0, held.nbytes), f"<i{BITS[held.dtype] // 8}")
        true = int(size[1])
        return (rows, true) if int(size[0]) == rows and true > 0 and packing.units(true) == packing.units(cols) else (rows, cols)

    def _block(self) -> tuple[int, int]:
        """(rows, columns) that share one scale in the stored axes; a tensor without scale is one block."""
        scale, whole = self.encoding.scale, (max(1, self.rows), max(1, self.cols))
        if scale is None or not self.scaled:
            return whole
        if scale.flat:
            return 1, gcd(scale.block[1], whole[1])  # a run goes on in the next row
        return min(scale.block[0] or whole[0], whole[0]), min(scale.block[1] or whole[1], whole[1])

    def _order(self) -> np.ndarray | None:
        """The group of each row where they are not one after the other (GPTQ's g_idx)."""
        field = next((f for f in self.encoding.factors if f.role is Role.ORDER), None)
        tensor = self.found.tensor(field) if field else None
        if field is None or tensor is None or not self.scaled:
            return None
        groups = codec.own_values(field, np.frombuffer(self.read(tensor, 0, tensor.nbytes), np.uint8), (self.rows, self.cols)).reshape(-1)
        size = self.encoding.block[0] if self.encoding.block else 0
        return None if np.array_equal(groups, np.arange(self.rows) // size if size else np.zeros(self.rows)) else groups

    def read(self, tensor: Tensor, offset: int, length: int) -> bytes:
        raw = self.checkpoint.store.read(tensor.file, tensor.start + offset, length)
        if len(raw) != length:
            raise WeighbridgeError("io", f"the file ended: {len(raw):,} of {length:,} bytes could be read", f"{tensor.file}: {tensor.name}", "download the file again")
        return raw

    def share(self, field: Field, tensor: Tensor, matrix: int) -> tuple[int, int]:
        """(first byte, bytes) of one matrix of a stack in a field's tensor; what holds for the whole stack is every matrix's."""
        if self.lead > 1 and field.role is not Role.OFFSET and tensor.nbytes != self._one(field):
            return matrix * (tensor.nbytes // self.lead), tensor.nbytes // self.lead
        return 0, tensor.nbytes

    def _one(self, field: Field) -> int:
        """Bytes of one value of the field: a tensor that has only these is the whole stack's."""
        return BITS[field.dtype] // 8 if field.block == (0, 0) else -1

    def window(self, field: Field, matrix: int, start: int, stop: int) -> np.ndarray | None:
        """The bytes of rows [start, stop) of a field; None where the file has none."""
        tensor = self.found.tensor(field)
        if tensor is None:
            return None
        begin, size = self.share(field, tensor, matrix)
        first, length = self._span(field, size, start, stop)
        raw = np.frombuffer(self.read(tensor, begin + first, length), np.uint8)
        if self.found.slots is not None and field.role is Role.SCALE:
            item = BITS[field.dtype] // 8
            rows = field.grid(stop - start, self.cols)[0]
            raw = np.ascontiguousarray(raw.reshape(rows, -1, item)[:, list(self.found.slots)]).reshape(-1)
        return raw

    def _span(self, field: Field, size: int, start: int, stop: int) -> tuple[int, int]:
        outer = next((f for f in self.encoding.factors if any(part.suffix == field.suffix for part in f.inner)), None)
        if outer is None:
            return span(field, size, (self.rows, self.cols), start, stop)
        if outer.flat:
            outer_run = field._replace(block=(1, field.block[1] * outer.block[1])) if field.flat else field
            return span(outer_run, size, (self.rows, self.cols), start, stop)
        high = outer.block[0]
        return span(field, size, outer.grid(self.rows, self.cols), start // high if high else 0, -(-stop // high) if high else 1)

    def raw(self, row: int, count: int) -> np.ndarray:
        """Stored values of flat rows: codes uint8 [count, cols], or the bits or floats of a plain dtype."""
        matrix, first = divmod(row, self.rows)
        field, last = self.encoding.code, first + count
        period = code_rows(field, self.cols)
        start, stop = first // period * period, min(self.rows, -(-last // period) * period)
        bare = replace(self.encoding, factors=())
        return self._checked(lambda: stored.read(bare, (stop - start, self.cols), lambda _: self.window(field, matrix, start, stop),
                                                 (first - start, last - start), fast.unpack).codes_RC)

    def rows_of(self, row: int, count: int) -> QTensor:
        """Flat rows, all of one matrix, with the values of the factors for these rows."""
        codes = self.raw(row, count)
        return self.with_factors(codes, row) if self.scaled else QTensor(codes, replace(self.encoding, factors=()))

    def with_factors(self, codes: np.ndarray, row: int) -> QTensor:
        """Codes of flat rows from `row` on (all of one matrix), with their factors."""
        matrix, first = divmod(row, self.rows)
        last = first + len(codes)
        period = self.rows if self.order is not None else factor_rows(self.encoding, self.rows, self.cols)
        start, stop = first // period * period, min(self.rows, -(-last // period) * period)
        fields = {f.suffix: f for f in self.encoding.stored_fields}

        def fetch(suffix: str) -> np.ndarray | None:
            if fields[suffix].role is Role.ORDER and self.order is None:
                return None
            return self.window(fields[suffix], matrix, start, stop)

        source = stored.Source((stop - start, self.cols), fetch, fast.unpack)
        return self._checked(lambda: stored.with_factors(codes, self.encoding, source, first - start, last - start))

    def _checked(self, make: Any) -> Any:
        try:
            return make()
        except ValueError as error:
            raise WeighbridgeError("encoding", str(error), f"{self.found.weight.file}: {self.found.key}", "weighbridge inspect SRC shows its headers") from error

    def groups(self, row: int, count: int) -> np.ndarray:
        """The row of the grid (in its matrix) of each of some flat rows of one matrix."""
        places = row % self.rows + np.arange(count)
        return self.order[places] if self.order is not None else places // self.block[0]

    def factors_at(self, q: QTensor, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What the codes of `rows` of `q` are multiplied by, and the zero points: float32 [rows, grid columns]."""
        columns = np.arange(0, self.cols, self.block[1])
        zero = q.grid(Role.ZERO)
        with np.errstate(all="ignore"):
            return q.scales_at(rows, columns), q.factor_at(zero, rows, columns) if zero else None

    def all_scales(self) -> np.ndarray:
        """float32 [lead x grid rows, grid columns]."""
        found = np.zeros((self.lead * self.grid_rows, self.grid_cols), np.float32)
        nothing = np.broadcast_to(np.uint8(0), (self.rows, self.cols))
        for matrix in range(self.lead):
            q = self.with_factors(nothing, matrix * self.rows)
            groups, first = np.unique(self.groups(0, self.rows), return_index=True)
            found[matrix * self.grid_rows + groups] = self.factors_at(q, first)[0]
        return found

    def decode(self, q: QTensor) -> np.ndarray:
        """float32 values; of codes without a scale, the values of the codes."""
        if q.encoding.quantized:
            return fast.decode(q, "F32")
        return q.decode() if self.plain else self.form.table[q.codes_RC]  # type: ignore[index]

    def parts(self, row: int, col: int) -> list[list[Part]]:
        """For each factor in the value of one weight (a flat row, a column): itself, then what scales it again."""
        found = []
        for field in self.encoding.factors:
            if field.role in (Role.SCALE, Role.DIVISOR, Role.ZERO) and self.found.tensor(field) is not None:
                found.append(self._part(field, row, col))
        return found

    def _part(self, field: Field, row: int, col: int) -> list[Part]:
        matrix, first = divmod(row, self.rows)
        period = self.rows if self.order is not None else factor_rows(self.encoding, self.rows, self.cols)
        start = first // period * period
        stop = min(self.rows, start + period)
        shape = stop - start, self.cols
        if field.flat:
            at = 0, ((first - start) * self.cols + col) // field.block[1]
        else:
            group = int(self.order[first]) if self.order is not None and field.block[0] else (first - start) // field.block[0] if field.block[0] else 0
            at = group, col // field.block[1] if field.block[1] else 0
        out = [self._at(field, matrix, (start, stop), shape, at)]
        grid = field.grid(*shape)
        for part in field.inner:
            inside = tuple(place // size if size else 0 for place, size in zip(at, part.block, strict=True))
            out.append(self._at(part, matrix, (start, stop), grid, inside))  # type: ignore[arg-type]
        return out

    def _at(self, field: Field, matrix: int, rows: tuple[int, int], shape: tuple[int, int], at: tuple[int, int]) -> Part:
        """One value of a field whose window begins at a row of the matrix, by the specification."""
        raw, tensor = self.window(field, matrix, *rows), self.found.tensor(field)
        assert raw is not None and tensor is not None
        value = float(self._checked(lambda: codec.own_values(field, raw, shape))[at])
        if field.role is Role.OFFSET:
            return Part(field, tensor, field.element, value, 0)
        grid = field.grid(*shape)
        if field.packing.packed:
            code = int(codec.codes_of(field, raw, grid)[at])
            return Part(field, tensor, f"0x{code:0{-(-field.packing.width // 4)}X}", value, at[0] * grid[1] + at[1])
        item, index = BITS[field.dtype] // 8, at[0] * grid[1] + at[1]
        return Part(field, tensor, "0x" + raw[index * item : (index + 1) * item][::-1].tobytes().hex().upper(), value, index)

    def place(self, row: int, col: int) -> tuple[tuple[int, int], list[tuple[Place, int]]] | None:
        """(stored columns, [(place, its word)]) of the code of a flat row and column; None where a code has a byte or more of its own."""
        field, tensor = self.encoding.code, self.found.weight
        if not field.packing.packed:
            return None
        matrix, first = divmod(row, self.rows)
        begin, size = self.share(field, tensor, matrix)
        found = []
        for place in places(field, (self.rows, self.cols), first, col):
            if place.start + place.word <= size:
                found.append((place, int.from_bytes(self.read(tensor, begin + place.start, place.word), "little")))
        wide = field.packing.units(self.cols) * (field.packing.size // field.packing.word) if field.packing.axis == -1 else self.cols
        return (wide if not field.flat else 0, begin // field.packing.word), found

    @property
    def tile(self) -> int:
        """Rows that are looked at together: those of a block where a band holds them, 128 for a tensor without scale."""
        if not self.scaled:
            return 128
        return self.block[0] if self.block[0] * self.cols <= 8 * BAND else 1

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(flat row, count) of what is looked at: all of it, or bands at even distances, in whole rows of blocks where they are small."""
        total, most = self.lead * self.rows, LOOK if self.near else LOOK_FAR
        if self.cols > most:
            raise WeighbridgeError("row-too-long", f"one row has {self.cols:,} values, the limit is {most:,}", f"{self.found.weight.file}: {self.found.key}",
                                   "weighbridge inspect SRC shows its headers")
        if self.values <= most:
            return [(0, total)] if self.values else []
        unit = self.tile if self.tile * self.cols <= most else 1
        each = max(unit, most // BANDS // self.cols // unit * unit)
        count = max(1, min(BANDS, most // (each * self.cols)))
        starts = [(total - each) * place // max(1, count - 1) for place in range(count)]
        snapped = dict.fromkeys(row // self.rows * self.rows + row % self.rows // unit * unit for row in starts)
        return _apart([(row, min(each, total - row)) for row in snapped])

    @property
    def looked(self) -> int:
        return sum(count for _, count in self.runs) * self.cols

    def bands(self) -> Iterator[tuple[int, int]]:
        """The runs in bands of about `BAND` values and whole tiles, none over the edge of a matrix."""
        codes = len(self.form.table) if self.form.table is not None else 1
        most = min(BAND // max(1, self.cols), COUNTS // max(1, self.grid_cols * codes) * self.block[0])
        each = max(1, most) // self.tile * self.tile or self.tile
        for start, count in self.runs:
            row = start
            while row < start + count:
                stop = min(row + each, start + count, (row // self.rows + 1) * self.rows)
                yield row, stop - row
                row = stop


def _apart(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs in order, cut where the next one begins."""
    return [(row, min(count, following - row)) for (row, count), following in zip(runs, [*(r for r, _ in runs[1:]), 1 << 62], strict=True)]
