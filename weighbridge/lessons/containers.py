"""Formats made of two: small codes in groups, and a scale for each group. mxfp8, mxfp4, nvfp4, int8, int4.

The group that is worked by hand holds the numbers of `group_values`; a test makes them again by another way.
"""

from __future__ import annotations

from math import floor, log2
from typing import Any, NamedTuple

from weighbridge.check.pages import SCHEMA
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import BY_DTYPE, Role
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons.formats import SMALL, apart, layout
from weighbridge.lessons.formats import document as small
from weighbridge.lessons.wide import WIDE, decode, encode


class Container(NamedTuple):
    """`element` is a small float or `int4`/`int8`; `group` 0 means one scale for each row. `scale` bits are those of one group's scale."""

    element: str
    group: int
    scale: str
    says: str
    stored: str
    rule: str
    mixed_up: str
    see_also: tuple[str, ...]
    references: str


CONTAINERS: dict[str, Container] = {
    "mxfp8": Container(
        "e4m3fn", 32, "e8m0", "FP8 codes in groups of 32 along a row, one power of two for each group",
        "`weight` F8_E4M3 [N, K] and a scale, U8 or F8_E8M0, [N, K/32]: `weight_scale` in compressed-tensors, `weight_scale_inv` in MiniMax-M3.",
        "value = code x 2^(scale byte - 127)",
        "The scale is often U8: the byte is an exponent. MiniMax-M3 stores it under the name `weight_scale_inv`, and it multiplies there, too.",
        ("microscaling", "e8m0-scales", "e4m3fn", "WB407"),
        "OCP Microscaling Formats (MX) Specification 1.0; compressed-tensors 0.20.0, `mxfp8-quantized`; omlx#2159."),
    "mxfp4": Container(
        "e2m1", 32, "e8m0", "FP4 codes in groups of 32, one power of two for each group",
        "gpt-oss: `experts.gate_up_proj_blocks` U8 [E, 2I, H/32, 16] and `_scales` U8 [E, 2I, H/32]. compressed-tensors: `weight_packed` "
        "U8 [N, K/2] and `weight_scale` U8 [N, K/32]. DeepSeek-V4's experts: I8 [N, K/2] with `.scale` F8_E8M0. The low nibble comes first.",
        "value = code x 2^(scale byte - 127)",
        "I8 or U8 [N, K/2] is two codes in a byte, no INT8. gpt-oss stores gate and up in alternating rows.",
        ("microscaling", "e8m0-scales", "e2m1", "nvfp4", "WB210"),
        "OCP Microscaling Formats (MX) Specification 1.0; compressed-tensors 0.20.0, `mxfp4-pack-quantized`; "
        "transformers 5.23.0 integrations for MXFP4."),
    "nvfp4": Container(
        "e2m1", 16, "e4m3fn", "FP4 codes in groups of 16, an FP8 scale for each group, and a second scale for the tensor",
        "ModelOpt: `weight` U8 [N, K/2], `weight_scale` F8_E4M3 [N, K/16], `weight_scale_2` F32. compressed-tensors: `weight_packed`, "
        "`weight_scale`, `weight_global_scale` F32 [1].",
        "ModelOpt: value = code x weight_scale x weight_scale_2. compressed-tensors: value = code x weight_scale / weight_global_scale",
        "The second scale is a multiplier in ModelOpt and a divisor in compressed-tensors. The same number under the other name is off by "
        "its square.",
        ("e2m1", "e4m3fn", "mxfp4", "scale", "WB425"),
        "compressed-tensors 0.20.0 quantization/lifecycle/forward.py; modular/modular#6699; ggml-org/llama.cpp#21095."),
    "int8": Container(
        "int8", 0, "f32", "whole numbers from -128 to 127, usually one scale for each row",
        "compressed-tensors W8A8: `weight` I8 [N, K], `weight_scale` [N, 1]. bitsandbytes: `weight` I8, `SCB` F32 [N].",
        "value = code x weight_scale. bitsandbytes: value = code x SCB / 127",
        "SCB is the row's largest magnitude, not the scale: it wants the division by 127. I8 [N, K/2] next to an E8M0 scale is FP4.",
        ("channel", "amax", "int4"),
        "compressed-tensors 0.20.0, `int-quantized`; bitsandbytes (names of its state dict in transformers 5.23.0)."),
    "int4": Container(
        "int4", 32, "bf16", "whole numbers from -8 to 7 in groups along a row, a scale for each group",
        "compressed-tensors (Kimi-K2-Thinking): `weight_packed` I32 [N, K/8], `weight_scale` [N, K/group], `weight_shape`. "
        "AWQ and GPTQ: `qweight`, `qzeros`, `scales`, turned to [in, out]. Groups are 32 or 128.",
        "compressed-tensors: value = (nibble - 8) x scale. AWQ: (q - z) x s. GPTQ version 1: (q - (z + 1)) x s, version 2: (q - z) x s",
        "The nibble is stored with 8 added. GPTQ's version 1 stores zero points one too small: read as version 2, each weight is one step off.",
        ("group-quantization", "int8", "WB411", "WB429"),
        "compressed-tensors 0.20.0, `pack-quantized`; vllm-project/vllm#38966; kvcache-ai/ktransformers#2067."),
}

SHAPE = (1536, 3072)  # gate of one expert of MiniMax-M2, for sizes
SHOWN = 8  # codes of the worked group that are shown
TENSOR_TO_GROUP = 4.0  # nvfp4: the tensor of the worked group has a largest magnitude so many times that of the group


def document(name: str) -> dict[str, Any]:
    """The two formats, what a weight costs, and one group worked by hand."""
    form = CONTAINERS[name]
    element = _element(form.element)
    bits, scale_bits, per = element["bits"], _bits(form.scale), form.group or SHAPE[1]
    rows, columns = SHAPE
    scales = rows * (columns // per)
    made = {
        "schema": SCHEMA, "what": name, "kind": "container", "says": form.says, "stored": form.stored, "rule": form.rule,
        "element": element, "group": form.group or None, "scale": form.scale, "bits_per_value": bits + scale_bits / per,
        "sizes": {"shape": list(SHAPE), "code_bytes": rows * columns * bits // 8, "scale_bytes": scales * scale_bits // 8,
                  "bf16_bytes": rows * columns * 2},
        "within_a_group": element["max"] / element["smallest"], "worked": worked(name), "schemes": schemes_of(name), "mixed_up": form.mixed_up,
        "see_also": list(form.see_also), "references": form.references,
    }
    if name == "nvfp4":
        made["second_scale"] = {"dtype": "F32", "per": "tensor", "amax_divided_by": element["max"] * small(form.scale)["max"]}
    return made


def schemes_of(name: str) -> list[str]:
    """Rows of the table of schemes that store this format: the same codes, and for microscaling the same scale and group."""
    form, found = CONTAINERS[name], []
    for scheme in SCHEMES.values():
        scale = next((f for f in scheme.factors if f.role is Role.SCALE), None)
        own = ELEMENTS[scheme.code.element]
        if form.element in SMALL:
            fits = own.name == form.element and scale is not None and scale.block == (1, form.group) and BY_DTYPE[scale.dtype] == form.scale
        else:
            fits = own.kind in ("int", "offset") and own.bits == int(form.element[3:])
        if fits:
            found.append(scheme.name)
    return found


def _element(name: str) -> dict[str, Any]:
    if name in SMALL:
        told = small(name)
        return {"name": name, "bits": told["bits"], "max": told["max"], "smallest": told["min_subnormal"],
                "values": sorted({row["value"] for row in told["codes"] if row["value"] is not None}),
                "relative_error_bound": told["relative_error_bound"]}
    bits = int(name[3:])
    values = [float(v) for v in range(-(1 << bits - 1), 1 << bits - 1)]
    return {"name": name, "bits": bits, "max": values[-1], "smallest": 1.0, "values": values, "relative_error_bound": None}


def _bits(name: str) -> int:
    if name in WIDE:
        return 1 + WIDE[name].exponent + WIDE[name].mantissa
    return int(small(name)["bits"])


def group_values(count: int) -> list[float]:
    """The numbers of the worked group: 1/100, -2/100, 3/100, …"""
    return [(1 if i % 2 == 0 else -1) * (i + 1) / 100 for i in range(count)]


def worked(name: str) -> dict[str, Any]:
    """One group from numbers to codes and back: {values, amax, scale, how, codes, decoded, largest_error}; tables list the first `shown`."""
    form = CONTAINERS[name]
    given = group_values(form.group or 32)
    amax = max(abs(v) for v in given)
    scale, how = _scale(name, amax)
    pairs = _quantize(form.element, [v / scale for v in given])
    decoded = [value * scale for _, value in pairs]
    return {"count": len(given), "shown": SHOWN, "amax": amax, "scale": scale, "how": how, "values": given, "codes": [code for code, _ in pairs],
            "bits": [apart(code, _fields(form.element)) for code, _ in pairs], "code_values": [value for _, value in pairs], "decoded": decoded,
            "largest_error": max(abs(a - b) for a, b in zip(given, decoded, strict=True))}


def _scale(name: str, amax: float) -> tuple[float, str]:
    """The scale of a group, and the sentences that say how it is found."""
    form = CONTAINERS[name]
    top = _element(form.element)["max"]
    if form.scale == "e8m0":  # MX specification 1.0: the exponent of amax less the exponent of the largest code
        exponent = floor(log2(amax)) - floor(log2(top))
        return 2.0**exponent, (f"Scale = 2^(floor(log2(amax)) - {floor(log2(top))}) = 2^{exponent} = {2.0**exponent:.10g}, "
                               f"stored as the byte {exponent + 127}")
    if name == "nvfp4":
        whole, largest = TENSOR_TO_GROUP * amax, top * small("e4m3fn")["max"]
        second = whole / largest
        code, value = _quantize("e4m3fn", [amax / top / second])[0]
        return value * second, (f"Second scale = {whole:g} / {largest:,g} = {second:.6g}, if {whole:g} is the largest magnitude of the tensor. "
                                f"Scale of the group = {amax:g} / {top:g} / second = {value:g}, in e4m3fn the code "
                                f"0x{code:02X}. Together {value * second:.6g}")
    scale = decode(encode(amax / top, form.scale), form.scale)
    return scale, f"Scale = amax / {top:g} = {scale:.6g}, in {form.scale}"


def _quantize(element: str, values: list[float]) -> list[tuple[int, float]]:
    """(code, value of the code) of each number, by the codec; whole numbers by rounding, ties to even."""
    if element not in SMALL:
        bits = int(element[3:])
        element = {8: "int8", 4: "uint4-8"}[bits]  # packed nibbles have 8 added
    from weighbridge.formats import codec

    table = codec.table(element)
    return [(code, float(table[code])) for code in codec.encode(values, element).tolist()]  # type: ignore[arg-type]


def _fields(element: str) -> tuple[int, ...]:
    return layout(element)[0] if element in SMALL else (int(element[3:]),)
