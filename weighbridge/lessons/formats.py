"""Small number formats with all their codes: the codec's table, and plain arithmetic upon it.

A value that is no number (NaN, infinity) is None in a document, and `kind` says what it is.
"""

from __future__ import annotations

from math import floor, isinf, isnan, log2
from typing import Any, NamedTuple

from weighbridge.check.pages import SCHEMA
from weighbridge.formats.element import ELEMENTS


class Words(NamedTuple):
    """What no table says: other names, who has it, what happens beyond the end, what is often mixed up, sources."""

    says: str
    names: tuple[str, ...]
    used: str
    beyond: str
    mixed_up: str
    see_also: tuple[str, ...]
    references: str


SMALL: dict[str, Words] = {
    "e4m3fn": Words(
        "the FP8 of published checkpoints: no infinity, one NaN for each sign",
        ("F8_E4M3 (safetensors)", "float8_e4m3fn (torch, ml_dtypes)", "E4M3 (OCP)"),
        "Weights of DeepSeek-V3, MiniMax-M2, Qwen3-FP8 and their like. transformers, vLLM and SGLang read it as it is here.",
        "Weighbridge's codec holds values beyond the end at the end (saturation), as torch 2.13 does on the CPU. ml_dtypes makes NaN of them.",
        "`fn` means finite and NaN: there is no infinity. A config that says only `e4m3` means this format, unless its reader is Neuron.",
        ("e4m3", "e4m3fnuz", "240-vs-448", "saturation", "weight_scale_inv"),
        "OCP 8-bit Floating Point Specification (OFP8) 1.0; ml_dtypes `float8_e4m3fn`."),
    "e4m3": Words(
        "the IEEE-like FP8 of AWS Neuron: infinity above 240",
        ("FP8_EXP4, F8E4M3 (Neuron)", "float8_e4m3 (ml_dtypes)"),
        "AWS Neuron on Trainium. No torch dtype exists: files and NxD keep the tag F8_E4M3, and the device reads the bytes this way.",
        "Weighbridge's codec holds values beyond the end at the end. ml_dtypes makes infinity of them.",
        "The bytes up to 240 are those of e4m3fn. This is not e4m3fnuz, which ends at 240 too and has another bias.",
        ("e4m3fn", "e4m3fnuz", "240-vs-448", "halving", "WB601"),
        "NxD 2.29 quantization/README_rescaling_fp8_for_neuron.md, quantization_config.py 24-26; ml_dtypes `float8_e4m3`."),
    "e4m3fnuz": Words(
        "the FP8 of AMD's gfx94x: no negative zero, another bias",
        ("F8_E4M3FNUZ (safetensors)", "float8_e4m3fnuz (torch, ml_dtypes)"),
        "AMD gfx94x (MI300). vLLM quantizes for it up to 224, not 240 (`get_fp8_min_max` in utils/quant_utils.py).",
        "Weighbridge's codec holds values beyond the end at the end. torch 2.13 on the CPU and ml_dtypes make NaN of them.",
        "A comment in a public script for MiMo-V2-Flash says `IEEE, bias=8` of Neuron's format. Bias 8 belongs to this one; "
        "Neuron's is e4m3, bias 7.",
        ("e4m3", "e4m3fn", "240-vs-448", "WB602", "WB603"),
        "ml_dtypes `float8_e4m3fnuz`; vLLM `normalize_e4m3fn_to_e4m3fnuz`."),
    "e5m2": Words(
        "FP8 with more range and less precision: the upper byte of a float16",
        ("F8_E5M2 (safetensors)", "float8_e5m2 (torch, ml_dtypes)"),
        "Key/value caches without scales (`fp8_e5m2`), gradients. Weights are seldom stored so.",
        "Weighbridge's codec holds values beyond the end at the end. torch 2.13 on the CPU and ml_dtypes make infinity of them.",
        "More exponent bits do not help where a scale goes with each block: the scale gives the range, the mantissa the precision.",
        ("e4m3fn", "kv-cache", "f16"),
        "OCP 8-bit Floating Point Specification (OFP8) 1.0; ml_dtypes `float8_e5m2`."),
    "e2m1": Words(
        "FP4: sixteen codes, two of them in a byte",
        ("F4 (safetensors)", "float4_e2m1fn (ml_dtypes)", "E2M1 (OCP)"),
        "The codes of mxfp4 and nvfp4. Files pack two in a U8: the low nibble comes first.",
        "There is no NaN and no infinity. What lies beyond the end becomes the end.",
        "A U8 tensor of FP4 has half as many columns as the weight. It is no INT8 and no FP8, whatever its dtype says.",
        ("mxfp4", "nvfp4", "microscaling"),
        "OCP Microscaling Formats (MX) Specification 1.0; ml_dtypes `float4_e2m1fn`."),
    "e8m0": Words(
        "an exponent alone: powers of two, for scales",
        ("F8_E8M0 (safetensors)", "float8_e8m0fnu (torch, ml_dtypes)", "UE8M0"),
        "Scales of mxfp8 and mxfp4, of DeepSeek-V4, and the values (in F32) of DeepSeek-V3.1.",
        "There is no zero, no sign and no infinity. Code 255 is NaN.",
        "Scales of this format often lie in a U8 tensor. The byte is an exponent: 120 means 2^-7. Who multiplies by the byte is far off.",
        ("e8m0-scales", "mxfp8", "mxfp4", "WB407"),
        "OCP Microscaling Formats (MX) Specification 1.0; ml_dtypes `float8_e8m0fnu`."),
}

NAMED = {"nan": "NaN", "infinity": "infinity", "zero": "zero", "subnormal": "a subnormal", "normal": "a number"}


def document(fmt: str) -> dict[str, Any]:
    """Everything about a small format: fields, limits, binades and all codes."""
    words, (sign, exponent, mantissa), bias = SMALL[fmt], *layout(fmt)
    every = codes(fmt)
    finite = [row for row in every if row["value"] is not None]
    positive = sorted((row["value"], row["code"]) for row in finite if row["value"] > 0)
    largest, code = positive[-1]
    subnormal = [row["value"] for row in finite if row["kind"] == "subnormal" and row["value"] > 0]
    return {
        "schema": SCHEMA, "what": fmt, "kind": "format", "says": words.says, "names": list(words.names), "used": words.used,
        "bits": sign + exponent + mantissa, "fields": {"sign": sign, "exponent": exponent, "mantissa": mantissa}, "bias": bias,
        "counts": {"codes": len(every), "finite_codes": len(finite), "values": len({row["value"] for row in finite}),
                   "zero_codes": _count(every, "zero"), "infinity_codes": _count(every, "infinity"), "nan_codes": _count(every, "nan")},
        "max": largest, "min_normal": min(v for v, c in positive if every[c]["kind"] == "normal"),
        "min_subnormal": min(subnormal) if subnormal else None,
        "octaves": log2(largest / positive[0][0]),
        "relative_error_bound": 2.0 ** -(mantissa + 1), "absolute_error_bound_subnormal": min(subnormal) / 2 if subnormal else None,
        "end": _end(every, largest, code, mantissa), "beyond": words.beyond, "mixed_up": words.mixed_up,
        "special": [row for row in every if row["kind"] in ("zero", "infinity", "nan")],
        "binades": binades(every, mantissa), "codes": every,
        "see_also": list(words.see_also), "references": words.references,
    }


def layout(fmt: str) -> tuple[tuple[int, int, int], int]:
    """((sign, exponent, mantissa bits), bias)."""
    form = ELEMENTS[fmt]
    return (int(form.kind == "float"), form.exponent, form.mantissa), form.bias


def codes(fmt: str) -> list[dict[str, Any]]:
    """One row for each code: {code, bits, kind, value}; `bits` has sign, exponent and mantissa apart."""
    from weighbridge.formats.codec import table

    (sign, exponent, mantissa), _ = layout(fmt)
    made = []
    for code, value in enumerate(table(fmt).tolist()):
        field = code >> mantissa & (1 << exponent) - 1
        kind = ("nan" if isnan(value) else "infinity" if isinf(value) else "zero" if not value
                else "subnormal" if not field and mantissa else "normal")
        made.append({"code": code, "bits": apart(code, (sign, exponent, mantissa)), "kind": kind,
                     "negative": bool(sign and code >> exponent + mantissa), "value": None if isnan(value) or isinf(value) else value})
    return made


def apart(code: int, fields: tuple[int, ...]) -> str:
    """`0 1111 110`: the fields of a code in binary, from the highest bit, with a space between them."""
    word = f"{code:0{sum(fields)}b}"
    cut, out = 0, []
    for width in fields:
        out.append(word[cut : cut + width])
        cut += width
    return " ".join(part for part in out if part)


def binades(every: list[dict[str, Any]], mantissa: int) -> list[dict[str, Any]]:
    """The positive values by powers of two: {kind, exponent, first, last, step, values}. Subnormals are one row, they share one step."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in every:
        if row["value"] is not None and row["value"] > 0:
            rows.setdefault(floor(log2(row["value"])) if row["kind"] == "normal" else -(1 << 20), []).append(row)
    out = []
    for exponent, held in sorted(rows.items()):
        values = sorted(row["value"] for row in held)
        step = 2.0 ** (exponent - mantissa) if held[0]["kind"] == "normal" else values[0]
        out.append({"kind": held[0]["kind"], "exponent": exponent if held[0]["kind"] == "normal" else None,
                    "first": values[0], "last": values[-1], "step": step, "values": len(values)})
    return out


def _count(every: list[dict[str, Any]], kind: str) -> int:
    return sum(row["kind"] == kind for row in every)


def _end(every: list[dict[str, Any]], largest: float, code: int, mantissa: int) -> dict[str, Any]:
    """The largest value, the one that would come next, and what the code after the largest means instead (None: there is none)."""
    following = largest + 2.0 ** (floor(log2(largest)) - mantissa)
    after = every[code + 1] if code + 1 < len(every) and every[code + 1]["negative"] == every[code]["negative"] else None
    return {"code": code, "largest": largest, "would_be_next": following, "next_code": after["code"] if after else None,
            "next_is": after["kind"] if after else None}
