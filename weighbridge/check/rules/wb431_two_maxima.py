"""WB431 two-maxima: some weights or activations were scaled for a largest code of 240, others for 448.

## What it does
Takes the largest code of every block in a sample, and the ratio of the activation scales of joined parts. 448 is the end of E4M3 as Hugging Face
and NVIDIA have it, 240 the end on Trainium and (with another bias) on AMD's gfx94x. 448/240 = 1.8667.

## Why it matters
A tool that picks the maximum for each path, and not for the device, leaves scales that differ by 1.867 between sibling tensors. On Neuron blocks
that end at exactly 240 come from a rescaling by 448/240, which changes 210 of 238 codes; halving changes none that matter.

## Example
Experts of a Neuron checkpoint end at 240 in every block: 2.7 % relative error over the published weights.

## How to mend
`weighbridge convert SRC DST --to neuron` from the published checkpoint: it halves the codes and doubles the scales.

## References
ROCm/TransformerEngine#485; modelscope/DiffSynth-Studio#1528; whn09's conversion scripts for MiMo-V2-Flash (factor 2) and MiniMax-M2 (448/240).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_codes import Codes, codes, told
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_joined import differing

RULE = Rule("WB431", "two-maxima", "warning")
LEAST, MOST_OTHER = 8, 0.1  # blocks of a weight that must be seen; part of them that may end elsewhere
CONVERT = "weighbridge convert SRC DST --to neuron"


def find(case: Case) -> Iterator[Finding]:
    for found in differing(case):
        if found.maxima:
            yield RULE.finding(f"{found.leaf} of joined parts differs by 448/240", at(found.maxima), evidence=f"{found.example}: ratio 1.867 = 448/240",
                               consequence="one part is scaled for another largest code: 1.867 times off", fix="calibrate all parts for one largest code", severity="error")
    ended = {peak: [seen for seen in codes(case) if _ends(seen, peak)] for peak in (0x77, 0x7E)}
    low, high = ended[0x77], ended[0x7E]
    if low and case.survey.neuron:
        blocks = [seen for seen in low if seen.module.kind.strategy != "channel"]
        if blocks:
            yield RULE.finding("Blocks end at exactly 240: quantized for 240, or rescaled by 448/240", at(seen.module.weight.name for seen in blocks),
                               evidence=f"{sum(len(s.peaks) for s in blocks):,} blocks; {told(codes(case), case)}",
                               consequence="no error: if the source was block FP8, 210 of 238 codes have changed, 2.7 % relative error",
                               fix=Fix(f"convert the published checkpoint with halved codes: {CONVERT}", CONVERT))
    elif low and high:
        yield RULE.finding("Some weights end at 240 and others at 448", at(seen.module.weight.name for seen in low),
                           evidence=f"{len(low):,} weights end at 240, {len(high):,} at 448; {told(codes(case), case)}",
                           consequence="no error if each scale belongs to its codes; a scale from the other path is 1.867 times off",
                           fix="quantize all weights for one largest code")


def _ends(seen: Codes, peak: int) -> bool:
    """Whether nearly all blocks end at that code, and none above it."""
    size = len(seen.peaks)
    return size >= LEAST and int(seen.peaks.max()) == peak and int((seen.peaks != peak).sum()) <= MOST_OTHER * size
