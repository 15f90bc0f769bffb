"""What the scales and zero points of a stored weight say, for ways that depend on them. A tensor is read when a way asks, and once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weighbridge.formats.scheme import Field
from weighbridge.plan.source import Bound, Source

if TYPE_CHECKING:
    import numpy as np


class ScaleLooks:
    """One look for each stored weight of a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.looks: dict[str, ScaleLook] = {}

    def of(self, bound: Bound) -> ScaleLook:
        name = bound.weight.name + "\0" + bound.weight.file
        look = self.looks.get(name)
        if look is None:
            look = self.looks[name] = ScaleLook(self.source, bound)
        return look


class ScaleLook:
    """The scales of one stored weight. `asked` says whether an answer depended on their values."""

    def __init__(self, source: Source, bound: Bound) -> None:
        self.source, self.bound = source, bound
        self.asked = False
        self._grids: dict[str, np.ndarray] = {}

    def powers(self) -> bool:
        """Whether every scale is a power of two that E8M0 holds."""
        import numpy as np

        fraction, exponent = np.frexp(self._own(self.bound.encoding.scale))
        return bool(((fraction == 0.5) & (exponent >= -126) & (exponent <= 128)).all())

    def spread(self, block: tuple[int, int]) -> int:
        """The largest difference of exponents among the scales inside one block of (rows, columns) values; 0 is the whole axis."""
        exponents = self.exponents()
        high, low = (_reduced(exponents, self._scales_in(block), pick) for pick in ("max", "min"))
        return int((high - low).max(initial=0))

    def exponents(self) -> np.ndarray:
        """The power of two of each scale, int32 [rows, columns] of the grid; of a stack, its matrices one below the other."""
        import numpy as np

        return np.frexp(self._own(self.bound.encoding.scale))[1] - 1

    def zeros_are(self, value: int) -> bool:
        """Whether every zero point is `value`."""
        return bool((self._own(self.bound.encoding.zero) == value).all())

    def _scales_in(self, block: tuple[int, int]) -> tuple[int, int]:
        """How many scales lie in a block, along each axis; 0 is all of them."""
        own = self.bound.encoding.block
        assert own is not None
        return tuple(0 if not wanted or not size else max(1, wanted // size) for wanted, size in zip(block, own, strict=True))  # type: ignore[return-value]

    def _own(self, field: Field | None) -> np.ndarray:
        from weighbridge.formats import codec

        self.asked = True
        assert field is not None
        if field.suffix not in self._grids:
            tensor = self.bound.tensor(field)
            assert tensor is not None
            placed = self.bound.stored.placement
            raw = self.source.read(tensor)
            grids = [codec.own_values(field, part, (placed.rows, placed.cols)) for part in raw.reshape(placed.lead, -1)]
            import numpy as np

            self._grids[field.suffix] = np.concatenate(grids)
        return self._grids[field.suffix]


def _reduced(grid: np.ndarray, step: tuple[int, int], pick: str) -> np.ndarray:
    """The largest or smallest of each rectangle of `step` cells."""
    import numpy as np

    reduce = np.maximum.reduceat if pick == "max" else np.minimum.reduceat
    rows, cols = (np.arange(0, length, size or length) for length, size in zip(grid.shape, step, strict=True))
    return reduce(reduce(grid, rows, axis=0), cols, axis=1)
