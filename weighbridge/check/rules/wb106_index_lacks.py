"""WB106 index-lacks: tensors are in the files, and the index does not name them.

## What it does
Compares the headers of all files that the index names with the index.

## Why it matters
A reader that goes by the index never loads them. Where they are scales, the weights are computed without.

## Example
Scales were added to the shards by a second tool, and the index is still the first one's.

## How to mend
Write a new index from the headers: `--fix` does.

## References
huggingface/huggingface_hub#4728.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.index import INDEX, index_fix
from weighbridge.check.rule import Rule

RULE = Rule("WB106", "index-lacks", "error")


def find(case: Case) -> Iterator[Finding]:
    names = [p.where for p in case.checkpoint.problems if p.code == "index-lacks"]
    if names:
        yield RULE.finding("Tensors are in the files, and the index does not name them", Where(file=INDEX, tensor=folded(names), count=len(names)),
                           evidence=f"{len(names):,} of {len(case.checkpoint.tensors):,} tensors are not in the index",
                           consequence="no error: readers that go by the index never load them", fix=index_fix(case))
