"""Elements without a page of their own: integers, codebooks, and floats that are seldom. All from `formats.element` and the codec's table."""

from __future__ import annotations

from typing import Any

from weighbridge.check.pages import SCHEMA
from weighbridge.formats.element import ELEMENTS, Element
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import containers, formats, wide
from weighbridge.lessons.schemes import page_of

BOOKS = {"nf4": "16 values, each as likely as the others for normal weights (QLoRA)", "fp4": "bitsandbytes' FP4: a codebook, and no E2M1",
         "dynamic8": "256 values by which bitsandbytes stores absmax in a byte"}
SOURCES = {"book": "bitsandbytes 0.50 `functional.py`.", "float": "OCP Microscaling Formats (MX) Specification 1.0; IEEE 754-2019.",
           "int": "Two's complement.", "offset": "compressed-tensors 0.20 (`uintN-M`); gptqmodel 7.7 (`uintN+1`: version 1 of GPTQ)."}


def elements() -> dict[str, Element]:
    """Those that have no other page, by the word that asks for them."""
    own = {*formats.SMALL, *containers.CONTAINERS, *wide.WIDE}
    return {page_of(name): form for name, form in ELEMENTS.items() if page_of(name) not in own}


def says(form: Element) -> str:
    """One phrase."""
    if form.kind == "book":
        return BOOKS.get(form.name, f"a codebook of {len(form.book)} values")
    if form.kind == "int":
        return f"signed integers of {form.bits} bits, two's complement"
    if form.kind == "offset":
        told = f", the stored number {'less ' + str(form.bias) if form.bias > 0 else 'plus ' + str(-form.bias)}" if form.bias else ""
        return f"unsigned integers of {form.bits} bits{told}"
    return f"a float of {form.bits} bits: {form.exponent} exponent and {form.mantissa} mantissa bits"


def document(word: str) -> dict[str, Any]:
    """Everything about an element: limits, all its codes where they are few, and the schemes that use it."""
    form = elements()[word]
    rows = codes(form)
    values = [row["value"] for row in rows if row["value"] is not None]
    return {"schema": SCHEMA, "what": word, "kind": "element", "says": says(form), "element": form.name, "bits": form.bits, "element_kind": form.kind, "bias": form.bias,
            "fields": {"sign": 1, "exponent": form.exponent, "mantissa": form.mantissa} if form.kind == "float" else {"code": form.bits},
            "max": form.largest, "min": min(values) if values else -form.largest, "values": len(set(values)), "codes": rows,
            "half_step": form.absolute, "relative_error_bound": form.relative, "used_by": used_by(form.name),
            "see_also": list(dict.fromkeys([*used_by(form.name)[:3], "formats"])), "references": SOURCES[form.kind]}


def codes(form: Element) -> list[dict[str, Any]]:
    """{code, bits, value} of all codes, where a byte holds one."""
    if form.bits > 8:
        return []
    from weighbridge.formats.codec import table

    fields = (1, form.exponent, form.mantissa) if form.kind == "float" else (form.bits,)
    return [{"code": code, "bits": formats.apart(code, fields), "value": value if abs(value) < float("inf") else None} for code, value in enumerate(table(form.name).tolist())]


def used_by(element: str) -> list[str]:
    """Schemes whose codes, scales or zero points are of this element."""
    from weighbridge.formats.scheme import every_field

    return [s.name for s in SCHEMES.values() if any(f.element == element for f in every_field(s.fields) if f.weighs)]
