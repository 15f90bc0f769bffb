"""WB302 unquantized-not-listed: the reader builds modules quantized whose weights are plain, since no entry names them.

## What it does
Takes every module that the reader quantizes unless it is listed, and looks whether the files hold codes for it.

## Why it matters
The scale that the module needs is in no file. NxD Inference says so after the compilation, packed formats fail at the name of the weight, and
vLLM and SGLang do not look: the scale keeps whatever was in memory.

## Example
A checkpoint with o_proj in BF16 and `modules_to_not_convert: ["lm_head"]`.

## How to mend
Write the list that the finding prints: it is as short as this reader's way of matching allows.

## References
vllm-project/vllm#52501, #57108, #34930; vllm-project/compressed-tensors#733; vllm-project/vllm#48606 (routers); NxD
quantization/quantization_layers.py 443, NxDI modules/attention/gqa.py 653.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.skip_prefix import other_prefix
from weighbridge.check.views import view_of

RULE = Rule("WB302", "unquantized-not-listed", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    if not view.reader or not any(b.coded for b in view.built) or any(view.unread.values()):
        return  # without codes WB202 speaks, with a list under another key WB209
    split = skip_find.in_split(view)
    told = {path for paths in other_prefix(view, case.patience).values() for path in paths}
    found = [b for b in view.candidates if not b.coded and not b.skipped and b.fused not in split and b.path not in told]
    if found:
        routers = " (routers among them)" if any(b.role == "router" for b in found) else ""
        yield RULE.finding(f"{len(found):,} modules hold plain values and no entry of the skip list names them{routers}",
                           skip_find.place(view, found),
                           evidence=f"{found[0].units[0].first.weight.dtype} in the files; {view.where} has {len(view.entries):,} entries",
                           consequence=skip_find.plain_but_built(case, view, found), fix=skip_find.right_list(case, view), runtime=target.runtime)
