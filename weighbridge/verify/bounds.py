"""Which error a value may show: what correct rounding to the encodings on its way can do, whatever a file says of itself.

The encodings of both sides are read from the files; those in between follow from the layouts that the manifests name (`hops.py`). Of
all roundings to codes the three coarsest count, so a chain cannot be made longer to gain room: no bound reaches a quarter of a value. A share
of a scale counts in a scale that the *other* side confirms, so a blown-up scale permits nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.layouts import NEURON
from weighbridge.layouts.options import Options
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Source
from weighbridge.plan.steps import LEGACY, Kind, Refusal, Step, choose
from weighbridge.verify.hops import Chain, chain, stations

CODES = 3  # roundings to codes in one chain that count: to rows, back to blocks and to rows again is the longest that anybody has a use for
MOST = 0.45  # share of a value that a chain may take: two roundings to E2M1 take 0.44, and below a half neither side of a comparison may be zero
FINE = 2.0**-10  # half a step over the largest code: FP8's are finer, those of integers and of E2M1 are not
SLACK = 2.0 * (1 + 2.0**-7)  # a scale may be this much larger than amax / peak: makers round it up to a power of two, or take a range for an amax

COARSEST = ELEMENTS["e4m3"].largest  # of a value that went through codes on the way: their largest magnitude


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
        first = two if self.chain.made_is_a else one
        found = stations(self.chain, first)
        self.stations = found or []
        if found is None:
            self.chain = Chain()
        stated = first.checkpoint.manifest.get("options")
        own = stated if isinstance(stated, dict) else {}
        self.halved = own.get("scale_rule") == "halve" and first.layout in NEURON
        self.exact_attention = own.get("attention") == "exact"

    def made_is_a(self, a: Encoding, b: Encoding) -> bool:
        """Whether A is the side that was made, as far as is known; of two kinds of codes it is the one that holds less."""
        if not self.chain.hops and a.quantized and b.quantized:
            return _coarseness(a) > _coarseness(b)
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
        allowed = _together(found, len(self.chain.hops), made.peak if made.quantized else COARSEST)
        # The kernel counts in shares of A's value; where A was made, that may be the smaller one.
        return allowed._replace(relative=allowed.relative / (1 - allowed.relative)) if self.chain.made_is_a and len(found) > 1 else allowed

    def _steps(self, first: Encoding, made: Encoding, weight: str, stacked: bool) -> list[tuple[Step, Encoding]] | None:
        halved = self.halved and (stacked or self.exact_attention)
        steps, before = [], first
        for number, hop in enumerate(self.chain.hops):
            after, stacked = self.stations[number].of(weight, before)
            if number == len(self.chain.hops) - 1:
                # A rank's share of a scale over the whole row looks like a scale of its own: the layout knows its true block.
                after = _with_block_of(made, after) if made.quantized and after.quantized else made
            options = replace(hop.options, scale_rule="halve") if hop.options.scale_rule == "reciprocal" else hop.options
            step = choose(before, after, options, _nested(before, after), halved, Assumed(not options.inexact))
            if isinstance(step, Refusal):
                return None
            if step.lossy:
                steps.append((step, after))
            halved = hop.layout in NEURON and options.scale_rule == "halve" and (stacked or options.attention == "exact")
            before = after
        return steps


def _together(steps: list[tuple[Step, Encoding]], hops: int, peak: float) -> Allowed:
    """The roundings of a chain, one after the other; what one adds passes through the next. Of codes `CODES` count, of each float type one.

    A scale is as large as its codes are few: half a step of INT4 is a fifteenth of the largest value, of FP8 far less. So each step's share of its own
    scale is counted in the scale that codes up to `peak` would have.
    """
    codes = sorted(((step.relative, step.absolute * (1.0 if hops == 1 else peak / after.peak)) for step, after in steps if after.quantized),
                   key=lambda both: both[0] + both[1] / peak, reverse=True)[:CODES]
    floats = {after.dtype: (step.relative, step.absolute) for step, after in steps if not after.quantized}
    relative, absolute = 1.0, 0.0
    for more in (*codes, *floats.values()):
        relative, absolute = relative * (1 + more[0]), absolute + more[1]
    # A value may lose to one rounding by its size and to another by the scale. Twice the larger covers the sum of both; where steps by the scale are
    # as small as FP8's, an eighth does.
    coarse = any(after.quantized and step.absolute / after.peak > FINE for step, after in steps)
    relative = min((relative - 1) * (2.0 if coarse and hops > 1 else 1.0), MOST)
    wide = any(step.kind is Kind.QUANTIZE for step, _ in steps)
    if hops == 1:
        return Allowed(relative, absolute, wide)
    return Allowed(relative, absolute * (2.0 if coarse else 1 + 2.0**-3), wide, own=False)


def _unrelated(a: Encoding, b: Encoding) -> Allowed:
    """Nothing is known: equal encodings must hold equal values, others what one correct rounding does."""
    nested = _nested(a, b)
    if {a.element, b.element} == {"e4m3fn", "e4m3"}:
        return Allowed(LEGACY.relative, LEGACY.absolute, a.block != b.block)
    # Either may have been made from the other, or both from a third: a rounding may lie between them.
    found = [choose(a, b, Options(inexact=True), nested, False, Assumed(False))]
    if not a.quantized and not b.quantized:
        found.append(choose(b, a, Options(), nested, False, Assumed(False)))
    elif a.quantized and b.quantized and _coarseness(a)[0] == _coarseness(b)[0]:  # of one width: as well the other way about
        found += [s._replace(absolute=0.0) for s in [choose(b, a, Options(inexact=True), nested, False, Assumed(False))] if isinstance(s, Step)]
    steps = [s for s in found if isinstance(s, Step)]
    relative, absolute = (max((getattr(s, part) for s in steps if s.lossy), default=0.0) for part in ("relative", "absolute"))
    return Allowed(relative, absolute, any(s.kind is Kind.QUANTIZE for s in steps))


class Assumed:
    """What is taken for true of scales that a hop had and that nobody can read any more: that an exact way was open, or not."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact

    def powers(self) -> bool:
        return self.exact

    def spread(self, block: tuple[int, int]) -> int:
        return 0 if self.exact else 1 << 10

    def zeros_are(self, value: int) -> bool:
        return self.exact

    def zeros_wrap(self) -> bool:
        return False

    def in_order(self) -> bool:
        return self.exact

    def whole_powers(self) -> bool:
        return False

    def whole_shared(self) -> bool:
        return self.exact


def _coarseness(encoding: Encoding) -> tuple[int, float]:
    """Fewer bits are coarser; of equally many, steps that do not shrink with the value: half a step over the largest code, 0 for floats."""
    element = ELEMENTS[encoding.element]
    return -element.bits, 0.0 if element.kind == "float" else element.absolute / element.largest


def _with_block_of(made: Encoding, after: Encoding) -> Encoding:
    """An encoding with the block that the layout knows for its scale."""
    block = after.block
    if block is None or made.scale is None:
        return made
    return replace(made, factors=tuple(f._replace(block=block) if f is made.scale else f for f in made.factors))


def _nested(first: Encoding, made: Encoding) -> bool:
    if first.block is None or made.block is None:
        return False
    return all(own == 0 or (new != 0 and own % new == 0) for own, new in zip(first.block, made.block, strict=True))


class Grid(NamedTuple):
    """Scales that the absolute bound counts in: float32 [rows, columns], with the block and the place of the region in it."""

    scale: np.ndarray
    origin: tuple[int, int]
    block: tuple[int, int]


def with_floor(allowed: Allowed, grid: Grid, made: Encoding) -> tuple[Allowed, Grid]:
    """A float of few exponents has a smallest step (2^-24 in F16) that no scale moves: half of it is allowed at least."""
    floor = 0.0 if made.quantized or made.element not in ELEMENTS or not allowed.relative else ELEMENTS[made.element].absolute
    if floor < 2.0**-126:  # bfloat16 and float32 reach as far down as float32
        return allowed, grid
    if not allowed.absolute:
        return allowed._replace(absolute=1.0), Grid(np.full((1, 1), floor, np.float32), (0, 0), (1 << 30, 1 << 30))
    return allowed, grid._replace(scale=np.fmax(grid.scale, np.float32(floor / allowed.absolute)))


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
        if not allowed.absolute:
            return Grid(np.ones((1, 1), np.float32), (0, 0), everywhere)
        coded = made if made.encoding.quantized else first
        peak = made.encoding.peak if made.encoding.quantized else COARSEST
        if allowed.wide or not first.encoding.quantized:
            limit = np.float32(min(SLACK * self._largest(weight) / peak, 3e38))
            if not (allowed.own and made.encoding.quantized):
                return Grid(np.full((1, 1), limit, np.float32), (0, 0), everywhere)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                limit = np.float32(SLACK * first.encoding.peak / peak) * _scale_around(first, coded)
        own, block = scale_of(coded)
        grid = np.fmin(own, limit) if allowed.own and made.encoding.quantized else np.broadcast_to(limit, own.shape)
        return Grid(np.ascontiguousarray(grid, np.float32), coded.origin, block)

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


def scale_of(q: QTensor) -> tuple[np.ndarray, tuple[int, int]]:
    """What each block's codes are multiplied by, float32 [rows, columns] (without a sign), and the block in values."""
    scale = q.scale
    assert scale is not None
    high, wide = (size or 1 << 30 for size in scale.field.block)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = 1 / scale.values if scale.field.role is Role.DIVISOR else scale.values
    return np.abs(found), (high, wide)


def _peak(q: QTensor) -> float:
    if q.encoding.quantized:
        scale, _ = scale_of(q)
        return float(scale.max(initial=0, where=np.isfinite(scale))) * (q.encoding.peak if q.encoding.zero is None else 2 * q.encoding.peak)
    found = 0.0
    for row in range(0, q.shape[0], 256):
        band = np.abs(q.cut(row, 0, min(256, q.shape[0] - row), q.shape[1]).decode())
        found = max(found, float(band.max(initial=0, where=np.isfinite(band))))
    return found


def _scale_around(first: QTensor, made: QTensor) -> np.ndarray:
    """The largest scale of `first` at the corners of each block of `made`."""
    grid, block = scale_of(made)
    starts, ends = [], []
    for axis in (0, 1):
        size, at = made.shape[axis], made.origin[axis]
        edges = np.arange(grid.shape[axis]) * block[axis] - at
        starts.append(np.clip(edges, 0, size - 1))
        ends.append(np.clip(edges + block[axis] - 1, 0, size - 1))
    corners = [np.abs(first.scales_at(rows, cols)) for rows in (starts[0], ends[0]) for cols in (starts[1], ends[1])]
    return np.fmax(np.fmax(corners[0], corners[1]), np.fmax(corners[2], corners[3]))
