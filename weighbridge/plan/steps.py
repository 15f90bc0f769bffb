"""How a value gets from one encoding to another, and what each way costs in exactness.

Bounds are read off the elements: rounding to the nearest code moves a value by half a step. Which ways are exact for which scales is
`layouts2.md`'s and OCP MX's arithmetic: a power of two moves no bit of a mantissa.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from weighbridge.formats.bounds import rounding
from weighbridge.formats.element import ELEMENTS, Element, contains, difference
from weighbridge.formats.scheme import Encoding, Field, Role, plain
from weighbridge.layouts.options import Options


class Kind(StrEnum):
    """What is done to the bytes."""

    COPY = "copy"  # plain values as they are
    FLOAT = "float"  # plain values to another plain dtype
    DECODE = "decode"  # codes to plain values
    KEEP = "keep"  # codes stay, in another packing or with scales of another spelling
    MAP = "map"  # codes through a table of 256 (halving and its like)
    QUANTIZE = "quantize"  # values, decoded where they are codes, to new codes
    SHIFT = "shift"  # values to codes under scales that are powers of two, so that nothing is rounded


class Step(NamedTuple):
    """One re-encoding. A copied value a' of a keeps |a' - a| <= max(relative * |a|, absolute * its scale)."""

    name: str
    kind: Kind
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


class Facts(Protocol):
    """What the scales of one stored weight say. They are read when a way asks."""

    def powers(self) -> bool:
        """Whether every scale is a power of two."""
        ...

    def spread(self, block: tuple[int, int]) -> int:
        """The largest difference of exponents among the scales inside one block of (rows, columns) values."""
        ...

    def zeros_are(self, value: int) -> bool:
        """Whether every zero point is `value`."""
        ...

    def zeros_wrap(self) -> bool:
        """Whether a zero point is the largest of its range: GPTQ v1 stores it less one, and zero less one may have become this."""
        ...

    def in_order(self) -> bool:
        """Whether the groups of input channels lie one after the other."""
        ...

    def whole_powers(self) -> bool:
        """Whether the scale of the whole tensor is a power of two."""
        ...

    def whole_shared(self) -> bool:
        """Whether the weights that readers join with this one have the same scale of the whole tensor."""
        ...


class Refusal(NamedTuple):
    """Why there is no way, and what would open one."""

    says: str
    hint: str = ""


_E4M3 = ELEMENTS["e4m3fn"]
_BF16 = ELEMENTS["bf16"].relative

COPY = Step("copy", Kind.COPY, False, 0.0, 0.0, "bytes as they are")
WIDEN = Step("widen", Kind.FLOAT, False, 0.0, 0.0, "to a wider float, exact")
KEEP = Step("copy", Kind.KEEP, False, 0.0, 0.0, "codes and scales as they are")
REPACK = Step("repack", Kind.KEEP, False, 0.0, 0.0, "the same codes and scales in other words")
RESPELL = Step("respell", Kind.KEEP, False, 0.0, 0.0, "the same codes; scales in another dtype, every one exact")
HALVE = Step("halve", Kind.MAP, True, 0.0, _E4M3.absolute, "codes halved, scales doubled; only the 16 odd codes below 0x10 round")
DOUBLE = Step("double", Kind.MAP, False, 0.0, 0.0, "codes doubled, scales halved: the way back of halving")
SHIFT = Step("shift", Kind.SHIFT, False, 0.0, 0.0, "codes in the wider format under scales a power of two apart: no value changes")
DECODE32 = Step("decode", Kind.DECODE, False, 0.0, 0.0, "code x scale in F32")
LEGACY = Step("legacy-448-240", Kind.MAP, True, _E4M3.relative * (1 + 2.0**-3), _E4M3.absolute,
              "codes divided by 448/240 through BF16 and rounded again, scales times 448/240")
RECIPROCAL = Step("reciprocal", Kind.MAP, True, float("inf"), 0.0, "codes as they are, scale replaced by its reciprocal: what the first notes said")


def choose(source: Encoding, target: Encoding, options: Options, nested: bool, halved: bool, facts: Facts) -> Step | Refusal:
    """The step from `source` to `target`, or why there is none.

    `nested`: every block of the target lies in one block of the source, so scales can be kept. `halved`:
    the source's manifest says that its codes were halved on the way here, so doubling is the way back.
    """
    if source.zero is not None and ELEMENTS[source.zero.element].bias < 0 and facts.zeros_wrap():
        top = int(ELEMENTS[source.zero.element].largest) - 1
        return Refusal(f"a zero point is stored as {top}: GPTQ's first version stores it less one, and some tools wrote 0 so, others {top + 1}",
                       "ask its makers for a checkpoint of version 2 (checkpoint_format gptq_v2)")
    if not target.quantized:
        return _to_plain(source, target)
    if not source.quantized:
        if source.element not in ("bf16", "f16", "f32"):
            return Refusal(f"{source.dtype} values are not quantized")
        return quantize(target)
    if source.element != target.element and {source.element, target.element} == {"e4m3fn", "e4m3"}:
        return _scaled(_between_fp8(source, target, options, nested, halved), source, target)
    moved = difference(source.element, target.element)
    if nested and moved is not None:
        kept = _keep(source, target, moved, options, facts)
        if kept is not None:
            return kept
    if _shifts(source, target):
        return _shift(source, target, options, facts)
    return quantize(target, decoded=True)


def _to_plain(source: Encoding, target: Encoding) -> Step | Refusal:
    if not source.quantized:
        if source.dtype == target.dtype:
            return COPY
        if source.element not in ELEMENTS or target.element not in ELEMENTS:
            return Refusal(f"no way from {source.dtype} to {target.dtype}")
        if contains(target.element, source.element):
            return WIDEN
        return _rounds("round", Kind.FLOAT, ELEMENTS[target.element], f"rounded to {target.dtype}")
    if target.element == "f32":
        return DECODE32
    element, code = ELEMENTS[target.element], ELEMENTS[source.element]
    powers = source.scale is not None and source.scale.element == "e8m0" and source.zero is None
    if powers and code.kind == "float" and code.mantissa <= element.mantissa and element.exponent == 8:
        return Step("decode", Kind.DECODE, False, 0.0, 0.0, f"code x scale, a power of two: exact in {target.dtype}")
    return _rounds("decode", Kind.DECODE, element, f"code x scale, rounded once to {target.dtype}")


def _rounds(name: str, kind: Kind, element: Element, says: str) -> Step:
    return Step(name, kind, True, element.relative, 0.0 if element.exponent >= 8 else element.absolute, says)


def quantize(target: Encoding, decoded: bool = False) -> Step:
    """New codes and new scales, by the rule of the target's scheme."""
    relative, absolute = rounding(target)
    name = "requantize" if decoded else "quantize"
    says = "decoded to F32, new scales, rounded to the nearest code" if decoded else "a new scale for each block, rounded to the nearest code"
    return Step(name, Kind.QUANTIZE, True, relative, absolute, says)


RESTORE = "restore"


def restoring(step: Step) -> Step:
    """Quantizing under kept scales, weight by weight: exact where all values are codes under them, else as `step`."""
    return step._replace(name=RESTORE, says="kept scales where every value is a code under them, as it was; new scales for a weight that changed")


def _scaled(step: Step, source: Encoding, target: Encoding) -> Step:
    """The step with its scales rounded on top, where the target stores narrower ones. A kept scale, halved or doubled, stays what it is."""
    assert source.scale and target.scale
    if step.kind is Kind.QUANTIZE or contains(target.scale.element, source.scale.element):
        return step
    return rounded(step, target.scale)


def rounded(step: Step, scale: Field) -> Step:
    """The same step with its scales rounded to the dtype of `scale`."""
    more = ELEMENTS[scale.element].relative
    if step.kind is Kind.KEEP:
        return Step("round-scales", Kind.KEEP, True, more, 0.0, f"codes as they are, scales rounded to {scale.dtype}")
    factor = 1 + 2.0**-3  # the scale's rounding acts on the rounded value, and on what is below the smallest normal code
    return Step(step.name, step.kind, True, step.relative + more * factor, step.absolute * factor, f"{step.says}; scales rounded to {scale.dtype}")


def _between_fp8(source: Encoding, target: Encoding, options: Options, nested: bool, halved: bool) -> Step:
    """E4M3FN and Neuron's E4M3: the same bytes up to 240."""
    if source.peak > target.peak:
        if nested and options.scale_rule in ("reciprocal", "legacy-448-240"):
            return RECIPROCAL if options.scale_rule == "reciprocal" else LEGACY
        return HALVE if nested else quantize(target, decoded=True)
    if halved:
        return DOUBLE
    return KEEP if nested else quantize(target, decoded=True)


def _keep(source: Encoding, target: Encoding, moved: int, options: Options, facts: Facts) -> Step | Refusal | None:
    """Codes stay. None where only new codes will do. Values of equal codes differ by `moved`, as zero points must."""
    if any(f.role is Role.ORDER for f in source.factors) and not facts.in_order():
        return None if options.inexact else Refusal(f"its groups of input channels are in an order of their own (desc_act), and {target.scheme} is written in a row",
                                                    "add --inexact to quantize again, in a row")
    if target.zero is None and not (facts.zeros_are(-moved) if source.zero else moved == 0):
        return None if options.inexact else Refusal("its zero points are not all the middle of the range, and the target has none",
                                                    "add --zero-points, choose a layout with zero points, or add --inexact to quantize again without")
    one, two = source.scale, target.scale
    if one is None or two is None or (bool(one.inner) != bool(two.inner)):
        return None
    if two.inner and not facts.whole_shared():
        return None if options.inexact else Refusal("weights that readers join (q, k and v; gate and up) have different scales of the whole tensor, and readers take one for all",
                                                    "add --inexact to quantize them again under one")
    same_words = [(f.element, f.packing) for f in source.fields if f.weighs] == [(f.element, f.packing) for f in target.fields if f.weighs]
    if one.inner and one.inner[0].role is not two.inner[0].role:
        if facts.whole_powers():
            return RESPELL._replace(says="the same codes and block scales; the tensor's scale, a power of two, becomes its reciprocal")
        return Step("respell", Kind.KEEP, True, 2.0**-21, 0.0,  # five roundings of 2^-24: the reciprocal, and on each side two products
                    "the same codes and block scales; the tensor's scale becomes its reciprocal, within one unit of F32")
    if contains(two.element, one.element):
        if one.dtype != two.dtype:
            return RESPELL
        return KEEP if same_words else REPACK
    if two.element == "e8m0":
        if facts.powers():
            return RESPELL
        return None if options.inexact else Refusal(
            f"its scales are no powers of two, and {target.scheme} stores exponents alone", "add --inexact to quantize again under rounded scales")
    return rounded(KEEP, two)


def _shifts(source: Encoding, target: Encoding) -> bool:
    """Whether values of the source can be codes of the target under scales that are powers of two."""
    one, two = ELEMENTS[source.element], ELEMENTS[target.element]
    powers = source.scale is not None and source.scale.element == "e8m0"
    return powers and one.kind == two.kind == "float" and one.mantissa <= two.mantissa and window(source, target) is not None


def window(source: Encoding, target: Encoding) -> int | None:
    """By how many powers of two the source's scales may differ inside one block of the target; None where no value fits.

    All of E2M1 x 2^d lies in E4M3 for d from -8 to 6, so a block holds 15 exponents; an NVFP4 scale is itself an E4M3 code, 2^-9 to 2^8.
    """
    one, two = ELEMENTS[source.element], ELEMENTS[target.element]
    if target.scale is not None and target.scale.inner:
        return 17 if source.element == target.element else None
    highest = 0
    while one.largest * 2.0 ** (highest + 1) <= two.largest:
        highest += 1
    lowest = one.bias + one.mantissa - 1 - (two.bias + two.mantissa - 1)  # the smallest steps meet: 2^(1 - bias - mantissa)
    return highest - lowest if highest >= lowest else None


def _shift(source: Encoding, target: Encoding, options: Options, facts: Facts) -> Step | Refusal:
    most = window(source, target)
    assert most is not None and target.block is not None
    block = (0, 0) if target.scale is not None and target.scale.inner else target.block
    found = facts.spread(block)
    if found <= most:
        return SHIFT
    if options.inexact:
        return quantize(target, decoded=True)
    return Refusal(f"its scales differ by 2^{found} inside one block of {target.scheme}, which holds 2^{most} exactly",
                   "add --inexact to round what does not fit")


Choose = Callable[[Encoding, Encoding, Options, bool, bool, Facts], "Step | Refusal"]
__all__ = ["COPY", "DOUBLE", "HALVE", "LEGACY", "RECIPROCAL", "SHIFT", "Facts", "Kind", "Refusal", "Role", "Step", "choose", "quantize", "rounded", "window"]
