"""WB605 nan-codes: FP8 weights hold NaN.

## What it does
Counts the codes 0x7F and 0xFF, the NaN of E4M3, in a sample of the FP8 weights.

## Why it matters
One NaN in a weight makes every token NaN that meets it. Where only one expert has it, it shows as a rare failure, or as a calibration that does not end.

## Example
Experts of the last layer: perplexity nan on some texts only.

## How to mend
Download the file again and compare its hash. If the publisher's bytes have it, quantize the weight again from the source, or write 0.

## References
The OCP 8-bit Floating Point Specification 1.0 (E4M3: S.1111.111 is NaN); the card of NeuroSenko/MiniMax-M2.7-exl3.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_codes import codes, told
from weighbridge.check.scale_forms import at

RULE = Rule("WB605", "nan-codes", "error")


def find(case: Case) -> Iterator[Finding]:
    seen = codes(case)
    bad = [one for one in seen if one.nan]
    if bad:
        yield RULE.finding("FP8 weights hold NaN", at(one.module.weight.name for one in bad),
                           evidence=f"{sum(one.nan for one in bad):,} codes 0x7f or 0xff in {len(bad):,} weights; {told(seen, case)}",
                           consequence="no error at load: NaN for every token that meets them",
                           fix="download the file again; if the publisher's bytes have it, quantize the weight again from the source")
