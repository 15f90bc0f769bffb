"""WB606 fp8-in-u8: FP8 codes are stored as U8, and readers cast the numbers 0 to 255.

## What it does
Finds U8 and I8 weights of an FP8 claim whose scale grid is that of one code per byte.

## Why it matters
`uint8.astype(bfloat16)` gives 126 where 448 is meant, and 8 where 2^-6 is: weights about 20,000 times too large, without an error.

## Example
A library without an FP8 dtype saved what it had read: `q_proj.weight` U8 [6144, 3072] beside `weight_scale_inv` [48, 24].

## How to mend
Change the dtype in the header to F8_E4M3: the bytes are right.

## References
ml-explore/mlx-lm#1192.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, stored
from weighbridge.check.scale_grids import bytes_in_u8

RULE = Rule("WB606", "fp8-in-u8", "error")


def find(case: Case) -> Iterator[Finding]:
    if not any(dtype in ("U8", "I8") for dtype, _, _ in stored(case)):
        return
    found = [m for m in case.modules.all if bytes_in_u8(case, m)]
    if found:
        first = found[0]
        grid = list(first.scale.shape) if first.scale is not None else []
        yield RULE.finding("FP8 codes are stored as U8", at(m.weight.name for m in found),
                           evidence=f"{first.weight.dtype} {list(first.weight.shape)} with a scale grid {grid}: one code per byte, claimed {case.claims.method}",
                           consequence="no error: the numbers 0 to 255 are cast, weights about 20,000 times too large",
                           fix=Fix("change the dtype in the header to F8_E4M3: the bytes are right", "F8_E4M3"))
