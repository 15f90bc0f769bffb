"""What going from one format to another costs, read off the elements. No numpy: planning needs none.

A value v becomes v' with |v' - v| <= max(relative * |v|, absolute * the target's scale); a plain float's scale is 1.
"""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.formats.element import ELEMENTS, Element, centred
from weighbridge.formats.scheme import Encoding, Field, Role

F32_DIGITS = 24
SLACK = 2.0**-22  # two float32 roundings, of the scale and of the quotient
CUT_OFF = 1 / 3  # an E4M3 scale of 1.5 * 2^-9 may round to 2^-9: the greatest code then stands for two thirds of its block's largest value


class Bound(NamedTuple):
    relative: float
    absolute: float

    @property
    def exact(self) -> bool:
        return self == (0.0, 0.0)


def bound(source: Encoding, target: Encoding) -> Bound:
    """The bound of decoding `source` and writing `target` with scales of its own rule.

    To a plain float it speaks of digits: (0, 0) where each value has few enough of them. Whether the exponents fit, too, the scales say (`window`).
    """
    form = ELEMENTS[target.element]
    if not target.quantized:
        if digits(source) <= form.mantissa + 1:
            return Bound(0.0, 0.0 if form.exponent >= 8 else form.absolute)
        return Bound(form.relative, form.absolute)
    return rounding(target)


def rounding(target: Encoding) -> Bound:
    """The bound of new codes under scales of the scheme's own rule."""
    form, scale = ELEMENTS[target.element], target.scale
    assert scale is not None
    if form.kind == "float":
        return Bound(max(form.relative, CUT_OFF if scale.element == "e4m3fn" else 0.0), form.absolute)
    codes = (1 << form.bits) - 1
    return Bound(form.relative, form.absolute + codes * (ELEMENTS[scale.element].relative + SLACK))


def digits(encoding: Encoding) -> int:
    """Binary digits that hold every value of an encoding, as decoding gives it: at most float32's 24."""
    zeros = any(f.role is Role.ZERO for f in encoding.factors)
    form = ELEMENTS[encoding.element]
    total = form.bits if zeros else _digits(form)  # a code less a zero point takes as many digits as the code has bits
    for field in encoding.factors:
        if field.role in (Role.SCALE, Role.DIVISOR):
            total += _scale_digits(field)
    return min(total, F32_DIGITS)


def _scale_digits(field: Field) -> int:
    """Digits beyond the one that a power of two has."""
    if field.role is not Role.SCALE or field.over != 1.0:
        return F32_DIGITS
    return _digits(ELEMENTS[field.element]) - 1 + sum(_scale_digits(f) + 1 for f in field.inner)


def _digits(form: Element) -> int:
    if form.kind == "book":
        return F32_DIGITS
    if form.kind in ("float", "power"):
        return form.mantissa + 1
    return max(1, form.bits - 1) if centred(form) else form.bits


def window(narrow: str, wide: str) -> tuple[int, int] | None:
    """(low, high): every finite value of `narrow` times 2^k is a value of `wide` for low <= k <= high. None if for no k."""
    a, b = ELEMENTS[narrow], ELEMENTS[wide]
    if b.kind != "float" or a.kind == "book" or _digits(a) > b.mantissa + 1:
        return None
    step = 2 * a.absolute if a.absolute else 1 / a.largest  # the least power is as far below 1 as the greatest is above
    low, high = _exponent(2 * b.absolute) - _exponent(step), 0
    while a.largest * 2.0 ** (high + 1) <= b.largest:
        high += 1
    while a.largest * 2.0**high > b.largest:
        high -= 1
    return (low, high) if low <= high else None


def _exponent(power_of_two: float) -> int:
    mantissa, exponent = power_of_two.hex().split("p")
    assert mantissa == "0x1.0000000000000", power_of_two
    return int(exponent)
