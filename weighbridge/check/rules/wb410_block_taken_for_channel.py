"""WB410 block-taken-for-channel: a block grid of one column is taken for one scale per row.

## What it does
Finds block FP8 weights of compressed-tensors that are at most one block wide, so that their grid is [n, 1].

## Why it matters
compressed-tensors guessed the strategy from the shape of the scale when it decoded: [n, 1] was "channel". The load ends with a shape error, or,
where a weight is one row high, computes wrongly.

## Example
`kv_b_proj` [5120, 128] with a scale [40, 1].

## How to mend
Use compressed-tensors 0.20.0, which takes the strategy from the config.

## References
vllm-project/compressed-tensors#873, #843 (the text); compressed-tensors 0.20.0 quantization/lifecycle/forward.py `dequantize`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form
from weighbridge.check.settings import Target

RULE = Rule("WB410", "block-taken-for-channel", "warning", ("transformers",), {"transformers": "compressed-tensors before #873"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    if form(case).family != "ct" or form(case).weights.get("strategy") != "block":
        return
    taken = [m for m in case.modules.all if m.scale is not None and m.kind.block and len(m.scale.shape) == 2 and m.scale.shape[1] == 1
             and m.scale.shape[0] != m.weight.shape[0]]
    if taken:
        first = taken[0]
        rows = first.scale.shape[0] if first.scale is not None else 0
        yield RULE.finding("A block grid of one column is taken for one scale per row", at(m.path + m.scale_suffix for m in taken),
                           evidence=f"scale [{rows}, 1] beside a weight {list(first.weight.shape)}, strategy block {list(first.kind.block or ())}",
                           consequence=f"RuntimeError: The size of tensor a ({first.weight.shape[0]}) must match the size of tensor b ({rows}), "
                           "with compressed-tensors that guess the strategy", fix="use compressed-tensors 0.20.0, which does not guess", runtime=target.runtime)
