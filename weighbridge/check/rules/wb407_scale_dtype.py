"""WB407 scale-dtype: this reader takes the bytes of the scales for other numbers.

## What it does
Looks at the dtype of scales beside FP8 weights: U8 there holds exponents (E8M0, 2^(b-127)), F8_E8M0 says so itself, and NxD Inference wants F32.

## Why it matters
A reader that copies U8 into a float parameter multiplies by 120 where 2^-7 is meant: 15,360 times too much, without an error (with other scales jundot/omlx#2159 met 450,000 times).

## Example
MiniMax-M3-MXFP8 stores U8 under the name `weight_scale_inv`, with groups of 32.

## How to mend
State the format in the claim (`weight_block_size: [1, 32]`), or take a reader that knows it; for others write the scales as F32: 2.0 ** (b - 127).

## References
The OCP Microscaling Formats specification 1.0 (E8M0); transformers 5.23.0 integrations/finegrained_fp8.py `_dequantize_one`; omlx#2159;
aws-neuron/aws-neuron-sdk#1366 (microscaling on Trn3 only); NxD quantization/quantization_layers.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, claim_edits, form, stored
from weighbridge.check.settings import Target

RULE = Rule("WB407", "scale-dtype", "error", ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm", "llama.cpp"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "sglang main", "neuron": "NxD 2.29",
             "tensorrt-llm": "TensorRT-LLM main", "llama.cpp": "llama.cpp master"})
ODD = ("U8", "F8_E8M0", "BF16", "F16", "F64")


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not any(weight == "F8_E4M3" and scale in ODD for weight, _, scale in stored(case)):
        return
    fp8 = [m for m in case.modules.all if m.scale is not None and m.weight.dtype == "F8_E4M3"]
    bytes_ = [m for m in fp8 if m.scale is not None and m.scale.dtype == "U8"]
    if bytes_ and not (target.runtime == "transformers" or (form(case).microscaling and target.runtime in ("vllm", "sglang", "tensorrt-llm"))):
        yield _exponents(case, target, bytes_, len(fp8))
    if target.runtime == "neuron":
        yield from _neuron(fp8)


def _exponents(case: Case, target: Target, found: list[Module], total: int) -> Finding:
    group = form(case).family == "fp8" and all(m.kind.block == (1, 32) for m in found)
    fix = Fix("write the scales as F32 numbers, 2.0 ** (b - 127)", "F32")
    if group and target.runtime in ("vllm", "sglang", "tensorrt-llm"):
        claim = {**form(case).raw, "weight_block_size": [1, 32]}
        edits = claim_edits(case, claim)
        fix = Fix("state the group in the claim: weight_block_size [1, 32]", [1, 32], edits)
    return RULE.finding("Scales are exponent bytes (E8M0), and this reader takes them for numbers", at(m.path + m.scale_suffix for m in found),
                        evidence=f"U8 scales beside {len(found):,} of {total:,} F8_E4M3 weights; the claim is {case.claims.method or 'absent'}, "
                        f"block {list(case.claims.blocks[0]) if case.claims.blocks else None}",
                        consequence="no error: a byte such as 120 is multiplied as 120.0, where 2^-7 is meant", fix=fix, runtime=target.runtime)


def _neuron(fp8: list[Module]) -> Iterator[Finding]:
    exponents = [m for m in fp8 if m.scale is not None and m.scale.dtype == "F8_E8M0"]
    other = [m for m in fp8 if m.scale is not None and m.scale_suffix == ".scale" and m.scale.dtype in ("BF16", "F16", "F64")]
    if exponents:
        yield RULE.finding("Scales are stored as F8_E8M0, which NxD Inference does not read", at(m.path + m.scale_suffix for m in exponents),
                           evidence=f"{len(exponents):,} scales F8_E8M0; .scale is F32 there", fix=Fix("write the scales as F32 numbers, 2.0 ** (b - 127)", "F32"),
                           consequence="the bytes are cast as they are, or the load ends; microscaling needs Trn3", runtime="neuron")
    if other:
        dtype = other[0].scale.dtype if other[0].scale is not None else ""
        yield RULE.finding(f"Scales are {dtype}; NxD Inference keeps them in F32", at(m.path + m.scale_suffix for m in other),
                           evidence=f"{len(other):,} scales {dtype}", fix=Fix("write the scales as F32", "F32"), severity="warning",
                           consequence="no error: they are cast, with a logged warning", runtime="neuron")
