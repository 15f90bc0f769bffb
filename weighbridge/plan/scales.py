"""What the scales and zero points of a stored weight say, for ways that depend on them. A tensor is read when a way asks, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Field, Role
from weighbridge.models.fused import partners
from weighbridge.layouts.source import Bound, Source

if TYPE_CHECKING:
    import numpy as np


class ScaleLooks:
    """One look for each stored weight of a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.looks: dict[int, ScaleLook] = {}

    def of(self, bound: Bound) -> ScaleLook:
        look = self.looks.get(id(bound))
        if look is None:
            look = self.looks[id(bound)] = ScaleLook(self.source, bound, lambda: self._joined(bound))
        return look

    def _joined(self, bound: Bound) -> list[ScaleLook]:
        names = {name for part in bound.stored.placement.parts for name in partners(part.weight)}
        numbers = {number for name in names for number, _ in self.source.holders.get(name, ())}
        others = [self.source.bound[number] for number in sorted(numbers)]
        return [self.of(other) for other in others if other is not bound and other.encoding.scheme == bound.encoding.scheme]


class ScaleLook:
    """The scales of one stored weight. `asked` says whether an answer depended on their values."""

    def __init__(self, source: Source, bound: Bound, joined: Callable[[], list[ScaleLook]]) -> None:
        """`joined`: looks at the weights that readers join with this one, as far as their scales are of its kind."""
        self.source, self.bound, self.joined = source, bound, joined
        self.asked = False
        self._grids: dict[str, np.ndarray] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._answers: dict[object, int] = {}  # a stack of experts is asked for each of them

    def powers(self) -> bool:
        """Whether every scale is a power of two that E8M0 holds."""
        return bool(self._once("powers", self._powers))

    def spread(self, block: tuple[int, int]) -> int:
        """The largest difference of exponents among the scales inside one block of (rows, columns) values; 0 is the whole axis."""
        return self._once(block, lambda: self._spread(block))

    def zeros_are(self, value: int) -> bool:
        """Whether every zero point is `value`."""
        return bool(self._once(value, lambda: bool((self._own(self.bound.encoding.zero) == value).all())))

    def zeros_wrap(self) -> bool:
        """Whether a zero point is the largest of its range."""
        zero = self.bound.encoding.zero
        assert zero is not None
        return bool(self._once("wrap", lambda: bool((self._own(zero) >= ELEMENTS[zero.element].largest).any())))

    def in_order(self) -> bool:
        """Whether the groups of input channels lie one after the other; so they do where no tensor says otherwise."""
        order = next((f for f in self.bound.encoding.factors if f.role is Role.ORDER), None)
        return order is None or self.bound.tensor(order) is None or bool(self._once("order", lambda: self._in_order(order)))

    def _in_order(self, order: Field) -> int:
        import numpy as np

        own, block = self._own(order).reshape(-1), self.bound.encoding.block
        group = max(block) if block else 0
        return bool(np.array_equal(own, np.arange(len(own)) // group if group else np.zeros(len(own))))

    def whole_powers(self) -> bool:
        """Whether the scale of the whole tensor is a power of two."""
        import numpy as np

        return bool(self._once("whole", lambda: bool((np.frexp(self.whole())[0] == 0.5).all())))

    def whole_shared(self) -> bool:
        """Whether the weights that readers join with this one have the same scale of the whole tensor."""
        return bool(self._once("shared", lambda: all((look.whole() == self.whole()[0]).all() for look in (self, *self.joined()))))

    def whole(self) -> np.ndarray:
        """The scales of the whole tensor, one for each matrix of a stack."""
        scale = self.bound.encoding.scale
        assert scale is not None
        if "whole" not in self._kept:
            self._kept["whole"] = self._own(scale.inner[0], (1, 1)).reshape(-1)
        return self._kept["whole"]

    def _once(self, what: object, find: Callable[[], int]) -> int:
        self.asked = True
        if what not in self._answers:
            self._answers[what] = find()
            self._grids.clear()
        return self._answers[what]

    def _powers(self) -> bool:
        import numpy as np

        if self._are_exponents():
            return True
        fraction, exponent = np.frexp(self._own(self.bound.encoding.scale))
        return bool(((fraction == 0.5) & (exponent >= -126) & (exponent <= 128)).all())

    def _spread(self, block: tuple[int, int]) -> int:
        import numpy as np

        exponents = self.exponents()
        high, low = (_reduced(exponents, self._scales_in(block), pick) for pick in ("max", "min"))
        return int((high.astype(np.int32) - low).max(initial=0))

    def exponents(self) -> np.ndarray:
        """The power of two of each scale, up to a constant, [rows, columns] of the grid; of a stack, its matrices one below the other."""
        import numpy as np

        field = self.bound.encoding.scale
        if self._are_exponents():  # the stored bytes themselves
            assert field is not None
            tensor, placed = self.bound.tensor(field), self.bound.stored.placement
            assert tensor is not None
            return self.source.read(tensor).reshape(-1, field.grid(placed.rows, placed.cols)[1])
        return np.frexp(self._own(field))[1]

    def _are_exponents(self) -> bool:
        scale = self.bound.encoding.scale
        return scale is not None and scale.element == "e8m0" and not scale.inner

    def _scales_in(self, block: tuple[int, int]) -> tuple[int, int]:
        """How many scales lie in a block, along each axis; 0 is all of them."""
        own = self.bound.encoding.block
        assert own is not None
        return tuple(0 if not wanted or not size else max(1, wanted // size) for wanted, size in zip(block, own, strict=True))  # type: ignore[return-value]

    def _own(self, field: Field | None, shape: tuple[int, int] | None = None) -> np.ndarray:
        """A field's own values for matrices of `shape` values, those of a stack one below the other."""
        import numpy as np

        from weighbridge.formats import codec

        assert field is not None
        if field.suffix not in self._grids:
            tensor = self.bound.tensor(field)
            assert tensor is not None
            placed = self.bound.stored.placement
            raw = self.source.read(tensor)
            shape = shape or (placed.rows, placed.cols)
            lead = placed.lead if raw.size != field.nbytes(shape) else 1  # one for the whole stack
            grids = [codec.own_values(field, part, shape) for part in raw.reshape(lead, -1)]
            self._grids[field.suffix] = np.concatenate(grids)
        return self._grids[field.suffix]


def _reduced(grid: np.ndarray, step: tuple[int, int], pick: str) -> np.ndarray:
    """The largest or smallest of each rectangle of `step` cells."""
    import numpy as np

    reduce = np.maximum.reduceat if pick == "max" else np.minimum.reduceat
    rows, cols = (np.arange(0, length, size or length) for length, size in zip(grid.shape, step, strict=True))
    return reduce(reduce(grid, rows, axis=0), cols, axis=1)
