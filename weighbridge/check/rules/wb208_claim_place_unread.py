"""WB208 claim-place-unread: the claim stands where this reader does not look.

## What it does
Compares the places that hold a claim with those that the reader reads.

## Why it matters
The reader sees an unquantized model and takes the codes for values.

## Example
A ModelOpt checkpoint whose claim is only in hf_quant_config.json, for transformers; `compression_config`, which transformers no longer reads.

## How to mend
Copy the claim to `quantization_config` in config.json.

## References
transformers 5.23.0 quantizers/auto.py `get_hf_quantizer`; vLLM main `_parse_quant_hf_config`; huggingface.js#2003.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.claim_keys import METHODS, PLACES
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.claim_keys import read_by

RULE = Rule("WB208", "claim-place-unread", "error", tuple(METHODS), {"transformers": "transformers 5.23.0", "vllm": "vLLM main",
                                                                     "sglang": "SGLang main",
                                                                       "tensorrt-llm": "TensorRT-LLM main", "llama.cpp": "llama.cpp master"})
SHOWN = {"config": "quantization_config", "text": "text_config.quantization_config", "compression": "compression_config",
         "hf_quant": "hf_quant_config.json"}


def find(case: Case, target: Target) -> Iterator[Finding]:
    claims = [c for c in case.stated if c.place in (*SHOWN, "quantize")]
    if not claims or read_by(case.stated, target.runtime) is not None or not case.survey.quantized:
        return
    claim = claims[0]
    method = claim.family if claim.method else ""
    known = method in METHODS[target.runtime]
    value = {**claim.raw, "quant_method": claim.method} if claim.place != "hf_quant" and known else None
    edits = (Edit("config.json", ("quantization_config",), value),) if value else ()
    yield RULE.finding(f"{target.runtime} does not look at {claim.where}", Where(claim.file, key=".".join(claim.path)),
                       evidence=f"it reads {', '.join(SHOWN[p] for p in PLACES[target.runtime])}; {case.survey.quantized:,} weights hold codes",
                       consequence="no error: the model is built unquantized, and codes are taken for values",
                       fix=Fix("write the claim as quantization_config in config.json" if known
                               else f"use a reader that reads {claim.file}, or convert", value, edits),
                       runtime=target.runtime)
