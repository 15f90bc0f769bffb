"""WB423 scale-implausible: the scales give weights far larger than a layer can have.

## What it does
Multiplies the median scale of a matrix with the largest code, and compares the result with what the fan-in allows (a few times 1/sqrt(K)). Where the
reciprocal of the scale fits and the scale does not, it says so. Scales that leave nothing of the weights are told, too.

## Why it matters
`weight_scale_inv` is a multiplier, whatever its name says. A port that took it for a divisor stores 1 / weight_scale_inv, and its weights are about
1 / scale^2 times too large: a factor of 1e8 for a usual scale of 1e-4.

## Example
`.scale` with a median of 9,800: weights of up to 4.4 million, where 0.07 is usual. The reciprocal gives 0.046.

## How to mend
Store the multiplier: `scale = weight_scale_inv`. `weighbridge convert SRC DST --to neuron` does.

## References
DeepSeek-V3 README_WEIGHTS.md, "Dequantization Formula"; NxD quantization/dequantize.py 121; whn09/neuronx-distributed-inference
examples/minimax_m2_misc (the mistake, and its withdrawal).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form
from weighbridge.check.scale_values import Implausible, implausible
from weighbridge.check.scales import scales_of

RULE = Rule("WB423", "scale-implausible", "error")


def find(case: Case) -> Iterator[Finding]:
    if not scales_of(case).read:
        return
    found = implausible(case)
    for inverse in (True, False):
        group = [one for one in found if one.inverse is inverse and one.scale > 1]
        if group:
            yield _finding(case, group, inverse)
    small = [one for one in found if one.scale < 1]
    if small:
        first = small[0]
        yield RULE.finding("Scales give weights far smaller than a layer can have", at(name for one in small for name in one.names),
                           evidence=f"median scale {first.scale:.3g}: weights of at most {first.weight:.3g}, where the fan-in allows about {first.usual:.2g}",
                           consequence="no error: the layer gives zeros", fix="quantize these weights again from the source", severity="warning")


def _finding(case: Case, group: list[Implausible], inverse: bool) -> Finding:
    first = group[0]
    evidence = f"median scale {first.scale:.3g}: weights of up to {first.weight:.3g}, where the fan-in allows about {first.usual:.2g}"
    command = f"weighbridge convert SRC DST --to {'neuron' if form(case).family == 'neuron' else 'hf-fp8'}"
    fix: Fix | str = "quantize these weights again from the source"
    if inverse:
        evidence += f"; the reciprocal gives {first.reciprocal:.2g}"
        fix = Fix(f"store the multiplier (scale = weight_scale_inv, amax / largest code): {command} from the published checkpoint", command)
    return RULE.finding("Scales are the reciprocal of the multiplier" if inverse else "Scales give weights far larger than a layer can have",
                        at(name for one in group for name in one.names), evidence=evidence,
                        consequence=f"no error: weights about {first.weight / (first.reciprocal if inverse else first.usual):.1g} times too large", fix=fix)
