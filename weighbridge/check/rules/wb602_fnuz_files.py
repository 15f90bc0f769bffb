"""WB602 fnuz-files: the weights are stored in AMD's FP8 formats without a negative zero.

## What it does
Finds F8_E4M3FNUZ and F8_E5M2FNUZ weights, and says what each reader and device makes of them.

## Why it matters
FNUZ has another bias: byte 0x38 is 0.5, not 1.0, and 0x80 is NaN. Only gfx94x (MI300) computes with it. Elsewhere the weights are cast, if they are
read at all.

## Example
A checkpoint that was saved after a load on MI300X.

## How to mend
Store E4M3: the same bytes with half the scales, 0x80 as 0.

## References
ml_dtypes `float8_e4m3fnuz`; vLLM `normalize_e4m3fn_to_e4m3fnuz`; hipBLASLt data type support (fnuz on gfx942 only).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.devices import is_fnuz
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, stored
from weighbridge.check.settings import Target

RULE = Rule("WB602", "fnuz-files", "error", ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm", "llama.cpp"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "sglang main", "neuron": "NxD 2.29",
             "tensorrt-llm": "TensorRT-LLM main", "llama.cpp": "llama.cpp master"})
UNREAD = ("neuron", "tensorrt-llm", "llama.cpp")


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not any(dtype.endswith("FNUZ") for dtype, _, _ in stored(case)):
        return
    found = [m for m in case.modules.all if m.weight.dtype.endswith("FNUZ")]
    if not found:
        return
    there = is_fnuz(case.settings.device)
    severity = "error" if target.runtime in UNREAD else "warning"
    text = "the bytes are taken for E4M3, twice as large" if target.runtime == "neuron" else "an unknown dtype" if severity == "error" else \
        "the values are taken for E4M3 and converted a second time: scales twice as large" if there else "a cast to E4M3 at load: the smallest values are lost"
    yield RULE.finding(f"Weights are stored as {found[0].weight.dtype}", at(m.weight.name for m in found),
                       evidence=f"{len(found):,} weights; byte 0x38 is 0.5 there and 1.0 in E4M3", consequence=text,
                       fix=Fix("store F8_E4M3: the same bytes with half the scales, 0x80 as 0", "F8_E4M3"), severity=severity, runtime=target.runtime)
