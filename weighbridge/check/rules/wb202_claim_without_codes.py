"""WB202 claim-without-codes: the configuration claims a quantization, and no weight is quantized.

## What it does
Looks for codes in the headers where a claim stands.

## Why it matters
The weights were decoded and the claim was left. Readers then look for names that only quantized files have, or cast values to FP8 without a scale.

## Example
gpt-oss in BF16, still with `quant_method: mxfp4`; a model saved by llm-compressor with `save_compressed=False`.

## How to mend
Take the claim out of the configuration.

## References
vllm-project/vllm#45830; vllm-project/llm-compressor#1321 (the texts).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Remove, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB202", "claim-without-codes", "error")
SAID = {
    "compressed-tensors": "ValueError: run_compressed is only supported for quantized_compressed models",
    "mxfp4": "KeyError: 'layers.0.mlp.experts.w2_weight'", "bitsandbytes": "KeyError: '….weight.absmax'", "gptq": "KeyError: '….weight'",
    "awq": "KeyError: '….weight'", "neuron": "RuntimeError: Cannot find ….scale in state_dict",
}


def find(case: Case) -> Iterator[Finding]:
    if not case.modules.all or case.survey.quantized or claim_find.codes_without_scale(case):
        return
    for claim in case.stated:
        if claim.place in ("metadata", "quantize"):
            continue
        edits = (Edit("neuron_config.json", ("quantized",), False),) if claim.place == "neuron" else (Edit(claim.file, claim.path, Remove),)
        yield RULE.finding(f"The configuration claims {claim.method or 'a quantization'}, and no weight is quantized",
                           Where(claim.file, key=".".join(claim.path)),
                           evidence=f"0 of {len(case.modules.all):,} weights hold codes" + (f"; quantization_status is {claim.status}"
                                                                                            if claim.status else ""),
                           consequence=SAID.get(claim.family, "no error: values are cast to FP8 without a scale, or scales stay uninitialised"),
                           fix=Fix(f"take {claim.where} out", None, edits))
