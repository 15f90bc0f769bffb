"""Which error a value may show: what correct rounding to the encodings on its way can do, whatever a file says of itself.

The encodings of both sides are read from the files; those in between follow from the layouts that the manifests name (`hops.py`). Of
all roundings to codes the three coarsest count, so a chain cannot be made longer to gain room: no bound reaches a quarter of a value. A share
of a scale counts in a scale that the *other* side confirms, so a blown-up scale permits nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import QTensor
from weighbridge.encoding.scheme import Encoding
from weighbridge.layouts.neuron import PEAK
from weighbridge.layouts.options import Options
from weighbridge.plan.bind import Source
from weighbridge.plan.reader import Reader
from weighbridge.plan.steps import LEGACY, Step, choose
from weighbridge.verify.hops import Chain, chain, stations

CODES = 3  # roundings to codes in one chain that count: to rows, back to blocks and to rows again is the longest that anybody has a use for
SLACK = 2.0  # a scale may be this much larger than amax / peak: makers round it up to a power of two


class Allowed(NamedTuple):
    """|error| <= max(relative * |value|, absolute * scale). `wide`: new scales were made, from values around the value's own block.

    `own`: the scale is that of the side that was made, as far as the other side confirms it; else it is derived from the other side alone.
    """

    relative: float
    absolute: float
    wide: bool = False
    own: bool = True


class Relation:
    """How A and B are related, and the bound that follows for each pair of encodings."""

    def __init__(self, one: Source, two: Source, made: str = "") -> None:
        """`made`: the side (A or B) of which it is known that it was made from the other; empty: the manifests are asked."""
        self.chain: Chain = chain(one.checkpoint, two.checkpoint, one.layout, two.layout, made)
        found = stations(self.chain, one.inventory)
        self.stations = found or []
        if found is None:
            self.chain = Chain()
        first = two if self.chain.made_is_a else one
        stated = first.checkpoint.manifest.get("options")
        own = stated if isinstance(stated, dict) else {}
        self.halved = own.get("scale_rule") == "halve" and first.layout.startswith("neuron")
        self.exact_attention = own.get("attention") == "exact"

    def made_is_a(self, a: Encoding, b: Encoding) -> bool:
        """Whether A is the side that was made, as far as is known; of two kinds of codes it is the one that holds less."""
        if not self.chain.hops and a.quantized and b.quantized:
            return a.peak < b.peak
        return self.chain.made_is_a

    def bound(self, a: Encoding, b: Encoding, weight: str, turned: bool, stacked: bool) -> Allowed:
        """For a value of `weight` in encoding `a` in A against `b` in B, both in A's stored axes. `stacked`: in a stack where it came from."""
        first, made = (b, a) if self.made_is_a(a, b) else (a, b)
        if not self.chain.hops:
            return _unrelated(first, made)
        if turned:
            first, made = first.turned(), made.turned()
        found = self._steps(first, made, weight, stacked)
        if found is None:
            return _unrelated(first, made)
        allowed = _together(found, len(self.chain.hops))
        # The kernel counts in shares of A's value; where A was made, that may be the smaller one.
        return allowed._replace(relative=allowed.relative / (1 - allowed.relative)) if self.chain.made_is_a and len(found) > 1 else allowed

    def _steps(self, first: Encoding, made: Encoding, weight: str, stacked: bool) -> list[tuple[Step, Encoding]] | None:
        halved = self.halved and (stacked or self.exact_attention)
        steps, before = [], first
        for number, hop in enumerate(self.chain.hops):
            after, stacked = self.stations[number].of(weight, before)
            if number == len(self.chain.hops) - 1:
                # A rank's share of a scale over the whole row looks like a scale of its own: the layout knows its true block.
                after = replace(made, block=after.block) if made.quantized and after.quantized else made
            options = replace(hop.options, scale_rule="halve") if hop.options.scale_rule == "reciprocal" else hop.options
            step = choose(before, after, options, _nested(before, after), halved)
            if step is None:
                return None
            if step.lossy:
                steps.append((step, after))
            halved = hop.layout.startswith("neuron") and options.scale_rule == "halve" and (stacked or options.attention == "exact")
            before = after
        return steps


def _together(steps: list[tuple[Step, Encoding]], hops: int) -> Allowed:
    """The roundings of a chain, one after the other; what one adds passes through the next. Of codes `CODES` count, of each float type one."""
    codes = sorted(((step.relative, step.absolute) for step, after in steps if after.quantized), reverse=True)[:CODES]
    floats = {after.dtype: (step.relative, step.absolute) for step, after in steps if not after.quantized}
    relative, absolute = 1.0, 0.0
    for more in (*codes, *floats.values()):
        relative, absolute = relative * (1 + more[0]), absolute + more[1]
    wide = any(step.name in ("requantize", "quantize") for step, _ in steps)
    if hops == 1:
        return Allowed(relative - 1, absolute, wide)
    # A value may lose to one rounding by its size and to another by the scale: an eighth covers the sum of both.
    return Allowed(relative - 1, absolute * (1 + 2.0**-3), wide, own=False)


def _unrelated(a: Encoding, b: Encoding) -> Allowed:
    """Nothing is known: equal encodings must hold equal values, others what one correct rounding does."""
    nested = _nested(a, b)
    if a.quantized and b.quantized and a.peak != b.peak:
        return Allowed(LEGACY.relative, LEGACY.absolute, a.block != b.block)
    # Either may have been made from the other, or both from a third: a rounding may lie between them.
    steps = [choose(a, b, Options(), nested, False)]
    if not a.quantized and not b.quantized:
        steps.append(choose(b, a, Options(), nested, False))
    relative, absolute = max(((s.relative, s.absolute) for s in steps if s and s.lossy), default=(0.0, 0.0))
    return Allowed(relative, absolute, any(s is not None and s.name in ("requantize", "quantize") for s in steps))


def _nested(first: Encoding, made: Encoding) -> bool:
    if first.block is None or made.block is None:
        return False
    return all(own % new == 0 for own, new in zip(first.block, made.block, strict=True))


class Grid(NamedTuple):
    """Scales that the absolute bound counts in: float32 [rows, columns], with the block and the place of the region in it."""

    scale: np.ndarray
    origin: tuple[int, int]
    block: tuple[int, int]


class Allowances:
    """The scales that an absolute bound may count in."""

    def __init__(self, first: Reader) -> None:
        self.first = first
        self.largest: dict[str, float] = {}

    def grid(self, first: QTensor, made: QTensor, allowed: Allowed, weight: str) -> Grid:
        """For a region of `weight`: the scale of the side that was made, and no more than the other side's values explain.

        Where blocks were kept or cut, the other side's scale of the same block says it. Where new scales were made over other blocks, the
        largest value of the whole weight does.
        """
        everywhere = (1 << 30, 1 << 30)
        if not allowed.absolute or not (first.encoding.quantized or made.encoding.quantized):
            return Grid(np.ones((1, 1), np.float32), (0, 0), everywhere)
        peak = made.encoding.peak if made.encoding.quantized else PEAK  # the coarsest scale that a hop may have had
        keeps = made if made.encoding.quantized else first
        if allowed.wide or not first.encoding.quantized:
            limit = np.float32(min(SLACK * self._largest(weight) / peak, 3e38))
            if not (allowed.own and made.encoding.quantized):
                return Grid(np.full((1, 1), limit, np.float32), (0, 0), everywhere)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                limit = np.float32(SLACK * first.encoding.peak / peak) * _scale_around(first, keeps)
        grid = np.fmin(keeps.scale_RbCb, limit) if allowed.own and made.encoding.quantized else limit
        return Grid(np.ascontiguousarray(grid, np.float32), keeps.origin, keeps.encoding.block)  # type: ignore[arg-type]

    def _largest(self, weight: str) -> float:
        """The largest magnitude of a logical weight on the other side; of codes, what their largest scale could hold."""
        if weight not in self.largest:
            source = self.first.source
            found = 0.0
            for number, part in source.holders.get(weight, ()):
                q = self.first.matrix(source.bound[number], part.lead).cut(part.at_row, part.at_col, *part.extent)
                found = max(found, _peak(q))
            self.largest[weight] = found
        return self.largest[weight]


def _peak(q: QTensor) -> float:
    if q.scale_RbCb is not None:
        good = q.scale_RbCb[np.isfinite(q.scale_RbCb)]
        return float(np.abs(good).max(initial=0)) * q.encoding.peak
    if q.encoding.dtype == "BF16":
        bits = q.codes_RC & np.uint16(0x7FFF)
        largest = bits.max(initial=0, where=bits < 0x7F80)
        return float(codec.from_bf16(np.array([largest], np.uint16))[0])
    values = np.abs(q.codes_RC)
    return float(values.max(initial=0, where=np.isfinite(values)))


def _scale_around(first: QTensor, made: QTensor) -> np.ndarray:
    """The largest scale of `first` at the corners of each block of `made`."""
    starts, ends = [], []
    for axis in (0, 1):
        size, at, block = made.shape[axis], made.origin[axis], made.encoding.block[axis]  # type: ignore[index]
        edges = np.arange(made.scale_RbCb.shape[axis]) * block - at  # type: ignore[union-attr]
        starts.append(np.clip(edges, 0, size - 1))
        ends.append(np.clip(edges + block - 1, 0, size - 1))
    return np.fmax(np.fmax(first.scales_at(starts[0], starts[1]), first.scales_at(ends[0], ends[1])),
                   np.fmax(first.scales_at(starts[0], ends[1]), first.scales_at(ends[0], starts[1])))
