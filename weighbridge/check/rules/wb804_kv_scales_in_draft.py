"""WB804 kv-scales-in-draft: draft layers hold key/value scales, and older loaders do not map them.

## What it does
Finds `k_scale` and `v_scale` in layers beyond `num_hidden_layers`, or below `mtp`.

## Why it matters
The loader of the draft model had no remapping for these names: it ends with a KeyError when speculative decoding is switched on.

## Example
`model.layers.61.self_attn.k_proj.k_scale` in DeepSeek-V3, which has layers 0 to 60.

## How to mend
Use a version with the repair, or start without speculative decoding.

## References
vllm-project/vllm#27227.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from weighbridge.check import kv_cache
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB804", "kv-scales-in-draft", "warning", ("vllm",), {"vllm": "vLLM before #27227"})
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")


def find(case: Case, target: Target) -> Iterator[Finding]:
    layers = case.sizes.layers
    names = [name for name in kv_cache.scale_names(case)
             if ".mtp." in f".{name}" or (layers and (found := _LAYER.search(name)) and int(found[1]) >= layers)]
    if names:
        yield RULE.finding("draft layers hold key/value scales", Where(tensor=folded(names), count=len(names)),
                           evidence=f"num_hidden_layers {layers}; {names[0]}",
                           consequence="KeyError in the loader of the draft model, in versions before the repair",
                           fix="use a version with vllm-project/vllm#27227, or start without speculative decoding", runtime=target.runtime)
