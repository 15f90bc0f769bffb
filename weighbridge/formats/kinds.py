"""Kinds of encodings in one word each: what pictures colour by and legends name."""

from __future__ import annotations

from weighbridge.formats.element import CODED, ELEMENTS, PLAIN, Element
from weighbridge.formats.scheme import Encoding

_FLOATS = {"bf16": "bf16", "f16": "f16", "f32": "f32", "f64": "f32"}


def kind_of(encoding: Encoding) -> str:
    """fp8, fp4 (FP6 too), int8, int4, coded (other codes), bf16, f16, f32 or plain."""
    element = ELEMENTS.get(encoding.element)
    if element is None:
        return "plain"  # bytes, truth values: no codes that a scheme knows
    return _FLOATS.get(element.name) or _coded(element)


def kind_of_dtype(dtype: str, quantized: bool = False) -> str:
    """The same where no scheme is known: by the dtype, as safetensors spells it, and by whether a scale belongs to it."""
    if dtype in PLAIN:
        return _FLOATS[PLAIN[dtype]]
    if dtype in CODED:
        return "fp8"
    return "fp4" if dtype.startswith(("F4", "F6")) else "coded" if quantized else "plain"


def code_words(encoding: Encoding) -> str:
    """What lies in the bytes of packed codes: FP4, NF4, 4-bit. Empty where every stored element is a code."""
    if not encoding.code.packing.packed:
        return ""
    element = ELEMENTS[encoding.element]
    return {"float": f"FP{element.bits}", "book": element.name.upper()}.get(element.kind, f"{element.bits}-bit")


def _coded(element: Element) -> str:
    if element.kind in ("float", "book"):
        return "fp8" if element.bits == 8 else "fp4"
    if element.kind == "power":
        return "fp8"
    return {8: "int8", 4: "int4"}.get(element.bits, "coded")
