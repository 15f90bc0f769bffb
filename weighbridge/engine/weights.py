"""From a bound checkpoint to what the forward pass multiplies with: rectangles of mapped files, nothing copied.

Any layout that can be bound can be run: a weight is the set of rectangles that `cover` finds, turned where the layout
turned them. Replicated and padded shards give each element once.
"""

from __future__ import annotations

import numpy as np

from weighbridge.engine.linear import Experts, Linear
from weighbridge.engine.rectangle import Rectangle, multiplied_as_stored, rectangle_of
from weighbridge.errors import Problem, Refused
from weighbridge.plan.cover import Fragment, cover
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Source

KINDS = ("gate", "up", "down")
ALIGN = 64  # bytes; where matrices begin that lie one behind the other


class Weights:
    """Logical weights of a source by name. `reader` gives the bytes.

    `reads` is the reading of FP8 codes ("e4m3fn", or "e4m3" as a Neuron device reads them). `rounded`: float32 weights are
    rounded to bfloat16 first, as NxD does when it loads (its `cast_type` "config").
    """

    def __init__(self, source: Source, reader: Reader, *, reads: str = "e4m3fn", rounded: bool = False) -> None:
        self.source, self.reader = source, reader
        self.reads, self.rounded = reads, rounded

    def fragments(self, name: str) -> list[Fragment]:
        """Rectangles that fill the weight once."""
        return fragments(self.source, name)

    def linear(self, name: str) -> Linear:
        """The matrix [out, in]."""
        parts = [(f.lrow, f.lcol, self._rectangle(f)) for f in self.fragments(name)]
        return Linear(parts, self.source.inventory[name].shape, reads=self.reads)

    def vector(self, name: str) -> np.ndarray:
        """float32 [n]."""
        out = np.empty(self.source.inventory[name].shape, np.float32)
        for f in self.fragments(name):
            out[f.lrow : f.lrow + f.lrows, f.lcol : f.lcol + f.lcols] = self._rectangle(f).decode()
        return out[0]

    def experts(self, layer: int) -> Experts:
        """All experts of a layer."""
        names = expert_names(self.source, layer)
        return Experts(*([self.linear(f"{name}.{kind}") for name in names] for kind in KINDS))

    def _rectangle(self, f: Fragment) -> Rectangle:
        return rectangle_of(self.reader.rect(f, f.lrow, f.lcol, f.lrows, f.lcols), self.rounded)


def fragments(source: Source, name: str) -> list[Fragment]:
    """Rectangles of stored tensors that fill a logical weight once. Refuses a weight of which a part is nowhere."""
    rows, cols = source.inventory[name].shape
    found, left = cover((0, 0, rows, cols), source.holders.get(name, []))
    if left:
        row, col, high, wide = left[0]
        says = f"rows {row}..{row + high - 1}, columns {col}..{col + wide - 1} of [{rows}, {cols}] are in no stored tensor"
        raise Refused([Problem("uncovered", says, source.inventory[name].published or name, "the checkpoint is not complete")])
    return found


def expert_names(source: Source, layer: int) -> list[str]:
    """`layers.{layer}.moe.experts.{e}` for every expert of the model."""
    return [f"layers.{layer}.moe.experts.{e}" for e in range(source.inventory.sizes["experts"])]


def stored_bytes(source: Source, names: list[str]) -> int:
    """Bytes of the stored matrices, with their scales, that hold these weights; each matrix once."""
    return sum(sum(_sizes(source, number)) for number in _matrices(source, names))


def slot_bytes(source: Source, expert: str) -> int:
    """Memory for the three matrices of one expert, each of them and of their scales on a boundary of ALIGN bytes."""
    numbers = _matrices(source, [f"{expert}.{kind}" for kind in KINDS])
    return sum(-(-size // ALIGN) * ALIGN for number in numbers for size in _sizes(source, number))


def _matrices(source: Source, names: list[str]) -> list[int]:
    """For each stored matrix (a stack has several) that holds some of these weights, the number of its tensor."""
    return [number for number, _ in {(f.source, f.lead) for name in names for f in fragments(source, name)}]


def _sizes(source: Source, number: int) -> list[int]:
    """Bytes of one matrix of stored tensor `number`, and of each tensor that helps to read it; of codes that are decoded first, of their values."""
    bound = source.bound[number]
    placed = bound.stored.placement
    if multiplied_as_stored(bound.encoding):
        return [tensor.nbytes // placed.lead for tensor in bound.tensors.values()]
    return [4 * placed.rows * placed.cols]
