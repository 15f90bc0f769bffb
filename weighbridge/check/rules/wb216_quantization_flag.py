"""WB216 quantization-flag: `--quantization` names another method than the checkpoint has.

## What it does
Compares the flag with the claim and with the headers.

## Why it matters
A method that differs from the claim is refused. Without a claim the reader quantizes what is quantized already.

## Example
`--quantization awq` for a checkpoint that says fp8; `--quantization fp8` for FP8 weights whose claim was taken out.

## How to mend
Leave the flag away: the checkpoint says its own method.

## References
vLLM main config/model.py `_verify_quantization`, SGLang main configs/model_config.py (the text); vllm-project/compressed-tensors#536,
vllm-project/llm-compressor#1641.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.claim_keys import read_by
from weighbridge.formats.claim import method_family

RULE = Rule("WB216", "quantization-flag", "error", ("vllm", "sglang"), {"vllm": "vLLM main", "sglang": "SGLang main"})
OVERRIDES = frozenset({"gptq", "awq", "auto-round", "inc", "moe_wna16", "bitblas", "gptq_bitblas", "w8a8_fp8", "w8a8_int8"})
# Flags that name a part or a kernel of the claimed method.
INNER = {("modelopt", "petit_nvfp4"), ("compressed-tensors", "w8a8_fp8"), ("compressed-tensors", "w8a8_int8")}


def find(case: Case, target: Target) -> Iterator[Finding]:
    flag = case.settings.quantization.lower()
    if not flag or flag == "none":
        return
    claim, place = read_by(case.stated, target.runtime), Where(key=case.settings.where("quantization"))
    if claim is not None and claim.method:
        same = method_family(flag) == claim.family or {flag, claim.family} <= OVERRIDES or (claim.family in ("gptq", "awq") and flag in OVERRIDES)
        inner = (claim.family, flag) in INNER
        if not same and not inner:
            yield RULE.finding(f"{place.key} says {flag!r:.40}, the checkpoint is {claim.method!r:.40}", place,
                               evidence=f"{claim.where}: quant_method {claim.method!r:.40}",
                               consequence=f"ValueError: Quantization method specified in the model config ({claim.method[:40]}) does not match the "
                               f"quantization method specified in the `quantization` argument ({flag[:40]}).", fix="leave the flag away",
                               runtime=target.runtime)
    elif case.survey.quantized and claim is None:
        yield RULE.finding(f"{place.key} {flag!r:.40} quantizes weights that are quantized already", place,
                           evidence=f"{case.survey.quantized:,} weights hold codes",
                           consequence="RuntimeError: Promotion for Float8 Types is not supported, or codes are quantized as if they were values",
                           fix="put the quantization_config back, and leave the flag away", runtime=target.runtime)
