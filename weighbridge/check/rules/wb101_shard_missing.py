"""WB101 shard-missing: the index names a file that is not here.

## What it does
Looks for every file that `model.safetensors.index.json` names.

## Why it matters
A download that broke off leaves a checkpoint that looks complete. Some servers start with what is there and leave the missing
weights at whatever was in memory: the health check is green, the text is garbage.

## Example
The index puts 760 tensors into `model-00007-of-00125.safetensors`, and the folder has no such file.

## How to mend
Download the named file again. If the index is an old one beside a newly sharded checkpoint, take the index that belongs to the files.

## References
sgl-project/sglang#32279; vllm-project/vllm#34930; Neph0s/CoSER discussion 3 (15 files, an index for 30).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import alike
from weighbridge.check.rule import Rule

RULE = Rule("WB101", "shard-missing", "error")


def find(case: Case) -> Iterator[Finding]:
    for problem, count in alike(p for p in case.checkpoint.fatal if p.code == "shard-missing"):
        yield RULE.finding("The index names a file that is not here", Where(file=problem.where, count=count), evidence=problem.message,
                           consequence="the load fails, or the weights in it stay at random values", fix=problem.hint)
