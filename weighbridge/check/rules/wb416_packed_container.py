"""WB416 packed-container: the packed codes lie in another container than the claimed format has.

## What it does
Compares dtype and shape of `weight_packed` with the format (`pack-quantized`: I32, eight 4-bit codes each; `nvfp4-pack-quantized` and
`mxfp4-pack-quantized`: U8, two each), and with the `weight_shape` beside it.

## Why it matters
A reader that takes eight codes of four bytes for two of one byte reads all experts wrongly, and some kernels end without a word.

## Example
I32 [2048, 896] where U8 [2048, 3584] is meant: the same bytes in another order of codes.

## How to mend
State the format that the files have, or pack again.

## References
kvcache-ai/ktransformers#2067; compressed-tensors 0.20.0 compressors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form

RULE = Rule("WB416", "packed-container", "error")
CONTAINERS = {"pack-quantized": "I32", "nvfp4-pack-quantized": "U8", "mxfp4-pack-quantized": "U8", "marlin-24": "I32"}


def find(case: Case) -> Iterator[Finding]:
    packed = [m for m in case.modules.all if m.suffix == ".weight_packed"]
    due = CONTAINERS.get(form(case).algorithm, "")
    other = [m for m in packed if due and m.weight.dtype != due]
    if other:
        first = other[0]
        yield RULE.finding("Packed codes lie in another container than the format has", at(m.weight.name for m in other),
                           evidence=f"{first.weight.dtype} {list(first.weight.shape)}; {form(case).raw.get('format')} packs into {due}",
                           consequence="wrong experts without a trace, or a shape assert", fix="state the format that the files have, or pack again")
    elif packed and case.scale_bytes != "none":
        yield from _shapes(case, packed)


def _shapes(case: Case, packed: list[Module]) -> Iterator[Finding]:
    """`weight_shape` of one module of each shape: it must fit the packed columns."""
    seen: dict[tuple[object, ...], Module] = {}
    for module in packed:
        if module.path + ".weight_shape" in case.checkpoint.tensors and len(module.weight.shape) == 2:
            seen.setdefault((module.role, module.weight.dtype, module.weight.shape), module)
    for module in list(seen.values())[:64]:
        tensor = case.checkpoint.tensors[module.path + ".weight_shape"]
        code = {"I64": "q", "I32": "i"}.get(tensor.dtype)
        raw = case.read(tensor)
        if code is None or tensor.shape != (2,) or len(raw) != tensor.nbytes:
            continue
        rows, columns = struct.unpack(f"<2{code}", raw)
        bits = case.claims.bits if case.claims.bits in (2, 4, 8) else 4
        each = 32 // bits if module.weight.dtype == "I32" else 8 // bits
        if (rows, columns) != (0, 0) and (rows != module.weight.shape[0] or -(-columns // max(1, each)) != module.weight.shape[1]):
            yield RULE.finding("weight_shape does not fit the packed codes", at([tensor.name]),
                               evidence=f"weight_shape [{rows}, {columns}] at {bits} bits gives [{rows}, {-(-columns // max(1, each))}], the codes are "
                               f"{module.weight.dtype} {list(module.weight.shape)}", consequence="the weight is unpacked to a wrong shape",
                               fix="state the bits that the files have, or pack again")
