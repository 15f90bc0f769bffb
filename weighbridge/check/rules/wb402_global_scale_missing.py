"""WB402 global-scale-missing: NVFP4 weights lack their second scale.

## What it does
Finds FP4 codes with E4M3 scales per group beside which neither `weight_scale_2` (ModelOpt) nor `weight_global_scale` (compressed-tensors)
lies, and joined parts (gate and up, q and k and v) of which only some have it.

## Why it matters
The E4M3 scales count in units of the second one. Without it the weights are thousands of times off. Readers that join gate and up keep two
places; the one that nothing fills holds whatever was in memory.

## Example
`experts.3.w1.weight_scale_2` is in the files, `experts.3.w3.weight_scale_2` is not.

## How to mend
Export again, or take the tensor from the published checkpoint.

## References
vllm-project/vllm#54444; sgl-project/sglang#14102 (a second place left by `torch.empty`).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import NVFP4_SCALES, at, nvfp4, stored

RULE = Rule("WB402", "global-scale-missing", "error")
SECOND = (".weight_scale_2", ".weight_global_scale")


def find(case: Case) -> Iterator[Finding]:
    if not any(scale == NVFP4_SCALES for _, _, scale in stored(case)):
        return
    coded = [m for m in case.modules.all if nvfp4(m)]
    bare = [m for m in coded if not any(m.path + suffix in case.checkpoint.tensors for suffix in SECOND + ("_scale_2",))]
    if bare:
        name = SECOND[1] if bare[0].suffix == ".weight_packed" else SECOND[0]
        yield RULE.finding("NVFP4 weights lack their second scale", at(m.path + name for m in bare),
                           evidence=f"{len(bare):,} of {len(coded):,} NVFP4 weights have no {name[1:]}",
                           consequence="no error: the parameter stays as it was allocated, and the weights are thousands of times off",
                           fix=f"export again with {name[1:]}, or take it from the published checkpoint")
