"""WB430 scale-rounding: the codes show that the scales were rounded after, or chosen without, the range of the format.

## What it does
Takes the largest code of every block in a sample. Powers of two that were chosen before quantizing leave it anywhere between 224 and 448. If it is
448 in every block, the scales were rounded afterwards or values were cut off. If it is never above 32, the top of the range is unused.

## Why it matters
A scale that is rounded after quantizing is up to 2 times off. A scale of 2^floor(log2 amax) leaves the upper eight octaves empty: small weights vanish.

## Example
Every block ends at 448, and every scale is a power of two.

## How to mend
Quantize again: scale = 2^ceil(log2(amax / 448)) first, then the codes.

## References
huggingface/transformers#46763; vllm-project/vllm#53668.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_codes import Codes, codes, told
from weighbridge.check.scale_forms import at
from weighbridge.check.scales import scales_of

RULE = Rule("WB430", "scale-rounding", "error")
LEAST = 16  # blocks; fewer prove nothing
TOP, LOW = 0x7E, 0x60  # 448, and 32


def find(case: Case) -> Iterator[Finding]:
    scales = scales_of(case)
    if not scales.read:
        return
    after: list[Codes] = []
    low: list[Codes] = []
    for seen in codes(case):
        place = scales.places.get(seen.module.path + seen.module.scale_suffix, -1)
        if place < 0 or not len(seen.peaks) or (scales.least[place] == 1 and scales.largest[place] == 1):
            continue
        if scales.powers[place] and int(seen.peaks.min()) == TOP:
            after.append(seen)
        elif int(seen.peaks.max()) <= LOW:
            low.append(seen)
    if sum(len(seen.peaks) for seen in after) >= LEAST:
        yield _finding(case, after, "Scales are powers of two, and every block ends at 448", "every block ends at 448; scales that were powers of two before "
                       "quantizing leave 224 to 448", "no error: weights up to 2 times off, or cut off at the top", "error")
    if sum(len(seen.peaks) for seen in low) >= LEAST:
        top = max(int(seen.peaks.max()) for seen in low)
        yield _finding(case, low, "The upper part of the range of E4M3 is never used", f"the largest code is 0x{top:02x} ({_value(top):g}), where blocks end at 224 to 448",
                       "no error: small weights become zero", "warning")


def _finding(case: Case, found: list[Codes], title: str, evidence: str, consequence: str, severity: str) -> Finding:
    blocks = sum(len(seen.peaks) for seen in found)
    return RULE.finding(title, at(seen.module.weight.name for seen in found), evidence=f"{blocks:,} blocks: {evidence}; {told(codes(case), case)}",
                        consequence=consequence, fix="quantize again: scale = 2^ceil(log2(amax / 448)) first, then the codes", severity=severity)


def _value(code: int) -> float:
    return (8 + (code & 7)) / 8 * 2.0 ** ((code >> 3) - 7) if code >> 3 else (code & 7) * 2.0**-9
