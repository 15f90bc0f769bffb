"""WB507 weight-shape-sharded: transformers' tensor parallelism cuts the `weight_shape` of packed weights.

## What it does
Finds packed weights with a `weight_shape` tensor (compressed-tensors INT4), for transformers with TP above 1.

## Why it matters
`weight_shape` holds two numbers, the true size of the whole weight. The tensor-parallel plan cuts it as if it were a weight, so each rank
unpacks to a wrong shape.

## Example
Kimi-K2.5 loaded with `tp_plan="auto"` on 8 ranks.

## How to mend
Load with `device_map` instead of a tensor-parallel plan, or use vLLM or SGLang for TP.

## References
huggingface/transformers#45630.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB507", "weight-shape-sharded", "error", ("transformers",), {"transformers": "transformers 5.23.0"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    if case.settings.tp <= 1:
        return
    names = [name for key_name, key in case.survey.keys.items() if key_name.endswith(".weight_shape") for name in key.names]
    if names:
        shape = case.checkpoint.tensors[names[0]].shape
        yield RULE.finding(f"weight_shape is cut {case.settings.tp} ways as if it were a weight", Where(tensor=folded(names), count=len(names)),
                           evidence=f"weight_shape {list(shape)} holds the size of the whole weight; {case.settings.where('tp')} {case.settings.tp}",
                           consequence="wrong shape on every rank", fix="leave tensor parallelism away: load with device_map", runtime=target.runtime)
