"""WB406 scale-beside-float: a weight that is not quantized has a scale beside it.

## What it does
Finds BF16, F16 and F32 matrices with a scale of a quantized weight beside them.

## Why it matters
Either the weight was decoded and the scale was left, so that a reader which finds it multiplies twice; or the codes were cast to BF16 without
the scale, so that the weights are thousands of times too large. The file does not say which.

## Example
`q_proj.weight` BF16 [6144, 3072] beside `q_proj.weight_scale_inv` F32 [48, 24].

## How to mend
Decode the published checkpoint with `weighbridge convert SRC DST --to hf-bf16`, which leaves no scale behind.

## References
Lightricks/LTX-2#172 (a cast to BF16 without the scale); deepseek-ai/DeepSeek-V3.2-Exp#59.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, odd

RULE = Rule("WB406", "scale-beside-float", "error")
CONVERT = "weighbridge convert SRC DST --to hf-bf16"


def find(case: Case) -> Iterator[Finding]:
    both = [(name, text) for name, text in odd(case, "scale-beside-float") if len(case.checkpoint.tensors[name].shape) > 1]
    if both:
        # `.scale` alone is also the name of parameters that are no scales of weights.
        sure = any(f"{name.removesuffix('.weight')}.weight_scale" in case.checkpoint.tensors or f"{name}_scale_inv" in case.checkpoint.tensors for name, _ in both)
        yield RULE.finding("Weights that are not quantized have scales beside them", at(name for name, _ in both), evidence=both[0][1],
                           consequence="KeyError in readers that build the layer unquantized; in others the weights are multiplied twice, or lack their scale",
                           fix=Fix(f"decode the published checkpoint: {CONVERT}", CONVERT), severity="error" if sure else "warning")
