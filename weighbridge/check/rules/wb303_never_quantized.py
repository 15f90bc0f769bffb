"""WB303 never-quantized: the files hold codes for a module that the reader always builds plain.

## What it does
Looks for codes in heads and routers, which most readers build for plain values whatever the config says.

## Why it matters
The scale has no place: `KeyError` in vLLM. Readers that drop surplus tensors take the codes for values.

## Example
`lm_head.weight` in FP8 with `lm_head.weight_scale`, for vLLM's compressed-tensors.

## How to mend
Decode that module in the files, and name it in the skip list.

## References
vllm-project/vllm#40999; sgl-project/sglang#21151; vllm-project/vllm#31757 (draft heads: WB310).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of

RULE = Rule("WB303", "never-quantized", "error", skip_find.READERS, skip_find.READ_IN)
WHAT = {"lm_head": "the head", "router": "routers", "embedding": "the embedding"}


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    found = [b for b in view.built if b.candidate is False and b.coded and not b.draft and b.role in WHAT] if view.reader else []
    if found:
        what = " and ".join(dict.fromkeys(WHAT[b.role] for b in found))
        yield RULE.finding(f"The files hold codes for {what}, which {target.runtime} always builds plain", skip_find.place(view, found),
                           evidence=f"{found[0].units[0].first.weight.dtype} with {found[0].units[0].first.scale_suffix or 'no scale'}",
                           consequence=skip_find.listed_but_coded(case, view, found),
                           fix="decode these modules in the files, and name them in the skip list",
                           runtime=target.runtime)
