"""WB505 experts-per-rank: the experts cannot be dealt out as the degrees say.

## What it does
Compares the number of experts with the expert-parallel degree, and for TensorRT-LLM the product of the two expert degrees with TP.
Expert parallelism that is asked for a model without experts is named too.

## Why it matters
The server stops before it loads a weight.

## Example
TensorRT-LLM with `--tp_size 8 --ep_size 3`; SGLang with `--ep-size 3` and 256 experts.

## How to mend
Take degrees that divide: the finding lists them.

## References
TensorRT-LLM mapping.py (the text), vLLM config/model.py `_verify_with_expert_parallelism` (the text), SGLang layers/moe (an assert), main.
vLLM deals out a remainder, so any number of ranks is right there.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB505", "experts-per-rank", "error", cuts.READERS, READ_IN)
NO_EXPERTS = "Number of experts in the model must be greater than 0 when expert parallelism is enabled."
PRODUCT = "moe_tp_size * moe_ep_size * moe_cluster_size must equal to"


def find(case: Case, target: Target) -> Iterator[Finding]:
    sizes, degrees, settings = case.sizes, cuts.degrees(case.settings, target), case.settings
    place = Where(key=settings.where("moe_ep" if settings.moe_ep else "ep" if settings.ep else "expert_parallel"))
    if not sizes.experts:
        if degrees.moe_ep > 1 and target.runtime == "vllm" and not any(p.group == "experts" for p in cuts.parts(case)):
            yield RULE.finding("expert parallelism is asked for a model without experts", place,
                               evidence=f"EP {degrees.moe_ep}, 0 experts in config.json",
                               consequence="ValueError: " + NO_EXPERTS, fix=f"leave {place.key} away", runtime=target.runtime)
        return
    fix = Fix(f"EP {cuts.listed(cuts.ep_sizes(case, target, degrees.tp))} at TP {degrees.tp}", {"ep": cuts.ep_sizes(case, target, degrees.tp)})
    if target.runtime in ("sglang", "tensorrt-llm") and degrees.tp % degrees.moe_ep or (
            target.runtime == "tensorrt-llm" and degrees.moe_tp * degrees.moe_ep != degrees.tp):
        trt = target.runtime == "tensorrt-llm"
        yield RULE.finding(f"expert degrees {degrees.moe_tp} x {degrees.moe_ep} do not make TP {degrees.tp}", place,
                           evidence=f"moe TP {degrees.moe_tp} x EP {degrees.moe_ep} = {degrees.moe_tp * degrees.moe_ep}, TP {degrees.tp}",
                           consequence=f"ValueError: {PRODUCT} …" if trt else "AssertionError", fix=fix, runtime=target.runtime)
    elif target.runtime in ("sglang", "tensorrt-llm") and sizes.experts % degrees.moe_ep:
        yield RULE.finding(f"{sizes.experts} experts are not divisible by EP {degrees.moe_ep}", place,
                           evidence=f"{sizes.experts} % {degrees.moe_ep} = {sizes.experts % degrees.moe_ep}", consequence="AssertionError", fix=fix,
                           runtime=target.runtime)
