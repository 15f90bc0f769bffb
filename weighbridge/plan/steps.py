"""How a value gets from one encoding to another, and what each way costs in exactness."""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.encoding.scheme import FLOATS, Encoding
from weighbridge.layouts.options import Options


class Step(NamedTuple):
    """One re-encoding. A copied value a' of a keeps |a' - a| <= max(relative * |a|, absolute * its scale); without a scale it counts as 1."""

    name: str
    lossy: bool
    relative: float
    absolute: float
    says: str

    @property
    def bound(self) -> str:
        if not self.lossy:
            return "exact"
        if self.name == "reciprocal":
            return "none: the values are wrong"
        terms = []
        if self.relative:
            terms.append(f"{self.relative:.4g} * |value|")
        if self.absolute:
            terms.append(f"{self.absolute:.4g} * scale")
        return "|error| <= " + (f"max({', '.join(terms)})" if len(terms) > 1 else terms[0])


_BF16 = 2.0**-8  # half a unit of the last of 8 significant bits
_F16 = 2.0**-11  # half a unit of the last of 11 significant bits
_F16_TINY = 2.0**-25  # half the spacing of float16's subnormals, 2^-24
_E4M3 = 2.0**-4  # half a unit of the last of 4 significant bits
_TINY = 2.0**-10  # half the spacing of E4M3's subnormals, 2^-9, times the block's scale

COPY = Step("copy", False, 0.0, 0.0, "bytes as they are")
WIDEN = Step("widen", False, 0.0, 0.0, "to a wider float, exact")
HALVE = Step("halve", True, 0.0, _TINY, "codes halved, scales doubled; only the 16 odd codes below 0x10 round")
DOUBLE = Step("double", False, 0.0, 0.0, "codes doubled, scales halved: the way back of halving")
DECODE = Step("decode", True, _BF16, 0.0, "code x scale, rounded once to BF16")
DECODE32 = Step("decode", False, 0.0, 0.0, "code x scale in F32")
ROUND = Step("round", True, _BF16, 0.0, "rounded to BF16")
ROUND16 = Step("round-f16", True, _F16, _F16_TINY, "rounded to F16; refused beyond its largest value, 65504")
REQUANTIZE = Step("requantize", True, _E4M3, _TINY, "decoded to F32, new scales amax/peak, rounded to nearest even")
QUANTIZE = Step("quantize", True, _E4M3, _TINY, "scale amax/peak for each block, rounded to nearest even")
LEGACY = Step("legacy-448-240", True, _E4M3 * (1 + 2.0**-3), _TINY, "codes divided by 448/240 through BF16 and rounded again, scales times 448/240")
RECIPROCAL = Step("reciprocal", True, float("inf"), 0.0, "codes as they are, scale replaced by its reciprocal: what the first notes said")
SCALE_BF16 = Step("round-scales", True, _BF16, 0.0, "codes as they are, scales rounded to BF16")

STEPS = {s.name: s for s in (COPY, WIDEN, HALVE, DOUBLE, DECODE, ROUND, ROUND16, REQUANTIZE, QUANTIZE, LEGACY, RECIPROCAL, SCALE_BF16)}


def choose(source: Encoding, target: Encoding, options: Options, nested: bool, halved: bool) -> Step | None:
    """The step from `source` to `target`, or None where there is none.

    `nested`: every block of the target lies in one block of the source, so scales can be kept. `halved`:
    the source's manifest says that its codes were halved on the way here, so doubling is the way back.
    """
    if not source.quantized and not target.quantized:
        return _between_floats(source.dtype, target.dtype)
    if not target.quantized:
        return {"BF16": DECODE, "F32": DECODE32}.get(target.dtype)
    if not source.quantized:
        step = QUANTIZE if source.dtype in FLOATS else None
    elif source.dtype != "F8_E4M3" or target.dtype != "F8_E4M3":
        step = None
    else:
        step = _between_codes(source, target, options, nested, halved)
    # A kept BF16 scale, halved or doubled, is a BF16 scale still; any other one is rounded.
    kept = source.quantized and source.scale_dtype == "BF16" and step in (COPY, HALVE, DOUBLE)
    return rounded(step) if step and target.scale_dtype == "BF16" and not kept else step


def rounded(step: Step) -> Step:
    """The same step with its scales rounded to BF16 on top."""
    if step is COPY:
        return SCALE_BF16
    more = 1 + 2.0**-3  # the scale's rounding acts on the rounded value, and on what is below the smallest normal code
    return Step(step.name, True, step.relative + _BF16 * more, step.absolute * more, step.says + "; scales rounded to BF16")


def _between_floats(source: str, target: str) -> Step | None:
    if source == target:
        return COPY
    if target == "F32" and source in FLOATS:
        return WIDEN
    return {"BF16": ROUND, "F16": ROUND16}.get(target) if source in FLOATS else None


def _between_codes(source: Encoding, target: Encoding, options: Options, nested: bool, halved: bool) -> Step:
    if source.peak > target.peak:
        if options.scale_rule == "reciprocal" and nested:
            return RECIPROCAL
        if options.scale_rule == "legacy-448-240" and nested:
            return LEGACY
        return HALVE if nested else REQUANTIZE
    if source.peak < target.peak and halved:
        return DOUBLE
    if not nested:
        return REQUANTIZE
    return COPY
