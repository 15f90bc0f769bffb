"""What a scheme is: a code field and the fields that give it a value. `Encoding` is a scheme with its sizes filled in.

`value = (look(code) - zero) x scale`, where a scale may be scaled again (`inner`), and a divisor divides. Blocks and packings are in *stored* axes
[rows, columns]: a scheme that stores [in, out] says so (`turned`) and its blocks lie along those axes. No numpy here: planning needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property
from math import lcm, prod
from typing import NamedTuple

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.formats.element import ELEMENTS, PLAIN
from weighbridge.formats.packing import Packing, whole

WHOLE = 0  # a block as long as the axis
BLOCK, GROUP = -1, -2  # in a scheme: the claim's block along this axis, the claim's group size


# The element of a scale by the dtype that it is stored in. A byte is an exponent: OCP microscaling's scale; who means something else names it.
BY_DTYPE = {"F32": "f32", "BF16": "bf16", "F16": "f16", "F64": "f64", "F8_E8M0": "e8m0", "U8": "e8m0", "F8_E4M3": "e4m3fn"}


class Role(StrEnum):
    """What a field does to the value."""

    CODE = "code"
    SCALE = "scale"
    DIVISOR = "divisor"
    ZERO = "zero"
    ORDER = "order"  # the group of each input channel (GPTQ's g_idx)
    OFFSET = "offset"  # added to a coded scale (bitsandbytes' nested absmax)
    SHAPE = "shape"  # the true [rows, columns] of a padded weight
    ACTIVATION = "activation"  # a scale of the layer's input: carried along, no part of the weight
    ACTIVATION_DIVISOR = "activation divisor"  # the same, as a divisor
    NOTE = "note"  # metadata of the format, no part of the value


class Form(StrEnum):
    """How the shape of a grid [rows, columns] is written."""

    MATRIX = "matrix"  # [rows, columns]
    VECTOR = "vector"  # [rows]: one column
    SCALAR = "scalar"  # []
    ONE = "one"  # [1]
    SQUARE = "square"  # [1, 1]
    SPACED = "spaced"  # [rows, 1, columns, 1]
    SIXTEENS = "sixteens"  # [rows, columns / 16, 16]: bytes of MXFP4 groups
    FLAT = "flat"  # [n, 1]: rows one behind the other
    PAIR = "pair"  # [2]


class Field(NamedTuple):
    """One part of the value. `suffixes` are the names that readers meet behind the module's, the one that is written first; so are `dtypes` and `forms`.

    `block` is (rows, columns) of stored values that share one value of this field; where `flat`, they are counted along the rows, one behind the
    other, and `block[1]` alone counts. An empty `element` follows the dtype (`BY_DTYPE`). The field's value is the element's over `over`, times or
    over its `inner` fields, rounded to float32 after each. `optional`: it may be absent.
    """

    role: Role
    suffixes: tuple[str, ...]
    element: str
    dtypes: tuple[str, ...]
    block: tuple[int, int] = (1, 1)
    packing: Packing = whole(8)
    forms: tuple[Form, ...] = (Form.MATRIX,)
    inner: tuple[Field, ...] = ()
    optional: bool = False
    over: float = 1.0
    flat: bool = False

    @property
    def suffix(self) -> str:
        return self.suffixes[0]

    @property
    def dtype(self) -> str:
        return self.dtypes[0]

    @property
    def weighs(self) -> bool:
        """Whether it has a part in the weight's value."""
        return self.role in (Role.CODE, Role.SCALE, Role.DIVISOR, Role.ZERO, Role.ORDER, Role.OFFSET)

    def grid(self, rows: int, cols: int) -> tuple[int, int]:
        """Values of this field for a matrix of [rows, cols] stored values."""
        if self.flat:
            return 1, -(-rows * cols // self.block[1])
        high, wide = (size or length for size, length in zip(self.block, (rows, cols), strict=True))
        return -(-rows // max(1, high)), -(-cols // max(1, wide))

    def turned(self) -> Field:
        """The same field seen along the other order of the two axes."""
        packing = self.packing._replace(axis=-3 - self.packing.axis)
        return self._replace(block=self.block[::-1], packing=packing, inner=tuple(f.turned() for f in self.inner))

    def packed_grid(self, rows: int, cols: int) -> tuple[int, int]:
        """Stored elements (of the field's dtype) for a matrix of [rows, cols] stored values."""
        grid = list(self.grid(rows, cols))
        each = self.packing.size * 8 // BITS[self.dtype]
        grid[self.packing.axis] = self.packing.units(grid[self.packing.axis]) * each
        return grid[0], grid[1]

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The stored shapes, one for each form, of a weight of `shape` values: leading axes, rows, columns."""
        *lead, rows, cols = shape if len(shape) > 1 else (1, *shape)
        if self.role is Role.SHAPE:
            return ((2,),)
        high, wide = self.packed_grid(rows, cols)
        return tuple(_spelled(form, tuple(lead), high, wide, len(shape)) for form in self.forms)

    def filled_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in values of a stored tensor of codes: what lies in its units, the last one filled up."""
        if Form.SIXTEENS in self.forms and len(stored) >= 3:
            stored = (*stored[:-2], stored[-2] * stored[-1])
        if len(stored) < 2 or not self.packing.packed:
            return stored
        sizes = list(stored)
        sizes[self.packing.axis] = sizes[self.packing.axis] // (self.packing.size * 8 // BITS[self.dtype]) * self.packing.values
        return tuple(sizes)

    def nbytes(self, shape: tuple[int, ...]) -> int:
        return prod(self.shapes(shape)[0]) * BITS[self.dtype] // 8


def every_field(fields: Iterable[Field]) -> Iterator[Field]:
    """All fields, each before those that scale it."""
    for field in fields:
        yield field
        yield from every_field(field.inner)


def _spelled(form: Form, lead: tuple[int, ...], rows: int, cols: int, axes: int) -> tuple[int, ...]:
    if form is Form.MATRIX:
        return (cols,) if axes == 1 else (*lead, rows, cols)
    if form is Form.SIXTEENS:
        return (*lead, rows, cols // 16, 16)
    if form is Form.SPACED:
        return (*lead, rows, 1, cols, 1)
    if form is Form.VECTOR:
        return (*lead, rows * cols)
    if form is Form.FLAT:
        return (prod(lead) * rows * cols, 1)
    return {Form.SCALAR: lead, Form.ONE: (*lead, 1), Form.SQUARE: (*lead, 1, 1), Form.PAIR: (2,)}[form]


class Scheme(NamedTuple):
    """One spelling in the wild. Which layouts write it, their rows say (`layouts.rows`).

    `strategy` is the field's word: none, tensor, channel, group, block. `methods` are the families of claims (`claim.Claim.family`) under which it
    is published; where two schemes fit the same headers, the one whose method is claimed is meant. `says` is one phrase for people.
    """

    name: str
    says: str
    strategy: str
    code: Field
    factors: tuple[Field, ...]
    methods: tuple[str, ...]
    turned: bool = False
    refused: str = ""  # why its values cannot be read, where they cannot
    padded: bool = False  # a grid of scales may have more columns than its weight
    rule: str = ""  # how its scales are made from values: a row of `rules.RULES`

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.code, *self.factors


@dataclass(frozen=True)
class Encoding:
    """A scheme with its sizes: how one stored weight holds its values. Blocks and shapes are in stored axes."""

    scheme: str
    strategy: str
    code: Field
    factors: tuple[Field, ...] = ()

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.code, *self.factors

    @cached_property
    def stored_fields(self) -> tuple[Field, ...]:
        """Every field that is a tensor of its own, inner ones behind those that they scale."""
        found: list[Field] = []
        for field in self.fields:
            found += [field, *field.inner]
        return tuple(found)

    @property
    def quantized(self) -> bool:
        """Whether codes need another field to be values."""
        return bool(self.factors)

    @property
    def peak(self) -> float:
        """The largest magnitude of a code: 448 for E4M3FN, 240 for Neuron's E4M3."""
        return ELEMENTS[self.code.element].largest

    @cached_property
    def zero(self) -> Field | None:
        """The field that is subtracted from a code."""
        return next((f for f in self.factors if f.role is Role.ZERO), None)

    @property
    def element(self) -> str:
        return self.code.element

    @property
    def dtype(self) -> str:
        return self.code.dtype

    @cached_property
    def scale(self) -> Field | None:
        """The field that the codes are multiplied by, or divided."""
        return next((f for f in self.factors if f.role in (Role.SCALE, Role.DIVISOR)), None)

    @property
    def block(self) -> tuple[int, int] | None:
        """(rows, columns) of stored values that share one scale; 0 is the whole axis. None where nothing scales."""
        return self.scale.block if self.scale else None

    @cached_property
    def unit(self) -> tuple[int, int]:
        """The smallest rectangle of stored values (rows, columns) whose bytes can be cut out and written alone, scales aside."""
        size = [1, 1]
        for field in self.fields:
            if field.weighs:
                along = [max(1, b) for b in field.block]
                if field.packing.values > 1:
                    along[field.packing.axis] *= field.packing.values
                    size = [lcm(size[0], along[0] if field.packing.axis == -2 else 1), lcm(size[1], along[1] if field.packing.axis == -1 else 1)]
        return size[0], size[1]

    def turned(self) -> Encoding:
        """The same encoding seen along the other order of the two axes."""
        return replace(self, code=self.code.turned(), factors=tuple(f.turned() for f in self.factors))

    def bytes_of(self, values: int) -> int:
        """Bytes of the codes of so many values, whole ones."""
        packing = self.code.packing
        return -(-values * packing.size // packing.values)

    def strategy_of(self, shape: tuple[int, ...]) -> str:
        """none, tensor, channel, group or block, for a weight of `shape` values: a block as long as a row is a row's."""
        if self.block is None or self.code.flat:
            return self.strategy
        if self.block == (WHOLE, WHOLE):
            return "tensor"
        if WHOLE in self.block or (self.block[0] == 1 and len(shape) > 1 and self.block[1] >= shape[-1]):
            return "channel"
        return "group" if 1 in self.block else self.strategy

    def describe(self, shape: tuple[int, ...] = ()) -> str:
        """One phrase: `F8_E4M3 (max 240), block 128x128, F32 scales`. `shape` (in values) tells a row scale from a block of one row."""
        if not self.factors:
            return self.dtype
        name = self.dtype if not self.code.packing.packed and ELEMENTS[self.element].kind == "float" else self.element.upper()
        grid = "one scale per row" if shape and self.strategy_of(shape) == "channel" else _grid_words(self.block)
        zeros = ", zero points" if self.zero else ""
        return f"{name} (max {self.peak:g}), {grid}, {self.scale.dtype if self.scale else 'no'} scales{zeros}"


def _grid_words(block: tuple[int, int] | None) -> str:
    if block is None:
        return "no scale"
    return {(WHOLE, WHOLE): "one scale", (1, WHOLE): "one scale per row", (WHOLE, 1): "one scale per column"}.get(block, f"block {block[0]}x{block[1]}")


@cache
def plain(dtype: str) -> Encoding:
    """A tensor that holds its values themselves. One object for equal encodings: plans look ways up by it."""
    element = PLAIN.get(dtype, "")
    return Encoding("plain", "none", Field(Role.CODE, (".weight", ""), element or dtype, (dtype,), packing=whole(max(8, BITS[dtype]))))


def filled(scheme: Scheme, block: tuple[int, int] | None = None, group: int = 0, dtypes: dict[str, str] | None = None) -> Encoding:
    """A scheme with the claim's block (out, in) and group (-1: the whole axis); `dtypes` names the stored dtype of fields by suffix, where they may have several."""
    rows_cols = (block[::-1] if scheme.turned else block) if block else None
    factors = tuple(_filled(f, rows_cols, group, dtypes or {}) for f in scheme.factors)
    code = _filled(scheme.code, rows_cols, group, dtypes or {})
    return Encoding(scheme.name, scheme.strategy, code, factors)


def _filled(field: Field, block: tuple[int, int] | None, group: int, dtypes: dict[str, str]) -> Field:
    sizes = []
    for axis, size in enumerate(field.block):
        if size == BLOCK and block is None or size == GROUP and not group:
            raise ValueError(f"{field.suffix}: the size of a {'block' if size == BLOCK else 'group'} is not given")
        sizes.append(block[axis] if size == BLOCK and block else max(group, WHOLE) if size == GROUP else size)
    dtype = dtypes.get(field.suffix, field.dtype)
    return field._replace(block=(sizes[0], sizes[1]), dtypes=(dtype,), element=field.element or BY_DTYPE[dtype], packing=_as_wide(field.packing, dtype),
                          inner=tuple(_filled(f, block, group, dtypes) for f in field.inner))


def _as_wide(packing: Packing, dtype: str) -> Packing:
    """Unpacked values are as wide as their dtype."""
    return packing if packing.packed else whole(BITS[dtype])


__all__ = ["BLOCK", "GROUP", "WHOLE", "Encoding", "Field", "Form", "Role", "Scheme", "every_field", "filled", "plain", "replace"]
