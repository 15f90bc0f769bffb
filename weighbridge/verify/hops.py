"""The chain of conversions that a manifest names, as far as this tool can derive anything from it.

A hop counts by its layout and its options, which must be ones that this tool could have written. What else a manifest says (steps, bounds,
errors) is not read here: a manifest can explain, never permit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import Encoding, plain
from weighbridge.layouts import LAYOUTS
from weighbridge.layouts import layout as layout_of
from weighbridge.layouts.options import Options
from weighbridge.layouts.source import Source

MOST = 64  # hops of one chain; a longer one explains nothing
KINDS = 16  # different ones among them: each asks its layout once for every weight


class Hop(NamedTuple):
    """One conversion: the layout that it wrote, and how."""

    layout: str
    options: Options


@dataclass(frozen=True)
class Chain:
    """The hops that lead from `first` to the checkpoint that was made. Without hops the two are unrelated."""

    hops: tuple[Hop, ...] = ()
    made_is_a: bool = False


def options_of(value: object) -> Options | None:
    """Options as a manifest states them, or None where this tool never wrote such."""
    try:
        return msgspec.convert(value, Options)
    except (msgspec.ValidationError, WeighbridgeError):
        return None


def hop_of(stated: dict[str, Any]) -> Hop | None:
    """A hop of a manifest, or None where its layout or options are none of this tool's."""
    layout, options = stated.get("layout"), options_of(stated.get("options"))
    return Hop(layout, options) if isinstance(layout, str) and layout in LAYOUTS and options else None


def chain(a: Checkpoint, b: Checkpoint, layout_a: str, layout_b: str, side: str = "") -> Chain:
    """Was A made from B, or B from A, over however many hops?

    A's manifest is asked first: B is the one that is judged, and what it says of itself does not stand against what A says. `side` asks one alone.
    """
    for first, made, layout, made_is_a in ((b, a, layout_a, True), (a, b, layout_b, False)):
        if side and side != ("A" if made_is_a else "B"):
            continue
        starts = [i for i, hop in enumerate(made.hops) if hop.get("from") == first.digest]
        known = [hop for stated in (made.hops[starts[-1] :] if starts else []) if (hop := hop_of(stated))]
        if known and known[-1].layout == layout and len(known) <= MOST and len(set(known)) <= KINDS:
            return Chain(tuple(known), made_is_a)
    return Chain()


class Station:
    """What each weight was encoded in after a hop: the layout itself says it."""

    def __init__(self, hop: Hop, first: Source) -> None:
        # A cut over ranks changes no encoding, so one rank says what all would.
        options = replace(hop.options, tp=1, moe_tp=1, moe_ep=1, batch=0)
        self.encodings: dict[str, tuple[Encoding | None, bool]] = {}
        for stored in layout_of(hop.layout).stored(first, options):
            for part in stored.placement.parts:
                encoding = stored.encoding
                self.encodings[part.weight] = encoding.turned() if encoding and part.turned else encoding, stored.placement.stacked

    def of(self, weight: str, before: Encoding) -> tuple[Encoding, bool]:
        """The encoding in logical axes, and whether it lay in a stack. "As the source has it" is `before`, or BF16 where this has scales."""
        encoding, stacked = self.encodings.get(weight, (None, False))
        return encoding or (before if not before.quantized else plain("BF16")), stacked


def stations(chain: Chain, first: Source) -> list[Station] | None:
    """The stations of a chain, the last one too, or None where a layout cannot hold this model."""
    made: dict[Hop, Station] = {}
    try:
        for hop in chain.hops:
            if hop not in made:
                made[hop] = Station(hop, first)
    except WeighbridgeError:
        return None
    return [made[hop] for hop in chain.hops]
