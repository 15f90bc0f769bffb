"""What the scales and zero points of a stored weight say, for ways that depend on them. A tensor is read when a way asks, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from weighbridge.formats.scheme import Field
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
            look = self.looks[id(bound)] = ScaleLook(self.source, bound)
        return look


class ScaleLook:
    """The scales of one stored weight. `asked` says whether an answer depended on their values."""

    def __init__(self, source: Source, bound: Bound) -> None:
        self.source, self.bound = source, bound
        self.asked = False
        self._grids: dict[str, np.ndarray] = {}
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

    def _own(self, field: Field | None) -> np.ndarray:
        import numpy as np

        from weighbridge.formats import codec

        assert field is not None
        if field.suffix not in self._grids:
            tensor = self.bound.tensor(field)
            assert tensor is not None
            placed = self.bound.stored.placement
            raw = self.source.read(tensor)
            grids = [codec.own_values(field, part, (placed.rows, placed.cols)) for part in raw.reshape(placed.lead, -1)]
            self._grids[field.suffix] = np.concatenate(grids)
        return self._grids[field.suffix]


def _reduced(grid: np.ndarray, step: tuple[int, int], pick: str) -> np.ndarray:
    """The largest or smallest of each rectangle of `step` cells."""
    import numpy as np

    reduce = np.maximum.reduceat if pick == "max" else np.minimum.reduceat
    rows, cols = (np.arange(0, length, size or length) for length, size in zip(grid.shape, step, strict=True))
    return reduce(reduce(grid, rows, axis=0), cols, axis=1)
