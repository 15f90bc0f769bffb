"""Which error each pair of encodings may show: the bound of the step that made one from the other.

The manifests say how two checkpoints are related. Without them a copy in the same encoding must be equal,
and a re-encoded one must lie within what correct rounding does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.encoding.scheme import Encoding
from weighbridge.layouts.options import Options
from weighbridge.plan.steps import LEGACY, STEPS, choose, rounded

Bound = tuple[float, float]  # |error| <= max(first * |value|, second * scale)


@dataclass(frozen=True)
class Relation:
    """How A and B are related: the hops that lead from one to the other, and which side was made."""

    hops: tuple[dict[str, Any], ...]
    made_is_a: bool
    halved: bool
    exact_attention: bool

    def bound(self, a: Encoding, b: Encoding, stacked: bool) -> Bound:
        """The bound for a value of encoding `a` in A against `b` in B."""
        first, made = (b, a) if self.made_is_a else (a, b)
        nested = _nested(first, made)
        if not self.hops:
            return _unrelated(first, made, nested)
        halved = self.halved and (stacked or self.exact_attention)
        step = choose(first, made, _options(self.hops[-1]), nested, halved)
        relative, absolute = (step.relative, step.absolute) if step and step.lossy else (0.0, 0.0)
        if len(self.hops) > 1:
            for hop in self.hops:
                more = _hop(hop, made)
                relative, absolute = relative + more[0], absolute + more[1]
        return relative, absolute


def relate(a: Checkpoint, b: Checkpoint) -> Relation:
    """Read the manifests of both: was B made from A, or A from B, over however many conversions?"""
    for first, made, made_is_a in ((a, b, False), (b, a, True)):
        hops = made.hops
        starts = [i for i, h in enumerate(hops) if h.get("from") == first.digest]
        if starts:
            own = first.manifest.get("options")
            own = own if isinstance(own, dict) else {}
            return Relation(tuple(hops[starts[-1]:]), made_is_a, own.get("scale_rule") == "halve", own.get("attention") == "exact")
    return Relation((), False, False, False)


def _options(hop: dict[str, Any]) -> Options:
    stated = hop.get("options")
    rule = stated.get("scale_rule") if isinstance(stated, dict) else None
    return Options(scale_rule=rule if rule in ("halve", "legacy-448-240") else "halve")


def _hop(hop: dict[str, Any], made: Encoding) -> Bound:
    """The loosest bound of a hop's lossy steps; a scale of Neuron's form is twice one of the published form."""
    told = hop.get("lossy")
    steps = [STEPS[name] for name in told if name in STEPS and name != "reciprocal"] if isinstance(told, list) else []
    stated = hop.get("options")
    if isinstance(stated, dict) and stated.get("scale_dtype") == "BF16":
        steps = [rounded(s) if s.name in ("double", "quantize", "requantize") else s for s in steps]
    twice = 2.0 if str(hop.get("layout", "")).startswith("neuron") and made.peak == 448.0 else 1.0
    return max((s.relative for s in steps), default=0.0), twice * max((s.absolute for s in steps), default=0.0)


def _unrelated(a: Encoding, b: Encoding, nested: bool) -> Bound:
    if a.quantized and b.quantized and a.peak != b.peak:
        return LEGACY.relative, LEGACY.absolute
    # Either may have been made from the other, or both from a third: a rounding may lie between them.
    steps = [choose(a, b, Options(), nested, False)]
    if not a.quantized and not b.quantized:
        steps.append(choose(b, a, Options(), nested, False))
    return max(((s.relative, s.absolute) for s in steps if s and s.lossy), default=(0.0, 0.0))


def _nested(first: Encoding, made: Encoding) -> bool:
    if first.block is None or made.block is None:
        return False
    return all(own % new == 0 for own, new in zip(first.block, made.block, strict=True))
