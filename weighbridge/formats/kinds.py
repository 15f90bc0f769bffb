"""Kinds of encodings in one word each: what pictures colour by and legends name."""

from __future__ import annotations

from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Encoding

_PLAIN = {"BF16": "bf16", "F16": "f16", "F32": "f32", "F64": "f32"}


def kind_of(encoding: Encoding) -> str:
    """fp8, fp4, int8, int4, coded (other codes), bf16, f16, f32 or plain."""
    if not encoding.quantized:
        return _PLAIN.get(encoding.dtype, "plain")
    element = ELEMENTS[encoding.element]
    if element.kind == "float":
        return "fp8" if element.bits == 8 else "fp4"
    if element.kind == "book":
        return "fp4"
    return {8: "int8", 4: "int4"}.get(element.bits, "coded")
