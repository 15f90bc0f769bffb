"""bf16, f16 and f32: too many codes for a list, so fields, limits and a few values in binary. Plain arithmetic."""

from __future__ import annotations

import struct
from math import log2
from typing import Any, NamedTuple

from weighbridge.check.pages import SCHEMA
from weighbridge.lessons import formats
from weighbridge.lessons.formats import apart


class Wide(NamedTuple):
    """An IEEE-like float: exponent and mantissa bits, and what no arithmetic says."""

    exponent: int
    mantissa: int
    says: str
    names: tuple[str, ...]
    used: str
    mixed_up: str
    see_also: tuple[str, ...]
    references: str


WIDE: dict[str, Wide] = {
    "bf16": Wide(8, 7, "the upper half of a float32: its range, a third of its digits", ("BF16 (safetensors)", "bfloat16 (torch, ml_dtypes)"),
                 "Embedding, norms and lm_head of most checkpoints; everything of an unquantized one.",
                 "It has the range of f32 and only 8 significant bits: the float32 router and its bias lose the order of experts in it.",
                 ("f16", "f32", "e_score_correction_bias", "router"), "ml_dtypes `bfloat16`."),
    "f16": Wide(5, 10, "IEEE half precision: more digits than bf16, a short range", ("F16 (safetensors)", "float16 (torch, numpy)"),
                "Older checkpoints, and the scales of AWQ and GPTQ.",
                "It ends at 65504: activations of large models run over it, where bf16 does not.",
                ("bf16", "f32", "int4"), "IEEE 754-2019, binary16."),
    "f32": Wide(8, 23, "IEEE single precision", ("F32 (safetensors)", "float32 (torch, numpy)"),
                "Block scales (`weight_scale_inv`), the router and its bias in MiniMax-M2; Weighbridge decodes to it.",
                "A scale in F32 is doubled or halved exactly. Stored as BF16 it is a number with 8 significant bits.",
                ("bf16", "weight_scale_inv", "router"), "IEEE 754-2019, binary32."),
}

SAMPLES = (1.0, 0.1, -2.5, 448.0, 9.3, 1e-4)  # values shown in binary; none is special


def document(fmt: str) -> dict[str, Any]:
    """Fields and limits of a wide float, and some values in it."""
    form = WIDE[fmt]
    bits, bias = 1 + form.exponent + form.mantissa, (1 << form.exponent - 1) - 1
    reach = limits(fmt)
    special = 1 << form.mantissa + 1  # codes whose exponent field is all ones, both signs
    return {
        "schema": SCHEMA, "what": fmt, "kind": "wide-format", "says": form.says, "names": list(form.names), "used": form.used, "bits": bits,
        "fields": {"sign": 1, "exponent": form.exponent, "mantissa": form.mantissa}, "bias": bias,
        "counts": {"codes": 1 << bits, "finite_codes": (1 << bits) - special, "values": (1 << bits) - special - 1, "zero_codes": 2,
                   "infinity_codes": 2, "nan_codes": special - 2},
        "max": reach["to"], "min_normal": reach["normal"], "min_subnormal": reach["from"], "octaves": log2(reach["to"]) - log2(reach["from"]),
        "relative_error_bound": 2.0 ** -(form.mantissa + 1), "step_at_one": 2.0**-form.mantissa, "whole_numbers_up_to": 2 ** (form.mantissa + 1),
        "samples": [sample(value, fmt) for value in SAMPLES], "reaches": reaches(), "mixed_up": form.mixed_up,
        "see_also": list(form.see_also), "references": form.references,
    }


def sample(value: float, fmt: str) -> dict[str, Any]:
    """A number as it is stored: {value, code, bits, stored}."""
    form = WIDE[fmt]
    code = encode(value, fmt)
    return {"value": value, "code": code, "bits": apart(code, (1, form.exponent, form.mantissa)), "stored": decode(code, fmt)}


def encode(value: float, fmt: str) -> int:
    """The code of a finite number, nearest, ties to even."""
    if fmt == "f16":
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    if fmt == "f32":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    from weighbridge.encoding.codec import to_bf16

    return int(to_bf16([value])[0])  # type: ignore[arg-type]


def decode(code: int, fmt: str) -> float:
    if fmt == "f16":
        return float(struct.unpack("<e", struct.pack("<H", code))[0])
    return float(struct.unpack("<f", struct.pack("<I", code << 16 if fmt == "bf16" else code))[0])


def reaches() -> list[dict[str, Any]]:
    """{name, from, normal, to} of every float format, smallest magnitude to largest: what a picture of ranges draws."""
    made = []
    for name in formats.SMALL:
        told = formats.document(name)
        made.append({"name": name, "from": told["min_subnormal"] or told["min_normal"], "normal": told["min_normal"], "to": told["max"]})
    return made + [{"name": name, **limits(name)} for name in WIDE]


def limits(fmt: str) -> dict[str, float]:
    """{from, normal, to}: smallest subnormal, smallest normal and largest value."""
    form = WIDE[fmt]
    bias = (1 << form.exponent - 1) - 1
    return {"from": 2.0 ** (1 - bias - form.mantissa), "normal": 2.0 ** (1 - bias),
            "to": (2.0 - 2.0**-form.mantissa) * 2.0 ** ((1 << form.exponent) - 2 - bias)}
