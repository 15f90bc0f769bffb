"""WB427 scale-not-power-of-two: this reader wants powers of two, and the scales are none.

## What it does
Looks whether the scales of block FP8 are powers of two where the claim says so (`scale_fmt: ue8m0`), and where the kernels of the device take
nothing else (DeepGEMM on Blackwell).

## Why it matters
Scales in F32 are rounded to powers of two there. If the weights are not quantized again with them, values are up to 1.41 times off; versions that
forget it give an accuracy of 0, or NaN.

## Example
Qwen3 block FP8 on B200: 12 points lost on GSM8K with forced E8M0.

## How to mend
Take the other kernels (vLLM: VLLM_USE_DEEP_GEMM_E8M0=0), or quantize again with powers of two. Where only the claim is wrong, remove `scale_fmt`.

## References
vllm-project/vllm#38083, #37804; sgl-project/sglang#13960, #28662; transformers 5.23.0 (reads `scale_fmt: ue8m0` as storage of one byte).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Remove
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form
from weighbridge.check.scales import scales_of
from weighbridge.check.settings import Target

RULE = Rule("WB427", "scale-not-power-of-two", "warning", ("transformers", "vllm", "sglang"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM#38083", "sglang": "sglang#13960, #28662"})
BLACKWELL = ("b100", "b200", "b300", "gb200", "gb300", "blackwell", "sm100", "sm_100")


def find(case: Case, target: Target) -> Iterator[Finding]:
    claimed = case.claims.scale_format.lower() == "ue8m0"
    blackwell = case.settings.device.lower().startswith(BLACKWELL)
    if not case.claims.blocks or not (claimed or (blackwell and target.runtime != "transformers")):
        return
    scales = scales_of(case)
    places = [place for place in scales.places_of("weight") if scales.sources[place].tensor.dtype in ("F32", "BF16") and scales.finite[place]]
    other = [scales.sources[place].name for place in places if not scales.powers[place] and scales.least[place] >= 0 and scales.largest[place] > 0]
    if not other:
        return
    where, evidence = at(other), f"{len(other):,} of {len(places):,} scale tensors read hold values that are no powers of two"
    if claimed:
        edit = Edit("config.json", ("quantization_config", "scale_fmt"), Remove)
        yield RULE.finding("The claim says ue8m0, and the scales are no powers of two", where, evidence=f"scale_fmt: ue8m0; {evidence}",
                           consequence="no error: the scales are rounded to powers of two, and the weights are up to 1.41 times off",
                           fix=Fix("remove scale_fmt, or quantize again with powers of two", None, (edit,) if case.claims.source == "config.json: quantization_config" else ()),
                           severity="error" if target.runtime == "transformers" else "", runtime=target.runtime)
    if blackwell and target.runtime != "transformers":
        yield RULE.finding(f"The kernels of {case.settings.device} want scales that are powers of two", where, evidence=evidence,
                           consequence=_consequence(case, target), runtime=target.runtime, fix=_fix(target))


def _consequence(case: Case, target: Target) -> str:
    if target.runtime == "vllm":
        return "no error: E8M0 is forced, 12 points were lost on GSM8K"
    if form(case).family == "ct":
        return "NaN or empty answers: the path of compressed-tensors keeps F32 scales"
    return "accuracy 0.00 for families other than DeepSeek, in versions that do not quantize again"


def _fix(target: Target) -> Fix:
    if target.runtime == "vllm":
        return Fix("take other kernels: VLLM_USE_DEEP_GEMM_E8M0=0", "VLLM_USE_DEEP_GEMM_E8M0=0")
    return Fix("take other kernels: SGLANG_ENABLE_JIT_DEEPGEMM=0, or quantize again with powers of two", "SGLANG_ENABLE_JIT_DEEPGEMM=0")
