"""WB401 scale-missing: quantized codes have no scale.

## What it does
Finds weights stored as FP8 or packed codes beside which no scale lies, under no spelling.

## Why it matters
The codes alone say nothing of the size of the weights. Servers that load quantized checkpoints do not look whether every scale was loaded:
the parameter stays at what was in memory, or at 1. Converters that consume the scales and then refuse a weight leave such files, and so do
loaders that drop a name that they do not know.

## Example
`model.layers.61.self_attn.q_proj.weight` is F8_E4M3 and `q_proj.weight_scale_inv` is in no file.

## How to mend
Take the scales from the published checkpoint: download it again, or convert again with a tool that keeps them.

## References
kekzl/imp#1450; unslothai/unsloth#6978; vllm-project/vllm#57108 (the load check is off for quantized models).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form, odd
from weighbridge.check.scale_names import misspelt, wrapped

RULE = Rule("WB401", "scale-missing", "error")


def find(case: Case) -> Iterator[Finding]:
    spelt = misspelt(case)
    bare = [(name, message) for name, message in odd(case, "weight-without-scale") if name not in spelt and not wrapped(case, name)]
    if not bare:
        return
    names = [name for name, _ in bare]
    reader = "RuntimeError: Cannot find {}.scale in state_dict".format(names[0].removesuffix(".weight")) if form(case).family == "neuron" else \
        "no error in vLLM and SGLang, which do not compare what they loaded for quantized models: the scale stays at whatever was in memory"
    quantized = max(1, case.survey.quantized)
    yield RULE.finding("Quantized weights have no scale", at(names), evidence=f"{bare[0][1]}; {len(bare):,} of {quantized:,} quantized weights",
                       consequence=reader, fix="take the scales from the published checkpoint, or convert it again: the codes alone cannot be read")
