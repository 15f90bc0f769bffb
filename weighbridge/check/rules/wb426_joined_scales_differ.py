"""WB426 joined-scales-differ: parts that the reader joins to one weight have different second scales.

## What it does
Compares `weight_scale_2` (or `weight_global_scale`) and `input_scale` of q, k and v, and of gate and up, dense and per expert.

## Why it matters
The joined weight has room for one number. Some readers take the largest, some the first: the other part is then computed with a foreign scale, with
a warning at most.

## Example
gate 0.0021, up 0.0017: gate is inflated 1.25 times.

## How to mend
Export with one second scale for the joined parts: quantize with amax taken over all of them.

## References
NVIDIA/TensorRT-LLM#14199, #18772; sgl-project/sglang#27588, #14102; vLLM modelopt.py ("w1_weight_scale_2 must match w3_weight_scale_2").
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.scale_joined import differing
from weighbridge.check.settings import Target

RULE = Rule("WB426", "joined-scales-differ", "error", ("vllm", "sglang", "tensorrt-llm"),
            {"vllm": "vLLM main", "sglang": "sglang#27588", "tensorrt-llm": "TensorRT-LLM#14199"})
TEXTS = {"vllm": "w1_weight_scale_2 must match w3_weight_scale_2. Accuracy may be affected. (a warning; experts take the scale of gate, dense layers the largest)",
         "sglang": "no error: the second part uses the scale of the first", "tensorrt-llm": "a warning; the largest is taken for all parts"}


def find(case: Case, target: Target) -> Iterator[Finding]:
    for found in differing(case):
        weights = "input" not in found.leaf
        yield RULE.finding(f"Parts that {target.runtime} joins have different {found.leaf}", at(found.names),
                           evidence=f"{found.example}: {found.ratio:.4g} times apart",
                           consequence=TEXTS[target.runtime] if weights else "the largest is taken for all parts: some range is lost",
                           fix="export with one value for the joined parts (amax over all of them)", severity="error" if weights else "note",
                           runtime=target.runtime)
