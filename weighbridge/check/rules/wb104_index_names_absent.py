"""WB104 index-names-absent: the index names tensors that no file holds.

## What it does
Compares the names in `model.safetensors.index.json` with the headers of all files.

## Why it matters
The hub's own metadata call succeeds on such a checkpoint. A reader that trusts the index fails in the middle of the load; one that
walks the files never notices, and the weight stays at whatever was in memory.

## Example
The index puts `mtp.fc.weight` into a shard whose header does not list it.

## How to mend
Download the named file again if it is an older version; else write a new index from the headers (`--fix` writes it).

## References
huggingface/huggingface_hub#4728; vllm-project/vllm#34930.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.index import INDEX, index_fix
from weighbridge.check.rule import Rule

RULE = Rule("WB104", "index-names-absent", "error")


def find(case: Case) -> Iterator[Finding]:
    names = [p.where for p in case.checkpoint.problems if p.code == "index-names-absent"]
    if names:
        yield RULE.finding("The index names tensors that no file holds", Where(file=INDEX, tensor=folded(names), count=len(names)),
                           evidence=f"{len(names):,} names of the index are in no header", consequence="no error in readers that walk the files: "
                           "the weights stay at random values; KeyError in those that trust the index", fix=index_fix(case))
