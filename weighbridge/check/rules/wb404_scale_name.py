"""WB404 scale-name: this reader calls the scale by another name.

## What it does
Compares the names of the scales with those that the reader's method for the claimed `quant_method` takes.

## Why it matters
`weight_scale_inv`, `weight_scale` and `scale` mean the same multiplier, and each reader takes one of them. A tool that renames them without
changing the claim (or the other way round) makes a checkpoint that nobody loads, or that loads without scales.

## Example
`quant_method: fp8` with blocks of 128 and scales called `weight_scale`: SGLang warns that the parameter was not found, and computes garbage.

## How to mend
Rename the tensors to the name that the finding gives, or change the claim to the method that uses the name: no number changes.

## References
sgl-project/sglang#30234, #20196; NxDI models/application_base.py (renames only `.weight_scale`); transformers 5.23.0 integrations/finegrained_fp8.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, block_compressed, block_fp8, claim_edits, form
from weighbridge.check.scale_names import ScaleNames, wrong_names
from weighbridge.check.settings import Target

RULE = Rule("WB404", "scale-name", "error", ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "sglang#30234", "neuron": "NxDI main", "tensorrt-llm": "TensorRT-LLM main"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    wrong, want = wrong_names(case, target.runtime)
    if not wrong or want is None:
        return
    if target.runtime == "neuron" and case.settings.neuron.get("quantized") is False:
        return
    first = wrong[0]
    tensor = first.path + first.scale_suffix
    yield RULE.finding(f"Scales are called {first.scale_suffix}, which {target.runtime} does not take here", at(m.path + m.scale_suffix for m in wrong),
                       evidence=f"{case.claims.source or 'the files'} says {case.claims.method or 'nothing'}, for which the name is {want.suffixes[0]}; "
                       f"{len(wrong):,} scales are called {first.scale_suffix}",
                       consequence=want.consequence.format(tensor=tensor.removeprefix("model."), module=first.path.removeprefix("model.")),
                       fix=_fix(case, first, want), runtime=target.runtime)


def _fix(case: Case, first: Module, want: ScaleNames) -> Fix:
    rename = f"rename {first.scale_suffix} to {want.suffixes[0]} in the files"
    family, block = form(case).family, first.kind.block
    if family == "fp8" and first.scale_suffix == ".weight_scale" and block and block == (case.claims.blocks or (None,))[0]:
        claim = block_compressed(case, block)
    elif family == "ct" and first.scale_suffix == ".weight_scale_inv" and block:
        claim = block_fp8(case, block)
    else:
        return Fix(f"{rename}: no number changes", want.suffixes[0])
    edits = claim_edits(case, claim)
    return Fix(f"{rename}, or give the files the claim that goes with their names: no number changes", claim if edits else want.suffixes[0], edits)
