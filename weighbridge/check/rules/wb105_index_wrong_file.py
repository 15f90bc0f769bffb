"""WB105 index-wrong-file: a tensor lies in another file than the index says.

## What it does
Compares, for each tensor, the file that the index names with the file whose header lists it.

## Why it matters
Readers open the file that the index names and ask it for the tensor: the load ends with a KeyError. Readers that walk the files do not notice.

## Example
The index says `model-00002-of-00002.safetensors`, the tensor lies in `model-00001-of-00002.safetensors`.

## How to mend
Write a new index from the headers: `--fix` does.

## References
huggingface/huggingface_hub#4728; Neph0s/CoSER discussion 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.index import INDEX, index_fix
from weighbridge.check.rule import Rule

RULE = Rule("WB105", "index-wrong-file", "error")


def find(case: Case) -> Iterator[Finding]:
    wrong = [p for p in case.checkpoint.problems if p.code == "index-wrong-file"]
    if wrong:
        names = [p.where for p in wrong]
        yield RULE.finding("Tensors lie in other files than the index says", Where(file=INDEX, tensor=folded(names), count=len(names)),
                           evidence=f"{names[0]}: {wrong[0].message}", consequence="SafetensorError: File does not contain tensor", fix=index_fix(case))
