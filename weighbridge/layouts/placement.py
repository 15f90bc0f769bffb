"""The notation of layouts: a stored tensor as rectangles of logical weights.

Every operation (swap, join, stack, spread, cut) only moves rectangles, so it is an index map: it reads
in both directions, it is the same for a weight and for its scale grid, and a plan between two layouts is
the intersection of their rectangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from weighbridge.formats.scheme import Encoding, Field, Role
from weighbridge.models.inventory import Weight


class Part(NamedTuple):
    """A rectangle of a logical weight and where it lies in a stored tensor.

    (`row`, `col`) and (`rows`, `cols`) are in the logical axes [out, in]; (`lead`, `at_row`, `at_col`) is
    its corner in the stored axes [lead, rows, columns]. `turned`: the stored axes are [in, out].
    """

    weight: str
    row: int
    col: int
    rows: int
    cols: int
    lead: int
    at_row: int
    at_col: int
    turned: bool

    @property
    def extent(self) -> tuple[int, int]:
        """(rows, columns) in the stored axes."""
        return (self.cols, self.rows) if self.turned else (self.rows, self.cols)


class Placement(NamedTuple):
    """A stored tensor's axes [lead, rows, cols] and the rectangles in it. Elements under no rectangle are zero."""

    lead: int
    rows: int
    cols: int
    parts: tuple[Part, ...]
    stacked: bool = False
    vector: bool = False
    dims: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as stored: vectors have one axis, stacks three; `dims` where it is another one of as many elements (`Weight.dims`)."""
        if self.dims is not None:
            return self.dims
        if self.vector:
            return (self.cols,)
        return (self.lead, self.rows, self.cols) if self.stacked else (self.rows, self.cols)

    def swap(self) -> Placement:
        """Exchange the last two axes."""
        parts = tuple(Part(weight, row, col, rows, cols, lead, at_col, at_row, not turned)
                      for weight, row, col, rows, cols, lead, at_row, at_col, turned in self.parts)
        return Placement(self.lead, self.cols, self.rows, parts, self.stacked, self.vector)

    def take(self, axis: int, ranges: Sequence[tuple[int, int, int]], size: int) -> Placement:
        """A new axis of `size`, filled from (start, stop) of the old one at a new place; the rest is zero.

        `axis` is 0 for rows, 1 for columns; `ranges` holds (start, stop, new start).
        """
        parts = tuple(moved for p in self.parts for r in ranges if (moved := clip(p, axis, *r)) is not None)
        return self._replace(rows=size, parts=parts) if axis == 0 else self._replace(cols=size, parts=parts)

    def spread(self, axis: int, unit: int, slots: Sequence[int | None]) -> Placement:
        """Put unit `slots[k]` of the old axis (a head, say) at unit k of the new one; None leaves zeros."""
        ranges: list[tuple[int, int, int]] = []
        for place, old in enumerate(slots):
            if old is None:
                continue
            start, at = old * unit, place * unit
            if ranges and ranges[-1][1] == start and ranges[-1][2] + (ranges[-1][1] - ranges[-1][0]) == at:
                ranges[-1] = (ranges[-1][0], start + unit, ranges[-1][2])
            else:
                ranges.append((start, start + unit, at))
        return self.take(axis, ranges, unit * len(slots))

    def cut(self, axis: int, index: int, ways: int, stride: int = 1) -> Placement:
        """What part `index` of `ways` gets: of each of `stride` equal sections, its share, one behind the other."""
        length = self.rows if axis == 0 else self.cols
        chunk = length // (ways * stride)
        ranges = [(s * (length // stride) + index * chunk, s * (length // stride) + (index + 1) * chunk, s * chunk)
                  for s in range(stride)]
        return self.take(axis, ranges, chunk * stride)


def whole(weight: Weight) -> Placement:
    """A logical weight stored as it is."""
    rows, cols = weight.shape
    return Placement(1, rows, cols, (Part(weight.name, 0, 0, rows, cols, 0, 0, 0, False),), vector=weight.vector, dims=weight.dims)


def turned(weight: Weight) -> Placement:
    """A logical weight with its axes exchanged: `whole(weight).swap()`, made at once."""
    rows, cols = weight.shape
    return Placement(1, cols, rows, (Part(weight.name, 0, 0, rows, cols, 0, 0, 0, True),), vector=weight.vector)


def join(axis: int, *members: Placement) -> Placement:
    """Members one behind the other along rows (0) or columns (1)."""
    parts: list[Part] = []
    offset = 0
    for member in members:
        down, right = (offset, 0) if axis == 0 else (0, offset)
        parts += [Part(*p[:6], p.at_row + down, p.at_col + right, p.turned) for p in member.parts]
        offset += member.rows if axis == 0 else member.cols
    first = members[0]
    rows, cols = (offset, first.cols) if axis == 0 else (first.rows, offset)
    return Placement(first.lead, rows, cols, tuple(parts), first.stacked, first.vector)


def stack(members: Iterable[Placement]) -> Placement:
    """Members behind one another along a new first axis."""
    listed = list(members)
    parts = tuple(Part(*p[:5], index, *p[6:]) for index, member in enumerate(listed) for p in member.parts)
    return listed[0]._replace(lead=len(listed), parts=parts, stacked=True)


def in_slices(placement: Placement, slices: int) -> Placement | None:
    """The same bytes as so many matrices, one behind the other along the rows; None where a weight would lie in two of them."""
    rows = placement.rows // slices
    parts: list[Part] = []
    for part in placement.parts:
        first, last = part.at_row // rows, (part.at_row + part.extent[0] - 1) // rows
        if first == last:
            parts.append(part._replace(lead=first, at_row=part.at_row - first * rows))
        elif part.turned or part.at_row % rows or part.extent[0] % rows:
            return None
        else:  # one weight that the file itself cuts
            parts += [part._replace(row=part.row + i * rows, rows=rows, lead=first + i, at_row=0) for i in range(last - first + 1)]
    return Placement(slices, rows, placement.cols, tuple(parts), stacked=True)


def clip(part: Part, axis: int, start: int, stop: int, at: int) -> Part | None:
    """The piece of `part` inside [start, stop) of a stored axis, moved to begin at `at` + its distance from `start`."""
    corner = part.at_row if axis == 0 else part.at_col
    length = part.extent[axis]
    low, high = max(corner, start), min(corner + length, stop)
    if low >= high:
        return None
    shift, place, size = low - corner, at + low - start, high - low
    part = part._replace(at_row=place) if axis == 0 else part._replace(at_col=place)
    if (axis == 0) != part.turned:
        return part._replace(row=part.row + shift, rows=size)
    return part._replace(col=part.col + shift, cols=size)


class Stored(NamedTuple):
    """One stored weight with the tensors that help to read it: names, file, rectangles and encoding.

    A coded weight lies under `stem` and the suffixes of its encoding's fields, a plain one under `stem + suffix`. `encoding` None means "as the
    source has it". `scale_slots` (one case: NxD pads o_proj's weight at load but not its scale) gives the column of the stored scale for each block
    column, `scale_cols` its width. `scale_part` is a rectangle whose scales this tensor carries although it may hold none of its values (the row
    scale on a rank of zero heads). `constant` makes a tensor of int32 values that belongs to no weight. `dims` is the stored shape of what is no
    matrix (a convolution, a scalar). `joined`: the matrices of the stack stand as rows of one, while each has a grid of its own. `why_plain`: why
    a weight that the layout would quantize is not.
    """

    stem: str
    suffix: str
    file: str
    placement: Placement
    encoding: Encoding | None
    scale_slots: tuple[int, ...] | None = None
    scale_cols: int = 0
    scale_part: Part | None = None
    constant: tuple[int, ...] | None = None
    dims: tuple[int, ...] | None = None
    joined: bool = False
    why_plain: str = ""

    @property
    def name(self) -> str:
        """The name of the tensor that holds the codes or the values."""
        return self.stem + (self.encoding.code.suffix if self.encoding and self.encoding.quantized else self.suffix)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in values."""
        return self.placement.shape

    def field_name(self, field: Field) -> str:
        """The name of the tensor that holds a field of `encoding`."""
        return self.stem + (field.suffix if self.encoding and self.encoding.quantized else self.suffix)

    def field_shape(self, field: Field) -> tuple[int, ...]:
        """The stored shape of a field: padded where NxD pads a scale."""
        if self.dims is not None and not (self.encoding and self.encoding.quantized):
            return self.dims
        shape = field.shapes(self.shape)[0]
        if self.joined and len(shape) > 2:
            shape = (shape[0] * shape[1], *shape[2:])
        padded = self.scale_slots is not None and field.role is Role.SCALE and shape[-1] == len(self.scale_slots)
        return (*shape[:-1], self.scale_cols) if padded else shape
