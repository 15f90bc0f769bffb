"""The specification of every number format: plain numpy, one idea per function, no speed wanted.

`weighbridge.encoding.kernels` does the same at the speed of memory and must agree bit for bit.
A scale is what one multiplies a stored code by. A block is (rows, columns); element (i, j) of a
matrix belongs to block (i // rows, j // columns), so the last blocks can be ragged.
"""

from typing import NamedTuple

import numpy as np

LEGACY_FACTOR = 448.0 / 240.0  # max of e4m3fn over max of e4m3, as the public Neuron scripts write it
SMALLEST_F32 = np.float32(2.0**-149)


class Format(NamedTuple):
    """Sign, exponent and mantissa fields of one small float."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    nan: int | None  # the code that encode writes for NaN (without the sign), None: has no NaN


FORMATS = {
    "e4m3fn": Format(4, 3, 7, 448.0, 0x7F),  # OCP: no infinity, one NaN per sign
    "e4m3": Format(4, 3, 7, 240.0, 0x7F),  # IEEE-like: infinity at 0x78, NaN above
    "e4m3fnuz": Format(4, 3, 8, 240.0, 0x80),  # AMD: no -0, its code is the only NaN
    "e5m2": Format(5, 2, 15, 57344.0, 0x7F),  # IEEE-like: infinity at 0x7C, NaN above
    "e2m1": Format(2, 1, 1, 6.0, None),  # FP4, one code per nibble
    "e3m2": Format(3, 2, 3, 28.0, None),  # FP6, both of OCP microscaling
    "e2m3": Format(2, 3, 1, 7.5, None),
}


def decode_table(fmt: str) -> np.ndarray:
    """The value of every code, float32 [256] (e2m1: [16]). A NaN keeps the sign bit of its code."""
    if fmt == "e8m0":
        code = np.arange(256, dtype=np.int32)
        return np.where(code == 255, np.nan, np.ldexp(1.0, code - 127)).astype(np.float32)
    form = _format(fmt)
    code = np.arange(2 ** (1 + form.exponent_bits + form.mantissa_bits), dtype=np.int32)
    sign = np.where(code >= len(code) // 2, -1.0, 1.0)
    magnitude = code & (len(code) // 2 - 1)
    exponent, mantissa = magnitude >> form.mantissa_bits, magnitude & (2**form.mantissa_bits - 1)
    normal = exponent > 0  # a subnormal has no leading one and the exponent of the first normals
    significand = mantissa + normal * 2**form.mantissa_bits
    power = np.maximum(exponent, 1) - form.bias - form.mantissa_bits
    value = _specials(fmt, magnitude, np.ldexp(significand.astype(np.float64), power))
    table = np.copysign(value, sign).astype(np.float32)
    if fmt == "e4m3fnuz":
        table[0x80] = np.nan
    return table


def _specials(fmt: str, magnitude: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Put infinities and NaNs where the format keeps them."""
    if fmt == "e4m3fn":
        return np.where(magnitude == 0x7F, np.nan, value)
    if fmt in ("e4m3", "e5m2"):
        infinity = {"e4m3": 0x78, "e5m2": 0x7C}[fmt]
        return np.where(magnitude > infinity, np.nan, np.where(magnitude == infinity, np.inf, value))
    return value


def _format(fmt: str) -> Format:
    if fmt not in FORMATS:
        raise ValueError(f"unknown number format {fmt!r}; known: {', '.join(FORMATS)}, e8m0")
    return FORMATS[fmt]


def encode(values_f32: np.ndarray, fmt: str = "e4m3fn") -> np.ndarray:
    """The nearest code of each value, uint8, ties to the even code; any shape.

    What lies beyond the largest finite value, infinity included, becomes that value with its sign.
    torch 2.13 on the CPU does this for e4m3fn only: there e5m2 goes to infinity and e4m3fnuz to NaN.
    NaN becomes NaN and keeps its sign where the format has one.
    """
    form = _format(fmt)
    with np.errstate(invalid="ignore"):  # a signalling NaN is no news
        value = np.asarray(values_f32, np.float32).astype(np.float64)  # exact, so only rint rounds
    nan, sign_bit = np.isnan(value), 1 << (form.exponent_bits + form.mantissa_bits)
    magnitude = np.minimum(np.abs(np.where(nan, 0.0, value)), form.max)
    exponent = np.frexp(magnitude)[1] - 1  # magnitude = 1.x * 2**exponent
    step = np.ldexp(1.0, np.maximum(exponent, 1 - form.bias) - form.mantissa_bits)
    rounded = np.rint(magnitude / step) * step
    known = decode_table(fmt)[:sign_bit]
    code = np.searchsorted(known[known <= form.max], rounded).astype(np.uint8)
    if form.nan is not None:
        code = np.where(nan, np.uint8(form.nan), code)
    signed = np.signbit(value) & ((code != 0) | (fmt != "e4m3fnuz"))
    return np.where(signed, code | np.uint8(sign_bit), code).astype(np.uint8)


def to_bf16(values_f32: np.ndarray) -> np.ndarray:
    """bfloat16 bits, uint16: the upper half of the float32, nearest, ties to even. NaN is 0x7FC0 with its sign."""
    bits = np.ascontiguousarray(values_f32, np.float32).view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    nan = ((bits >> 16) & 0x8000) | 0x7FC0
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, nan, rounded).astype(np.uint16)


def from_bf16(bits_u16: np.ndarray) -> np.ndarray:
    """float32 of bfloat16 bits (uint16). Exact."""
    return (np.ascontiguousarray(bits_u16, np.uint16).astype(np.uint32) << 16).view(np.float32)


def expand(scale_NbKb, shape, block, origin=(0, 0)) -> np.ndarray:
    """One scale per element, float32 [N, K] = shape, for a region that starts at `origin` of its matrix.

    Element (i, j) gets scale[(origin[0] + i) // block[0], (origin[1] + j) // block[1]].
    Raises IndexError if the grid does not reach so far.
    """
    rows = (origin[0] + np.arange(shape[0])) // block[0]
    columns = (origin[1] + np.arange(shape[1])) // block[1]
    return np.asarray(scale_NbKb, np.float32)[rows[:, None], columns[None, :]]


def decode(code_NK, scale_NbKb, block, fmt="e4m3fn", origin=(0, 0)) -> np.ndarray:
    """float32 [N, K]: value of the code times the scale of its block, rounded once, to float32."""
    code_NK = np.asarray(code_NK, np.uint8)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return decode_table(fmt)[code_NK] * expand(scale_NbKb, code_NK.shape, block, origin)


def halve(code: np.ndarray) -> np.ndarray:
    """e4m3fn codes of value / 2, ties to even. A NaN code stays.

    Halving lowers the exponent field by one. Only below 2**-5 (0x10) does it shift the mantissa
    instead: the odd ones of those codes are rounded (see `halve_is_inexact`). No result exceeds 224.
    """
    return HALVE[np.asarray(code, np.uint8)]


def halve_is_inexact(code: np.ndarray) -> np.ndarray:
    """bool: the 16 codes (8 per sign) whose half is not an e4m3fn value."""
    return (np.asarray(code, np.uint8) & 0x71) == 0x01


def double(code: np.ndarray) -> np.ndarray:
    """e4m3fn codes of value * 2, exact. A NaN code stays. Raises OverflowError above 224."""
    code = np.asarray(code, np.uint8)
    over = int(np.count_nonzero(double_overflows(code)))
    if over:
        raise OverflowError(f"{over} of {code.size} codes are above 224 and cannot be doubled in e4m3fn (max 448)")
    return DOUBLE[code]


def double_overflows(code: np.ndarray) -> np.ndarray:
    """bool: the codes above 224. The kernels saturate them at 448 and count them."""
    magnitude = np.asarray(code, np.uint8) & 0x7F
    return (magnitude > 0x76) & (magnitude < 0x7F)


def legacy_rescale(code: np.ndarray) -> np.ndarray:
    """e4m3fn codes as the public Neuron scripts rescale them. Lossy: 210 of 238 normal codes change value.

    They divide by 448 / 240 in bfloat16 and round once more to e4m3fn: two roundings. A NaN code stays.
    """
    return LEGACY[np.asarray(code, np.uint8)]


def legacy_scale(scale: np.ndarray) -> np.ndarray:
    """The scales that go with `legacy_rescale`: times 448 / 240 in float32."""
    return np.asarray(scale, np.float32) * np.float32(LEGACY_FACTOR)


def _map_codes(function) -> np.ndarray:
    """uint8 [256]: the code of function(value) for every e4m3fn code; NaN codes stay as they are."""
    value = decode_table("e4m3fn")
    return np.where(np.isnan(value), np.arange(256), encode(function(value))).astype(np.uint8)


HALVE = _map_codes(lambda value: value / 2)
DOUBLE = _map_codes(lambda value: value * 2)
LEGACY = _map_codes(lambda value: from_bf16(to_bf16(value / np.float32(LEGACY_FACTOR))))


def block_scale(amax: np.ndarray, fmax: float) -> np.ndarray:
    """The scale of a block with the largest magnitude `amax`, float32, always > 0.

    amax / fmax in float32. A block of zeros gets 1.0, as transformers' fine-grained FP8 gives it.
    A quotient that float32 rounds to zero becomes 2**-149: its codes are then exact.
    Infinity or NaN in the block makes the scale NaN.
    """
    amax = np.asarray(amax, np.float32)
    with np.errstate(under="ignore"):
        scale = np.maximum(amax / np.float32(fmax), SMALLEST_F32)
    return np.where(np.isfinite(amax), np.where(amax == 0, np.float32(1.0), scale), np.float32(np.nan))


def quantize(values_f32_NK, block, fmax: float = 448.0) -> tuple[np.ndarray, np.ndarray]:
    """Codes (e4m3fn, uint8 [N, K]) and scales (float32 [ceil(N / rows), ceil(K / columns)]) of a matrix.

    Per block: scale = amax / fmax, code = the nearest to value / scale, a true float32 division, held
    within +-fmax (which e4m3fn must represent: 448, or 240 for a reader of e4m3). `block` (1, K) is one
    scale per row. A block with NaN or infinity becomes NaN, codes and scale, so that nobody can use it.
    """
    value_NK = np.asarray(values_f32_NK, np.float32)
    starts = [np.arange(0, size, step) for size, step in zip(value_NK.shape, block)]
    amax = np.maximum.reduceat(np.maximum.reduceat(np.abs(value_NK), starts[0], axis=0), starts[1], axis=1)
    scale_NbKb = block_scale(amax, fmax)
    scale_NK = expand(scale_NbKb, value_NK.shape, block)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        quotient = np.clip(value_NK / scale_NK, np.float32(-fmax), np.float32(fmax))
    code_NK = np.where(np.isnan(scale_NK), np.uint8(0x7F), encode(quotient))
    return code_NK, scale_NbKb
