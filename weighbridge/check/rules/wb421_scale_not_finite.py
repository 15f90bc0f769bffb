"""WB421 scale-not-finite: scales are NaN or infinite.

## What it does
Counts NaN and infinity in every scale tensor that is read: of weights, second scales, activations and KV cache.

## Why it matters
One such value makes its block NaN, and with it every token that passes through. Some servers stop at a NaN with a bare assert and take an infinity.

## Example
`self_attn.k_scale` is inf after a calibration that met an overflow.

## How to mend
Quantize the named weights again from the source; calibrate the named activations again.

## References
sgl-project/sglang#40243 (KV scales).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scales import scales_of, select

RULE = Rule("WB421", "scale-not-finite", "error")
WHAT = {"weight": "Scales of weights", "global": "Second scales of weights", "input": "Scales of activations", "kv": "Scales of the KV cache"}


def find(case: Case) -> Iterator[Finding]:
    scales = scales_of(case)
    if not scales.read or not (scales.nan.any() or scales.infinite.any()):
        return
    for part, what in WHAT.items():
        places = scales.places_of(part)
        names = select(scales, places, lambda place: scales.nan[place] or scales.infinite[place])
        if names:
            nan, infinite = int(scales.nan[places].sum()), int(scales.infinite[places].sum())
            text = "+inf is taken, NaN ends in a bare assert (SGLang)" if part == "kv" else "no error at load: NaN logits, or one repeated token"
            yield RULE.finding(f"{what} are NaN or infinite", at(names), evidence=f"{nan:,} NaN and {infinite:,} infinite values in {len(names):,} of "
                               f"{len(places):,} tensors read", consequence=text,
                               fix="calibrate again" if part in ("kv", "input") else "quantize these weights again from the source")
