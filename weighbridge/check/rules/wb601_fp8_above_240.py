"""WB601 fp8-above-240: FP8 codes that Neuron reads as infinity or NaN.

## What it does
Counts codes of 0x78 and above (magnitudes 256 to 448, and NaN) in a sample of the FP8 weights, for NxD Inference.

## Why it matters
E4M3 on Trainium ends at 240, with the same bytes below. Block-quantized weights reach 448 in nearly every block, so raw bytes hold an
infinity or a NaN in nearly every block. No host check exists.

## Example
2.3 % of the bytes of Gaussian blocks.

## How to mend
`weighbridge convert SRC DST --to neuron` halves codes and doubles scales. Clamping to 240 costs 8 % relative error.

## References
NxD quantization/README_rescaling_fp8_for_neuron.md; quantization_config.py 24-26, 52-53 (NxD 2.29); the AWS page EVRF051.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_codes import codes, told
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB601", "fp8-above-240", "error", ("neuron",), {"neuron": "NxD 2.29"})
CONVERT = "weighbridge convert SRC DST --to neuron"


def find(case: Case, target: Target) -> Iterator[Finding]:
    if case.settings.neuron.get("quantized") is False:
        return
    seen = codes(case)
    high = [one for one in seen if one.above]
    if high:
        total = sum(one.above for one in high)
        yield RULE.finding("FP8 codes lie above 240, where E4M3 ends on Neuron", at(one.module.weight.name for one in high),
                           evidence=f"{total:,} codes of 0x78 and above in {len(high):,} weights; {told(seen, case)}",
                           consequence="no error: infinities and NaN on the device", fix=Fix(f"halve the codes and double the scales: {CONVERT}", CONVERT),
                           runtime=target.runtime)
