"""How each library makes scales and zero points from the values of a block, without calibration: one row for each rule.

A rule takes the least and the greatest value of every block, float32, and gives each factor's own grid. Sources: compressed-tensors 0.20
`quantization/utils/helpers.py` and `mxfp_utils.py`; nvidia-modelopt 0.47 `quantization/qtensor/`; triton_kernels `numerics_details/mxfp.py`, by which
transformers quantizes gpt-oss; autoawq 0.2.9 `quantize/quantizer.py`; gptqmodel `quantization/quantizer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor, log2
from typing import NamedTuple

import numpy as np

from weighbridge.formats import codec
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Encoding, Field, Role

EPSILON = np.float32(2.0**-23)  # compressed-tensors' scale of a block of zeros
E4M3_EPSILON = np.float32(0.125)  # its E4M3 scale where rounding gives zero
AWQ_LEAST = np.float32(1e-5)  # the smallest range of a group
F32_EXPONENT = np.int32(0x7F800000)
Own = dict[str, np.ndarray]


class Blocks(NamedTuple):
    """The least and the greatest value of each block, float32 [rows, columns]; `largest`, of the tensor and of what is fused with it."""

    low: np.ndarray
    high: np.ndarray
    largest: np.float32

    @property
    def amax(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def with_zero(self) -> Blocks:
        """Zero must be a value of every block."""
        return Blocks(np.minimum(self.low, np.float32(0)), np.maximum(self.high, np.float32(0)), self.largest)


class Rule(NamedTuple):
    """`grids(blocks, encoding, given)` makes the factors' own grids, of which `given` are kept.

    `rounds_first`: the quotient is rounded before the zero point is added. `half_up`: halves go away from zero, not to the even code.
    `signed_zero`: a -0 keeps its sign (compressed-tensors adds a zero point of 0, which takes it away).
    """

    says: str
    grids: Callable[[Blocks, Encoding, Mapping[str, np.ndarray]], Own]
    rounds_first: bool = False
    half_up: bool = False
    signed_zero: bool = False


def stored(scale: np.ndarray, field: Field) -> np.ndarray:
    """A scale as its field holds it: nearest; an exponent, and what lies below the dtype's normal numbers, goes up, so that no code is cut off."""
    scale = np.asarray(scale, np.float32)
    if field.element == "f32":
        return scale
    if field.element == "e8m0":
        fraction, exponent = np.frexp(scale)
        power = np.clip(np.where(fraction == 0.5, exponent - 1, exponent), -127, 128)
        return np.where(np.isfinite(scale) & (power < 128), np.ldexp(np.float32(1), power), np.float32(np.nan)).astype(np.float32)
    form = ELEMENTS[field.element]
    step = np.float64(2 * form.absolute)
    small = scale < np.ldexp(1.0, 1 - form.bias)
    near = codec.rounded(scale, field.dtype)
    with np.errstate(invalid="ignore"):
        return np.where(small, np.ceil(scale / step) * step, near).astype(np.float32)


def _field(encoding: Encoding, role: Role) -> Field:
    return next(f for f in encoding.factors if f.role is role)


def _scale(encoding: Encoding) -> Field:
    assert encoding.scale is not None
    return encoding.scale


def _amax(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """amax / peak; 1 for a block of zeros."""
    field = _scale(encoding)
    return {field.suffix: stored(codec.floats8.block_scale(blocks.amax, encoding.peak), field)}


def _ct(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """amax over half the range of the codes (448, 127.5, 7.5); with zero points, the range over the codes' range. 2^-23 for a block of zeros."""
    field, form = _scale(encoding), ELEMENTS[encoding.element]
    blocks = blocks.with_zero()
    if not any(f.role is Role.ZERO for f in encoding.factors):
        half = encoding.peak if form.kind == "float" else ((1 << form.bits) - 1) / 2
        return {field.suffix: _ct_scale(blocks.amax / np.float32(half), field)}
    low = np.float32(-form.bias)
    raw = (blocks.high - blocks.low) / np.float32((1 << form.bits) - 1)
    scale = given.get(field.suffix, _ct_scale(raw, field))
    zero = np.rint(np.clip(low - blocks.low / scale, low, -low - 1))
    return {field.suffix: scale, _field(encoding, Role.ZERO).suffix: np.where(raw == 0, np.float32(0), zero).astype(np.float32)}


def _ct_scale(scale: np.ndarray, field: Field) -> np.ndarray:
    return stored(np.where(scale == 0, EPSILON, scale), field)


def _power(exponent_byte: np.ndarray) -> np.ndarray:
    return codec.table("e8m0")[np.clip(exponent_byte, 0, 255)]


def _ct_mx(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """The power of two at or below amax, from 1.75 times a power on the next, over that of the greatest code (4 or 256)."""
    bits = np.ascontiguousarray(blocks.amax, np.float32).view(np.int32)
    exponent = ((bits + (1 << 21)) & F32_EXPONENT) >> 23
    byte = np.where(exponent == 255, 255, np.where(exponent == 0, 0, exponent - floor(log2(encoding.peak))))
    return {_scale(encoding).suffix: _power(byte)}


def _modelopt_mx(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """2^ceil(log2(amax / peak)), the logarithm rounded to float32."""
    ratio = blocks.amax / np.float32(encoding.peak)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.ceil(np.log2(ratio.astype(np.float64)).astype(np.float32))
    byte = np.where(np.isfinite(ratio), np.clip(np.where(ratio > 0, exponent, -127), -127, 127) + 127, 255)
    return {_scale(encoding).suffix: _power(byte.astype(np.int32))}


def _mx_up(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """The power of two at or above amax / peak."""
    bits = np.ascontiguousarray(blocks.amax / np.float32(encoding.peak), np.float32).view(np.int32)
    return {_scale(encoding).suffix: _power(((bits.astype(np.int64) + 0x7FFFFF) & F32_EXPONENT) >> 23)}


def _ct_nvfp4(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """G = 2688 / largest divides; a block's scale is amax / 6 * G in E4M3, 0.125 where that is zero."""
    field, whole = _scale(encoding), _scale(encoding).inner[0]
    with np.errstate(over="ignore"):
        ratio = np.float32(2688) * (np.float32(1) / np.maximum(blocks.largest, np.float32(2.0**-126)))  # so torch divides a number by a tensor
    divisor = given.get(whole.suffix, np.full((1, 1), ratio if np.isfinite(ratio) else 1, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        scale = codec.rounded(np.clip(divisor * (blocks.amax / np.float32(encoding.peak)), np.float32(-448), np.float32(448)), "F8_E4M3")
    return {field.suffix: np.where(scale == 0, E4M3_EPSILON, scale), whole.suffix: divisor}


def _modelopt_nvfp4(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """The tensor's scale is largest / 2688 (1 for zeros); a block's amax / (6 * it) in E4M3, not below 2^-9, 1 for a block of zeros."""
    field, whole = _scale(encoding), _scale(encoding).inner[0]
    second = given.get(whole.suffix, np.full((1, 1), blocks.largest / np.float32(2688) or 1, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        scale = blocks.amax / (np.float32(encoding.peak) * second)
    scale = np.clip(np.where(scale == 0, np.float32(1), scale), np.float32(2.0**-9), np.float32(448))
    return {field.suffix: codec.rounded(scale, "F8_E4M3"), whole.suffix: second}


def _awq(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """The range over 15, at least 1e-5 / 15; zero point -round(low / scale). Zero is in every range: AWQ's own rule cuts off groups of one sign."""
    field, blocks, top = _scale(encoding), blocks.with_zero(), np.float32((1 << ELEMENTS[encoding.element].bits) - 1)
    scale = given.get(field.suffix, stored(np.maximum(blocks.high - blocks.low, AWQ_LEAST) / top, field))
    return {field.suffix: scale, _field(encoding, Role.ZERO).suffix: np.clip(-np.rint(blocks.low / scale), np.float32(0), top) + np.float32(0)}


def _gptq(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """2 * amax over 15, about the middle code; 2 / 15 for a block of zeros. Of a group without negatives GPTQ itself cuts off the upper half."""
    field, bits = _scale(encoding), ELEMENTS[encoding.element].bits
    amax = np.where(blocks.amax == 0, np.float32(1), blocks.amax)
    scale = stored(np.float32(2) * amax / np.float32((1 << bits) - 1), field)
    return {field.suffix: scale, _field(encoding, Role.ZERO).suffix: np.full(scale.shape, 1 << bits - 1, np.float32)}


def _gptq_zeros(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray]) -> Own:
    """The range over 15, zero point round(-low / scale)."""
    field, blocks, top = _scale(encoding), blocks.with_zero(), np.float32((1 << ELEMENTS[encoding.element].bits) - 1)
    empty = blocks.high == blocks.low
    low, high = np.where(empty, np.float32(-1), blocks.low), np.where(empty, np.float32(1), blocks.high)
    scale = given.get(field.suffix, stored((high - low) / top, field))
    return {field.suffix: scale, _field(encoding, Role.ZERO).suffix: np.clip(np.rint(-low / scale), np.float32(0), top)}


RULES: dict[str, Rule] = {
    "amax": Rule("amax over the greatest code", _amax, signed_zero=True),
    "ct": Rule("amax over half the codes' range, as compressed-tensors reckons", _ct),
    "ct-mx": Rule("powers of two, up from 1.75, as compressed-tensors reckons", _ct_mx),
    "ct-nvfp4": Rule("E4M3 scales under 2688 / amax, as compressed-tensors reckons", _ct_nvfp4),
    "modelopt-mx": Rule("powers of two at or above amax / 448, as ModelOpt reckons", _modelopt_mx, signed_zero=True),
    "modelopt-nvfp4": Rule("E4M3 scales over amax / 2688, as ModelOpt reckons", _modelopt_nvfp4),
    "mx-up": Rule("powers of two at or above amax / 6, halves away from zero, as transformers quantizes gpt-oss", _mx_up,
                  half_up=True, signed_zero=True),
    "awq": Rule("the range of a group over 15, with a zero point", _awq, rounds_first=True),
    "gptq": Rule("the largest magnitude of a group over 7.5", _gptq, rounds_first=True),
    "gptq-zeros": Rule("the range of a group over 15, with a zero point", _gptq_zeros, rounds_first=True),
}
