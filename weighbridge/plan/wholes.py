"""What some schemes must know of a whole weight before its first row is written: its largest magnitude, or its largest power of two.

Readers put some weights into one (q, k and v; gate and up), and take one scale for all of them: such partners are looked at together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from weighbridge.formats.values import Scratch, values
from weighbridge.formats.qtensor import QTensor
from weighbridge.models.fused import partners
from weighbridge.plan.cover import Fragment, cover
from weighbridge.layouts.source import Source

BAND = 1 << 20  # values that are decoded at a time
Rect = Callable[[Fragment, int, int, int, int], QTensor]


class Wholes:
    """Looks at whole logical weights of a source, each group of partners once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.known: dict[tuple[str, str], float] = {}
        self.locks: dict[tuple[str, str], threading.Lock] = {}
        self.lock = threading.Lock()
        self.unchanged: dict[str, bool] = {}  # destination weight -> whether all its values are codes under kept scales

    def largest(self, rect: Rect, weight: str, shared: bool) -> float:
        """The largest magnitude of a weight, and of its partners where a scale is `shared`. `rect` reads rectangles."""
        return self._of("largest", weight, shared, lambda name: _largest(self._bands(rect, name)))

    def exponent(self, rect: Rect, weight: str, shared: bool) -> float:
        """The power of two of the largest scale of a weight, and of its partners where a scale is `shared`."""
        return self._of("exponent", weight, shared, lambda name: _exponent(self._bands(rect, name)))

    def _of(self, what: str, weight: str, shared: bool, look: Callable[[str], float]) -> float:
        names = sorted(n for n in (partners(weight) if shared else (weight,)) if n in self.source.holders)
        key = (what, "\0".join(names))
        with self.lock:
            own = self.locks.setdefault(key, threading.Lock())
        with own:
            if key not in self.known:
                self.known[key] = max(look(name) for name in names)
        return self.known[key]

    def _bands(self, rect: Rect, weight: str) -> Iterator[QTensor]:
        rows, cols = self.source.weight(weight).shape
        step = max(1, BAND // cols)
        for fragment in cover((0, 0, rows, cols), self.source.holders[weight])[0]:
            for row in range(fragment.lrow, fragment.lrow + fragment.lrows, step):
                yield rect(fragment, row, fragment.lcol, min(step, fragment.lrow + fragment.lrows - row), fragment.lcols)


def _largest(bands: Iterable[QTensor]) -> float:
    scratch, largest = Scratch(), 0.0
    for q in bands:
        region = scratch.array("whole", q.shape, np.float32)
        values(q, region, scratch)
        largest = max(largest, float(np.abs(region, out=region).max(initial=0)))
    return largest


def _exponent(bands: Iterable[QTensor]) -> float:
    found = -200.0
    for q in bands:
        assert q.scale is not None
        found = max(found, float(np.frexp(q.scale.own)[1].max(initial=-200)) - 1)
    return found
