"""WB207 method-unknown: the reader does not know the claimed quantization method.

## What it does
Looks `quant_method` up in the reader's own table, and whether it is there at all.

## Why it matters
vLLM, SGLang and llama.cpp's converter stop. transformers only logs a warning, builds the model unquantized and takes codes for values.

## Example
`quant_method: modelopt` in transformers; a config_groups claim without any `quant_method` (Qwen3-32B-FP8-Static-PerTensor).

## How to mend
Use a reader that knows the method, or convert the checkpoint.

## References
transformers 5.23.0 quantizers/auto.py; vLLM config/model.py `_verify_quantization`; llama.cpp conversion/base.py `dequant_model` (the texts).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.claim_keys import METHODS, UNKNOWN
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.claim_keys import read_by
from weighbridge.formats.claim import method_family

RULE = Rule("WB207", "method-unknown", "error", tuple(METHODS), {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "SGLang main",
                                                                  "tensorrt-llm": "TensorRT-LLM main", "llama.cpp": "llama.cpp master"})
NO_METHOD = ("ValueError: The model's quantization config from the arguments has no `quant_method` attribute. Make sure that the model has been "
             "correctly quantized")


def find(case: Case, target: Target) -> Iterator[Finding]:
    claim = read_by(case.stated, target.runtime)
    if claim is None:
        return
    place = Where(claim.file, key=claim.key("quant_method"))
    if not claim.method_stated and claim.place != "hf_quant":
        if target.runtime == "transformers":
            yield RULE.finding("The quantization config has no quant_method", place, evidence=f"keys {', '.join(sorted(map(str, claim.raw))[:6])}",
                               consequence=NO_METHOD, fix="write the quant_method that belongs to these files", runtime=target.runtime)
        elif not claim.method:
            yield RULE.finding("The quantization config has no quant_method", place, evidence=f"keys {', '.join(sorted(map(str, claim.raw))[:6])}",
                               consequence="the claim is not read, or refused", fix="write the quant_method that belongs to these files",
                               severity="warning",
                               runtime=target.runtime)
        return
    known = METHODS[target.runtime]
    if claim.method and claim.method not in known and method_family(claim.method) not in known:
        yield RULE.finding(f"{target.runtime} does not know quant_method {claim.method!r:.60}", place,
                           evidence=f"known are {', '.join(known[:8])}, …",
                           consequence=UNKNOWN[target.runtime].format(method=claim.method[:60]),
                           severity="warning" if target.runtime == "tensorrt-llm" else "error",
                           fix=f"use another reader, or convert the checkpoint to a method that {target.runtime} knows", runtime=target.runtime)
