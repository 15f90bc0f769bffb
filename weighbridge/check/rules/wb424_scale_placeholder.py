"""WB424 scale-placeholder: scales are exactly 1.0 everywhere.

## What it does
Finds matrices, activations and KV caches all of whose scales are exactly 1.

## Why it matters
1.0 is what a tool writes that has not measured. Weights cast to FP8 without a scale use a few of the 16 octaves, and small weights become zero;
activations and KV cache above 448 saturate.

## Example
`k_scale` and `v_scale` are 1.0 in all layers.

## How to mend
Calibrate, or quantize with a measured scale. Where the numbers were never meant, remove the tensors: readers then take 1.0 themselves.

## References
sgl-project/sgl-cookbook#237 (KV scales).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_values import ones
from weighbridge.check.scales import scales_of

RULE = Rule("WB424", "scale-placeholder", "warning")
TEXTS = {"weight": ("Scales of weights are exactly 1.0", "no error: weights were cast without a scale, and small ones became zero", "quantize again with measured scales"),
         "input": ("Scales of activations are exactly 1.0", "no error: activations above the largest code saturate", "calibrate, or claim dynamic activations"),
         "kv": ("Scales of the KV cache are exactly 1.0", "no error: the cache is not calibrated; large keys and values saturate", "calibrate the KV cache, or keep it in BF16")}


def find(case: Case) -> Iterator[Finding]:
    for part, (title, consequence, fix) in TEXTS.items() if scales_of(case).read else ():
        names, total = ones(scales_of(case), part)
        if names:
            yield RULE.finding(title, at(names), evidence=f"{len(names):,} of {total:,} tensors read hold nothing but 1.0", consequence=consequence, fix=fix)
