"""WB504 group-cut: tensor parallelism cuts packed 4-bit weights through a group or through a packed word.

## What it does
Divides the inputs of row-parallel layers (o, down) by the ranks and compares the share with the group that has one scale (32, 64 or 128
inputs; 16 in NVFP4); for AWQ and GPTQ also the outputs of the others with the eight codes of a stored word. Experts count with their own degrees.
The stacked MXFP4 experts of gpt-oss are dealt out by whole groups and padded: a note.

## Why it matters
The readers refuse the shape, or a rank multiplies by its neighbour's scale.

## Example
An AWQ model with 13824 inputs of down_proj at TP 8: 13824/8 = 1728 is no multiple of 128.

## How to mend
Take a size that the finding lists, or a checkpoint with smaller groups.

## References
vllm-project/vllm#2699, #5675 and #11671 (the texts, awq.py and gptq.py `create_weights`); moonshotai's Kimi-K2.5 and gpt-oss for the layouts.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN, block_findings
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB504", "group-cut", "error", cuts.READERS, READ_IN)
WHAT = {"attention": "packed attention", "mlp": "packed dense layers", "shared_experts": "packed shared experts",
        "experts": "the packed experts' width"}


def find(case: Case, target: Target) -> Iterator[Finding]:
    for group, what in WHAT.items():
        yield from block_findings(RULE, case, target, (group,), what, packed=True)
    ways = cuts.degrees(case.settings, target).moe_tp
    for part in cuts.parts(case):
        if part.suffix == "_blocks" and part.role == "experts.down" and part.block and ways > 1 and (part.cols // part.block[1]) % ways:
            groups = part.cols // part.block[1]
            yield RULE.finding(f"{groups} groups of {part.block[1]} are dealt out unevenly to {ways} ranks",
                               Where(module=part.name, count=part.count),
                               evidence=f"{part.cols} inputs, {groups}/{ways} = {groups / ways:.2f} groups for each rank",
                               consequence=f"no error: each rank holds {-(-groups // ways)} groups, the last ones padded", severity="note",
                               fix="nothing must be done; an even share wastes no memory", runtime=target.runtime)
