"""Elements: what one code means. A table of small floats, powers, integers and codebooks; no numpy here, since planning needs none.

Sources: OCP 8-bit Floating Point (OFP8) 1.0, OCP Microscaling Formats (MX) 1.0, QLoRA's NF4 and bitsandbytes' FP4 (bitsandbytes 0.50
`functional.py`), compressed-tensors 0.20 (`uintN-M`: an unsigned code less half of its range). `codec.table` makes the values.
"""

from __future__ import annotations

import struct
from typing import NamedTuple


class Element(NamedTuple):
    """One kind of code.

    `kind` is `float` (sign, exponent, mantissa), `power` (an exponent alone), `int` (two's complement), `offset` (unsigned less `bias`) or
    `book` (a table of values). `largest` is the greatest finite magnitude. `relative` is half a step over the value among normal numbers,
    `absolute` half the smallest step: rounding to the nearest moves a value v by at most max(relative * |v|, absolute).
    """

    name: str
    bits: int
    kind: str
    largest: float
    relative: float
    absolute: float
    exponent: int = 0  # bits of the exponent
    mantissa: int = 0  # bits of the mantissa
    bias: int = 0
    nan: int | None = None  # the code that is written for NaN, without the sign
    book: tuple[float, ...] = ()

    @property
    def finite(self) -> bool:
        """Whether every code is a finite number."""
        return self.kind in ("int", "offset", "book") or self.name in ("e2m1", "e3m2", "e2m3")


def _float(name: str, exponent: int, mantissa: int, bias: int, largest: float, nan: int | None) -> Element:
    return Element(name, 1 + exponent + mantissa, "float", largest, 2.0 ** -(mantissa + 1), 2.0 ** -(bias + mantissa), exponent, mantissa, bias, nan)


def _integer(bits: int) -> Element:
    return Element(f"int{bits}", bits, "int", float(1 << bits - 1), 0.0, 0.5)


def _unsigned(bits: int, less: int = 0) -> Element:
    return Element(f"uint{bits}-{less}" if less else f"uint{bits}", bits, "offset", float(max(less, (1 << bits) - 1 - less)), 0.0, 0.5, bias=less)


def _book(name: str, values: tuple[float, ...]) -> Element:
    ordered = sorted(values)
    gap = max(b - a for a, b in zip(ordered, ordered[1:], strict=False))
    return Element(name, (len(values) - 1).bit_length(), "book", max(abs(v) for v in values), 0.0, gap / 2, book=values)


def _f32(value: float) -> float:
    """The nearest float32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def _dynamic_map() -> tuple[float, ...]:
    """The 256 values by which bitsandbytes stores absmax in 8 bits, as `functional.create_dynamic_map` reckons them: in float32.

    Per power of ten from 1e-6 to 1: the middles between 2^i + 1 steps from 0.1 to 1, with both signs; and 0 and 1.
    """
    values = [0.0, 1.0]
    for i in range(7):
        count, step = 1 << i, _f32(_f32(1.0 - _f32(0.1)) / (1 << i))
        edges = [_f32(_f32(0.1) + step * k) if 2 * k < count + 1 else _f32(1.0 - step * (count - k)) for k in range(count + 1)]
        middles = [_f32(_f32(a + b) / 2) for a, b in zip(edges, edges[1:], strict=False)]
        values += [sign * _f32(_f32(10.0 ** (i - 6)) * middle) for middle in middles for sign in (1.0, -1.0)]
    return tuple(sorted(values))


NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
       0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0)
_FP4 = (0.0, 0.005208333333333333, 0.6666666666666666, 1.0, 0.3333333333333333, 0.5, 0.16666666666666666, 0.25)

ELEMENTS: dict[str, Element] = {e.name: e for e in (
    _float("e4m3fn", 4, 3, 7, 448.0, 0x7F),  # OCP: no infinity, one NaN for each sign
    _float("e4m3", 4, 3, 7, 240.0, 0x7F),  # IEEE-like: infinity at 0x78, NaN above; AWS Neuron
    _float("e4m3fnuz", 4, 3, 8, 240.0, 0x80),  # AMD: no -0, its code is the only NaN
    _float("e5m2", 5, 2, 15, 57344.0, 0x7F),  # IEEE-like: infinity at 0x7C
    _float("e2m1", 2, 1, 1, 6.0, None),
    _float("e3m2", 3, 2, 3, 28.0, None),
    _float("e2m3", 2, 3, 1, 7.5, None),
    _float("bf16", 8, 7, 127, 3.3895313892515355e38, 0x7FC0),
    _float("f16", 5, 10, 15, 65504.0, 0x7E00),
    _float("f32", 8, 23, 127, 3.4028234663852886e38, 0x7FC00000),
    _float("f64", 11, 52, 1023, 1.7976931348623157e308, None),
    Element("e8m0", 8, "power", 2.0**127, 2.0**-1, 0.0, 8, 0, 127, 0xFF),
    *(_integer(bits) for bits in (2, 3, 4, 5, 6, 7, 8)),
    *(_unsigned(bits) for bits in (2, 3, 4, 5, 6, 7, 8)),
    *(_unsigned(bits, 1 << bits - 1) for bits in (2, 3, 4, 5, 6, 7, 8)),
    *(Element(f"uint{bits}+1", bits, "offset", float(1 << bits), 0.0, 0.5, bias=-1) for bits in (2, 3, 4, 8)),  # GPTQ v1 stores a zero point less one
    Element("int32", 32, "int", 2.0**31, 0.0, 0.5),
    Element("int64", 64, "int", 2.0**63, 0.0, 0.5),
    _book("nf4", NF4),
    _book("fp4", (*_FP4, *(0.0 - v for v in _FP4))),
    _book("dynamic8", _dynamic_map()),
)}

# A dtype of safetensors -> the element of a plain tensor of it. What is not here holds codes, or is no number of a weight.
PLAIN: dict[str, str] = {"BF16": "bf16", "F16": "f16", "F32": "f32", "F64": "f64"}
# A dtype of one byte that names its code.
CODED: dict[str, str] = {"F8_E4M3": "e4m3fn", "F8_E5M2": "e5m2", "F8_E4M3FNUZ": "e4m3fnuz", "F8_E8M0": "e8m0"}


def difference(a: str, b: str) -> int | None:
    """What must be added to a value of `a` to have the value of `b` whose code has the same rank; None where codes of one are no codes of the other.

    0 for equal elements. For integers of equal range it is the difference of their offsets: (code - zero) stays the same where the zero point moves as far.
    """
    if a == b:
        return 0
    one, two = ELEMENTS[a], ELEMENTS[b]
    if one.bits != two.bits or one.kind not in ("int", "offset") or two.kind not in ("int", "offset"):
        return None
    return _lowest(two) - _lowest(one)


def middle(name: str) -> int:
    """The integer in the middle of an element's range: what a zero point is where there is no need of one."""
    return _lowest(ELEMENTS[name]) + (1 << ELEMENTS[name].bits - 1)


def _lowest(element: Element) -> int:
    """The least integer that an element holds."""
    return -(1 << element.bits - 1) if element.kind == "int" else -element.bias


def centred(element: Element) -> bool:
    """Whether its codes are integers about zero: two's complement, or unsigned less half of the range."""
    return element.kind == "int" or (element.kind == "offset" and element.bias == 1 << element.bits - 1)


def contains(wide: str, narrow: str) -> bool:
    """Whether every finite value of `narrow` is a value of `wide`."""
    a, b = ELEMENTS[wide], ELEMENTS[narrow]
    if a == b:
        return True
    if a.kind != "float":
        return False
    if b.kind == "power":
        return a.exponent >= 8 and a.mantissa >= 1
    if b.kind in ("int", "offset"):
        return b.largest <= 2.0 ** (a.mantissa + 1) and b.largest <= a.largest
    low_a, low_b = a.bias + a.mantissa, b.bias + b.mantissa  # the smallest step is 2^(1-low)
    return b.kind == "float" and a.mantissa >= b.mantissa and low_a >= low_b and a.largest >= b.largest
