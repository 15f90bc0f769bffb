"""WB508 ignored-layers-unread: TensorRT-LLM does not read this skip list, and a BF16 layer that it names cannot be cut.

## What it does
Finds unquantized linear layers that the config lists under `ignored_layers` or `ignore` (TensorRT-LLM read these for some formats only), whose
cut axis gives a rank no multiple of the block.

## Why it matters
The layer is built quantized although it holds BF16. Where its share is no multiple of 128 an assert fails under TP above 1.

## Example
A per-head `g_proj` of 64 rows, listed in `ignored_layers` of a block-FP8 config, at TP 2.

## How to mend
Spell the list `modules_to_not_convert` (HF FP8), or give it as `exclude_modules` in hf_quant_config.json.

## References
NVIDIA/TensorRT-LLM#17551.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Remove, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB508", "ignored-layers-unread", "error", ("tensorrt-llm",), {"tensorrt-llm": "TensorRT-LLM before #17551"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    claim = case.config.get("quantization_config")
    tp = cuts.degrees(case.settings, target).tp
    if not isinstance(claim, dict) or tp <= 1 or "mxfp8" in str(claim.get("quant_method", ""))[:40].lower():
        return
    key = next((k for k in ("ignored_layers", "ignore") if isinstance(claim.get(k), list)), "")
    if not key or isinstance(claim.get("modules_to_not_convert"), list):
        return
    listed = {entry for entry in claim[key] if isinstance(entry, str)}
    block = case.claims.blocks[0][0] if case.claims.blocks else 128
    hit = [m for m in case.modules.all if m.path in listed and not m.quantized and len(m.weight.shape) == 2 and m.weight.shape[0] > 1
           and m.role.startswith(("attention.", "mlp.", "shared_experts.", "other")) and not m.role.endswith((".o", ".down"))
           and (m.weight.shape[0] % tp or (m.weight.shape[0] // tp) % block)]
    if hit:
        rows = hit[0].weight.shape[0]
        edits: tuple[Edit, ...] = (Edit("config.json", ("quantization_config", "modules_to_not_convert"), claim[key]),
                                   Edit("config.json", ("quantization_config", key), Remove)) if claim.get("quant_method") == "fp8" else ()
        yield RULE.finding(f"a BF16 layer listed in {key} is built quantized, and {rows}/{tp} rows are no multiple of {block}",
                           Where(file="config.json", module=folded(m.path for m in hit), key=f"quantization_config.{key}", count=len(hit)),
                           evidence=f"{rows} rows, {case.settings.where('tp')} {tp}, block {block}",
                           consequence="AssertionError while the layer is made",
                           fix=Fix("spell the list modules_to_not_convert", claim[key], edits), runtime=target.runtime)
