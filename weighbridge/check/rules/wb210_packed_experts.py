"""WB210 packed-experts: experts are two 4-bit codes in a byte, and the configuration speaks of FP8 only.

## What it does
Finds I8 and U8 weights whose scale has one value for 32 stored values or fewer, under a claim that says `fp8` and no `expert_dtype: fp4`.

## Why it matters
A reader that takes every byte for FP8 has half the columns and garbage in them.

## Example
DeepSeek-V4: experts I8 [2048, 3584] with E8M0 scales [2048, 224], `quant_method: fp8`, and no `expert_dtype`.

## How to mend
Write `expert_dtype: fp4`.

## References
radixark/miles#2044; transformers 5.23.0 `FineGrainedFP8Config` (expert_dtype is fp8 or fp4).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB210", "packed-experts", "error")


def find(case: Case) -> Iterator[Finding]:
    claim = claim_find.main_claim(case)
    if claim is None or claim.family != "fp8" or case.claims.expert_dtype == "fp4":
        return
    found = [s for s in claim_find.stored(case) if s.pair.row.dtype in ("I8", "U8") and s.scale_shape and s.shape and len(s.shape) >= 2
             and s.scale_shape[-1] * 16 == s.shape[-1]]
    if found:
        first = found[0]
        yield RULE.finding("Experts hold two codes in each byte, and the configuration says fp8",
                           Where(claim.file, tensor=folded(s.name for s in found), key="expert_dtype", count=sum(s.pair.count for s in found)),
                           evidence=f"{first.pair.row.dtype} {list(first.shape)} with scales {list(first.scale_shape)}: "
                           f"{2 * first.shape[-1]} values of 4 bits in a row, 32 to a scale; expert_dtype is not said",
                           consequence="no error in readers that take every byte for FP8: half the columns, all of them wrong",
                           fix=Fix("write expert_dtype: fp4", "fp4", (Edit("config.json", ("expert_dtype",), "fp4"),)))
