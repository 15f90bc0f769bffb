"""WB422 scale-zero-negative: scales are zero over codes that are not, or negative.

## What it does
Looks at scales of zero and below. A zero scale of a weight is compared with its codes: a block of zeros may have it, and so may padding beyond the
weight. Negative scales of integer weights are usual in some tools and left out.

## Why it matters
A zero scale wipes out its block; a zero scale of activations divides by zero; a negative one turns the sign of every weight of its block.

## Example
An expert that no calibration sample reached: `input_scale` 0.

## How to mend
Quantize or calibrate the named tensors again.

## References
The formula `W = code * scale` (DeepSeek-V3 README_WEIGHTS.md); sgl-project/sglang#40243.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_values import coded_in_floats, vanishing
from weighbridge.check.scales import scales_of, select

RULE = Rule("WB422", "scale-zero-negative", "error")


def find(case: Case) -> Iterator[Finding]:
    scales = scales_of(case)
    if not scales.read or not (scales.zero.any() or scales.negative.any()):
        return
    for part, what in (("global", "Second scales of weights"), ("input", "Scales of activations"), ("kv", "Scales of the KV cache")):
        names = select(scales, scales.places_of(part), lambda place: scales.zero[place] or scales.negative[place])
        if names:
            yield RULE.finding(f"{what} are zero or negative", at(names), evidence=f"{len(names):,} of {len(scales.places_of(part)):,} tensors read",
                               consequence="a division by zero, NaN, or a layer that gives zeros", fix="calibrate and export again")
    if scales.zero.any():
        names, seen = vanishing(case)
        if names:
            yield RULE.finding("Scales are zero over codes that are not", at(names), evidence=f"{seen}; under {len(names):,} of them lie codes that are not zero",
                               consequence="no error: these blocks of weights are zero", fix="quantize these weights again from the source")
    turned = select(scales, scales.places_of("weight"), lambda place: scales.negative[place] and _float(case, place))
    if turned:
        yield RULE.finding("Scales are negative", at(turned), evidence=f"{len(turned):,} scale tensors of FP8 or FP4 weights hold values below 0",
                           consequence="no error: the sign of every weight of the block is turned", fix="quantize these weights again from the source")


def _float(case: Case, place: int) -> bool:
    return coded_in_floats(case, scales_of(case).sources[place].key)
