"""WB415 expert-scale-renamed: SGLang renames the `.scale` of single FP4 experts, and then finds none.

## What it does
Finds experts that are stored one by one as FP4 pairs with a scale called `.scale`, for SGLang and families without a class of their own names.

## Why it matters
The name map rewrites a trailing `.scale`, so the scales of all experts stay at zero. Attention still works: the text is fluent and has nothing to do
with the prompt.

## Example
`mlp.experts.7.w1.scale` beside `mlp.experts.7.w1.weight`.

## How to mend
Rename the tensors to `weight_scale`, as compressed-tensors has them, or use a version with the fix.

## References
sgl-project/sglang#33541.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, stored
from weighbridge.check.scale_names import fp4_expert
from weighbridge.check.settings import Target

RULE = Rule("WB415", "expert-scale-renamed", "error", ("sglang",), {"sglang": "sglang#33541"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    if case.checkpoint.model_type == "deepseek_v4" or not any(suffix == ".scale" for _, suffix, _ in stored(case)):
        return
    found = [m for m in case.modules.all if fp4_expert(m)]
    if found:
        yield RULE.finding("The scales of single FP4 experts are lost by a renaming", at(m.path + ".scale" for m in found),
                           evidence=f"{len(found):,} experts' scales are called .scale, which the name map rewrites",
                           consequence="no error: all scales of the experts stay at 0; fluent text that ignores the prompt",
                           fix=Fix("rename .scale to .weight_scale", ".weight_scale"), runtime=target.runtime)
