"""WB301 listed-but-quantized: the skip list names modules that are quantized in the files.

## What it does
Matches every entry of the list as the reader does, with the names that the reader gives the modules, and looks whether the files hold codes for
what is hit. Entries that are right for other modules and only reach too far are WB304's.

## Why it matters
The reader builds these modules for plain values. vLLM stops at the first scale that it has no place for; transformers, SGLang and NxD Inference
take the codes for values and drop the scales: the weights are hundreds or thousands of times too large, and nothing says so.

## Example
MiniMax-M2 on NxD Inference with `modules_to_not_convert: ["lm_head", "self_attn"]`, and attention in FP8. With block scales the hook of o_proj
ends in a bare `AssertionError`; with one scale for each row there is no error, and q, k, v are some 2,800 times too large.

## How to mend
Write the list that the finding prints. If the modules should be unquantized, decode them in the files instead.

## References
vllm-project/llm-compressor#959; sgl-project/sglang#3604; NxD quantization/quantize.py 122, NxDI modules/attention/gqa.py 110-134, 1088.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of

RULE = Rule("WB301", "listed-but-quantized", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    split = skip_find.in_split(view) if view.reader else set()
    entries, modules = [], {}
    for entry in view.entries if view.reader else ():
        hit = [b for b in skip_find.entry_hits(view, entry) if b.fused not in split]
        if hit and entry.strip() and skip_find.reaches_too_far(view, entry, hit) is None:
            entries.append(entry)
            modules |= {b.path: b for b in hit}
    if modules:
        found = list(modules.values())
        yield RULE.finding(f"The skip list names {len(found):,} modules that are quantized in the files", skip_find.place(view, found),
                           evidence=f"{folded(entries)} in {view.where} hits {sum(b.coded for b in found):,} stored weights that hold codes",
                           consequence=skip_find.listed_but_coded(case, view, found), fix=skip_find.right_list(case, view), runtime=target.runtime)
